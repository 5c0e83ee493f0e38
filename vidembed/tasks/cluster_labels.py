"""The task of predicting each video's cluster: GCML's second model ("GCL").

A batch holds B videos, each with the number of its cluster. Their embeddings are scored against a
table of class vectors, split over the mesh's model axis, by a softmax over all classes or over a
sample of them. A video's loss does not depend on the other videos of the batch, and no negatives
are mined. The feed chooses the level of the hierarchy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp

from vidembed.distributed import mesh
from vidembed.losses.softmax import (
    Candidates,
    ClassLoss,
    FullSoftmax,
    SampledSoftmax,
    compare,
    cross_entropy,
)
from vidembed.models.cluster_classifier import KERNEL, ClusterClassifier, CosineClassifier
from vidembed.models.parameters import Parameters
from vidembed.tasks import collapse, video
from vidembed.tasks.spec import Spec
from vidembed.tasks.task import Axes
from vidembed.tasks.video import Arrays


@dataclass(frozen=True, kw_only=True)
class ClusterLabels(video.VideoTask):
    """Learn an embedding that predicts a video's cluster in the relation graph."""

    classifier: ClusterClassifier = CosineClassifier()
    """How a class is scored."""
    loss: ClassLoss = SampledSoftmax()
    """Softmax over a sample of the classes, or over all."""
    learns_from: ClassVar[str] = "videos"
    inherits: ClassVar[tuple[str, ...]] = ("parameters/towers", "state/inputs")
    """No class parameters: class numbers belong to one level of one hierarchy."""

    def diagnose(self, lines: Sequence[collapse.Line], *, finished: bool) -> dict[str, str]:
        """Warnings by name, from the journal lines of a finished or running run."""
        remedy = "Try a lower --optimiser.learning-rate, or a lower --feed.level of the clusters"
        return collapse.one_point(lines, finished=finished, remedy=remedy)

    def init(
        self, key: jax.Array, spec: Spec, statistics: Mapping[str, Arrays] | None
    ) -> tuple[Parameters, dict[str, Any]]:
        """Add the class parameters; the state also holds their number and how they are drawn.

        Raises ValueError for fewer than two classes.
        """
        if spec.classes < 2:
            raise ValueError(
                f"the feed labels videos with {spec.classes} classes; a softmax needs 2 or more. "
                "Choose a lower level of the hierarchy or a smaller minimum cluster size"
            )
        network_key, class_key = jax.random.split(key)
        parameters, state = super().init(network_key, spec, statistics)
        parameters |= self.classifier.initialise(class_key, spec.classes, self.model.size)
        classes: dict[str, Any] = {"count": jnp.asarray(spec.classes, jnp.int32)}
        if isinstance(self.loss, SampledSoftmax):
            classes["strata"] = jax.tree.map(jnp.asarray, self.loss.strata(spec.classes))
        return parameters, state | {"classes": classes}

    def layout(self, parameters: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[Axes, Axes]:
        """Add the axes of the classifier's parameters."""
        axes, of_state = super().layout(parameters, state)
        return axes | self.classifier.split_axes, of_state

    def loss_and_measures(
        self,
        parameters: Parameters,
        state: Arrays,
        constants: Arrays,
        batch: Arrays,
        key: jax.Array,
    ) -> tuple[jax.Array, tuple[Arrays, dict[str, jax.Array]]]:
        """Mean loss f32[] of a batch, and (state, measures).

        `constants` and features as in `video.batch_features`. `batch`: rows i32[B], labels i32[B].
        A label outside the classes makes the loss NaN; the run then stops and names the videos.

        Measures: `accuracy`, the share of videos whose own class scores higher than all other
        scored classes (easier with a sample than among all classes); `hits`, the share whose own
        class was among those drawn; `scale`, of the logits; `spread`, 1 − |mean embedding|².
        """
        chex.assert_rank([batch["rows"], batch["labels"]], 1)
        features, present = video.batch_features(constants, batch)
        drop_key, draw_key = jax.random.split(key)
        embedded = self.embed(parameters, state, features, present, drop_key)
        scale = self.classifier.scale_of(parameters)
        queries = embedded * jnp.broadcast_to(scale, embedded.shape)
        labels, classes = batch["labels"], state["classes"]
        loss, right, hit = self._score(queries, labels, parameters[KERNEL], classes, draw_key)
        valid = (labels >= 0) & (labels < classes["count"])
        mean = jnp.mean(jnp.where(valid, loss, jnp.nan))
        measures = {
            "loss": mean,
            "accuracy": jnp.mean(right),
            "hits": jnp.mean(hit),
            "scale": scale,
            "spread": 1 - jnp.sum(jnp.square(jnp.mean(embedded, axis=0))),
        }
        return mean, (state, measures)

    def _score(
        self,
        queries: jax.Array,
        labels: jax.Array,
        table: jax.Array,
        classes: Arrays,
        key: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(loss, right, hit) f32[B]. The batch is split over all devices, or over the data axis
        only, if devices score different classes."""
        whole, by_class = mesh.model_spec(None), mesh.model_spec(0)
        if isinstance(self.loss, SampledSoftmax):
            split = mesh.everywhere_spec(0)
            specs = split, split, by_class, whole, whole
            drawn = self.loss.draw(classes["strata"], key)
            run = mesh.on_devices(self._among_drawn, specs, split)
            return run(queries, labels, table, drawn, labels)
        split = mesh.batch_spec(0)
        run = mesh.on_devices(self._among_all, (split, split, by_class, whole), split)
        return run(queries, labels, table, classes["count"])

    def _among_drawn(
        self,
        queries: jax.Array,
        labels: jax.Array,
        table: jax.Array,
        drawn: Candidates,
        all_labels: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(loss, right, hit) f32[b] on one device with queries f32[b, D] and labels i32[b]."""
        assert isinstance(self.loss, SampledSoftmax)
        # One lookup for both: its rows are the same on every device, so gradients are summed over
        # these rows, not over the whole table.
        rows = mesh.take_class_rows(table, jnp.concatenate([all_labels, drawn.classes]))
        vectors = self.classifier.vectors(rows)
        first = mesh.device_number() * len(labels)
        own_vectors = jax.lax.dynamic_slice_in_dim(vectors[: len(all_labels)], first, len(labels))
        own_scores = jnp.sum(queries * own_vectors, axis=1)
        compared = compare(
            queries,
            labels,
            vectors[len(all_labels) :],
            drawn,
            block=self.loss.block,
            remove_hits=self.loss.remove_hits,
        )
        return _result(own_scores, compared.others, compared.best, compared.hit)

    def _among_all(
        self, queries: jax.Array, labels: jax.Array, table: jax.Array, count: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(loss, right, hit) f32[b] on one device with b = B/data queries and part of the table."""
        assert isinstance(self.loss, FullSoftmax)
        candidates = self.loss.candidates(mesh.class_numbers(table), count)
        vectors = self.classifier.vectors(table)
        part = compare(queries, labels, vectors, candidates, block=self.loss.block)
        compared = part.joined(mesh.largest_over_classes, mesh.over_classes)
        return _result(compared.own, compared.others, compared.best, compared.hit)


def _result(
    own_scores: jax.Array, others: jax.Array, best: jax.Array, hit: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return cross_entropy(own_scores, others), (own_scores > best).astype(jnp.float32), hit
