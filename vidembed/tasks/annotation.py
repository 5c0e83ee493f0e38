"""Annotate videos: the probability of each class, from features or embeddings (CDML, section 4.3).

The input is a vector per video, by default the modalities in blocks (Eq. 7); a classifier, by
default a mixture of logistic experts per class (Eq. 8), gives each class a probability. Classes are
split over the mesh's model axis.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import chex
import jax
import jax.numpy as jnp

from vidembed.models.blocks import Blocks
from vidembed.models.label_classifier import LabelClassifier
from vidembed.models.mixture_of_experts import MixtureOfExperts
from vidembed.models.parameters import Network, Parameters, apply, initialise
from vidembed.tasks import video
from vidembed.tasks.outputs import Output
from vidembed.tasks.spec import Spec
from vidembed.tasks.task import Axes
from vidembed.tasks.video import Arrays

Biases = Literal["log_odds", "zero"]
NEVER = 0.5
"""Videos that a class without a train video counts as having had, for its log-odds."""


@dataclass(frozen=True, kw_only=True)
class Annotation(video.VideoTask):
    """Learn the classes of a video."""

    model: Network = Blocks()
    """From features to the classifier's input."""
    classifier: LabelClassifier = MixtureOfExperts()
    """From the input to a probability per class."""
    biases: Biases = "log_odds"
    """Start from each class's share of the train videos, or from even odds (zero). From zero, the
    first passes only learn that most classes are rare."""
    attention: tuple[str, ...] = ()
    """Of frame-level records: modalities, such as visual, whose frames are averaged with learned
    weights, a softmax of one linear score per frame. They start equal, as those of the mean."""
    fixed_classes: int = 0
    """Learn only the classes from this number on; earlier classes and the network stay as in
    --init-from. A class that a longer --corpus.vocabulary adds is then learnt by itself."""
    learns_from: ClassVar[str] = "videos"

    def __post_init__(self) -> None:
        if self.fixed_classes < 0:
            raise ValueError(f"fixed_classes must be 0 or more, found {self.fixed_classes}")
        if self.biases not in ("log_odds", "zero"):
            raise ValueError(f"biases must be log_odds or zero, found {self.biases!r}")

    @property
    def outputs(self) -> Mapping[str, Output]:
        """`labels`: the probability of each class, f32[B, C]. `video`: the classifier's input."""
        video_output = super().outputs["video"]
        of_classes = (f"parameters/{name}" for name in self.classifier.split_axes)
        needs = (*video_output.needs, *of_classes, "state/classes")
        return {
            "labels": Output(apply=self._labels, read=self._read, needs=needs),
            "video": video_output,
        }

    def init(
        self, key: jax.Array, spec: Spec, statistics: Any
    ) -> tuple[Parameters, dict[str, Any]]:
        """Add the classifier's parameters, and set the projections to principal components.

        `statistics`: as `feeds.labelled_videos.LabelStatistics`; None gives the same shapes.
        The state also holds each class's `log_odds` f32[C] over the train videos, and, with a
        projection, the `kept` share of each modality's variance. Raises ValueError for data without
        classes.
        """
        if not spec.classes:
            raise ValueError("the feed gives no labels: choose a feed of videos with labels")
        if self.fixed_classes >= spec.classes:
            raise ValueError(
                f"fixed_classes is {self.fixed_classes:,}, but there are {spec.classes:,} classes, "
                "so nothing would learn: give a --corpus.vocabulary with more classes"
            )
        network_key, class_key = jax.random.split(key)
        known = None if statistics is None else statistics.inputs
        parameters, state = super().init(network_key, spec, known)
        if isinstance(self.model, Blocks):
            parameters, state = self._projected(parameters, state, known)
        log_odds = jnp.zeros(spec.classes)
        if statistics is not None:
            with_class = jnp.clip(statistics.class_videos, NEVER, statistics.videos - NEVER)
            log_odds = jnp.log(with_class) - jnp.log(statistics.videos - with_class)
        biases = log_odds if self.biases == "log_odds" else jnp.zeros_like(log_odds)
        size = self._input_size(spec.widths)
        parameters |= self.classifier.initialise(class_key, size=size, biases=biases)
        return parameters, state | {"classes": {"log_odds": log_odds}}

    def layout(self, parameters: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[Axes, Axes]:
        """Add the axes of the classifier's parameters."""
        axes, of_state = super().layout(parameters, state)
        return axes | dict(self.classifier.split_axes), of_state

    def masked(self, updates: Mapping[str, Any], state: Any) -> Mapping[str, Any]:
        """With fixed classes, zeros for their rows and for the network.

        Their probabilities then stay as they are, bit for bit, under a classifier whose classes are
        independent, unless parameters are averaged: an average rounds.
        """
        if not self.fixed_classes:
            return updates
        return {name: self._of_new_classes(name, update) for name, update in updates.items()}

    def grown_axis(self, name: str) -> int | None:
        """Parameters of classes, and their log-odds, may have more rows."""
        return 0 if name in (*self.classifier.split_axes, "state/classes/log_odds") else None

    def loss_and_measures(
        self,
        parameters: Parameters,
        state: Arrays,
        constants: Arrays,
        batch: Arrays,
        key: jax.Array,
    ) -> tuple[jax.Array, tuple[Arrays, dict[str, jax.Array]]]:
        """(mean loss f32[], (state, measures)) of a batch.

        The loss of a video is the negative log-likelihood summed over classes. `constants` and
        features as in `video.batch_features`. `batch`: rows i32[B], labels i32[B, L] padded with
        -1, counts f32[B], by which a video's loss is multiplied. Measures: `labels` per video, and
        `kept/visual`, the share of a modality's variance in its projection.
        """
        chex.assert_rank([batch["rows"], batch["labels"], batch["counts"]], [1, 2, 1])
        features, present = video.batch_features(constants, batch, self.attention)
        inputs = self.embed(parameters, state, features, present, key)
        count = state["classes"]["log_odds"].shape[0]
        weights = batch["counts"] / batch["counts"].shape[0]
        classes = self._of_classes(parameters)
        loss, _ = self.classifier.weighted_loss(classes, inputs, batch["labels"], count, weights)
        per_video = loss / jnp.mean(batch["counts"])  # the last part of a pass has empty slots
        measures = {"loss": per_video, "labels": jnp.mean(jnp.sum(batch["labels"] >= 0, axis=1))}
        measures |= {f"kept/{m}": share for m, share in state.get("kept", {}).items()}
        return loss, (state, measures)

    def _labels(self, parameters: Parameters, state: Arrays, arrays: Arrays) -> jax.Array:
        inputs = self._video(parameters, state, arrays)
        count = state["classes"]["log_odds"].shape[0]
        return self.classifier.scores(self._of_classes(parameters), inputs, count)[:, :count]

    def _of_new_classes(self, name: str, update: jax.Array) -> jax.Array:
        if name not in self.classifier.split_axes:
            return jnp.zeros_like(update)
        number = jax.lax.broadcasted_iota(jnp.int32, update.shape, 0)
        return jnp.where(number < self.fixed_classes, 0.0, update)

    def _of_classes(self, parameters: Parameters) -> Parameters:
        return {name: parameters[name] for name in self.classifier.split_axes}

    def _projected(
        self, parameters: Parameters, state: dict[str, Any], known: Mapping[str, Arrays] | None
    ) -> tuple[Parameters, dict[str, Any]]:
        """Inputs are centred, and scaled only if the blocks say so; projections are principal
        components."""
        assert isinstance(self.model, Blocks)
        inputs, kept = dict(state["inputs"]), {}
        for modality in self.model.modalities:
            if not self.model.standardise:
                scale = jnp.ones_like(inputs[modality]["scale"])
                inputs[modality] = {**inputs[modality], "scale": scale}
            name = f"blocks/{modality}"
            if name not in parameters:
                continue
            kept[modality] = jnp.ones(())
            if known is not None:
                columns = parameters[name].shape[1]
                kernel, variances = known[modality]["directions"], known[modality]["variances"]
                kernel = jnp.asarray(kernel[:, :columns])
                if self.model.whiten:
                    kernel /= jnp.sqrt(jnp.maximum(variances[:columns], 1e-12))
                parameters = {**parameters, name: kernel}
                kept[modality] = jnp.sum(variances[:columns]) / jnp.sum(variances)
        return parameters, {**state, "inputs": inputs, "kept": kept}

    def _input_size(self, widths: Mapping[str, int]) -> int:
        """D of the network for these widths, which may be less than its `size`."""

        def run() -> jax.Array:
            parameters = initialise(self.model, widths, jax.random.key(0))
            rows = {m: jnp.zeros((1, widths[m])) for m in self.model.modalities}
            return apply(self.model, parameters, rows)

        return int(jax.eval_shape(run).shape[1])
