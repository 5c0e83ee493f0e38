"""Videos as mixtures of Gaussians, learned from clips without labels (ProViCo, CVPR 2022).

A batch has N clips of each of B videos, as frames or as windows of their features. An encoder and
two heads make a Gaussian of each clip, a video is the mixture of its clips, and the loss compares
all videos of the batch. With a loss of pairs instead, such as InfoNCE, the means of two random
halves of a video's clips are a pair: the deterministic method beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import chex
import jax
import jax.numpy as jnp

from vidembed import TUNABLE
from vidembed.losses import uncertainty
from vidembed.losses.mixtures import Clips, moments
from vidembed.losses.of_clips import deterministic, stochastic
from vidembed.losses.ranking import PairLoss
from vidembed.losses.stochastic_contrast import StochasticContrast
from vidembed.losses.thresholds import Quantile
from vidembed.models.gaussian_heads import CLIPS, GaussianHeads
from vidembed.models.parameters import Parameters, apply, initialise
from vidembed.pairwise import normalise
from vidembed.tasks import collapse
from vidembed.tasks.clip_task import OF_ENCODER, STATISTICS, ClipTask, below
from vidembed.tasks.outputs import Output
from vidembed.tasks.spec import Spec
from vidembed.tasks.video import Arrays

HEADS, LOSS = "heads/", "loss/"
"""Prefixes of parameters."""
REMEDY = (
    "Try a lower --optimiser.learning-rate, more clips or videos in a batch, or a smaller share of "
    "mined pairs (--task.loss.threshold.share)"
)


@dataclass(frozen=True, kw_only=True)
class ProbabilisticVideos(ClipTask):
    """An embedding of videos and clips as distributions."""

    heads: GaussianHeads = GaussianHeads()
    """From the vector of a clip to its Gaussian."""
    loss: StochasticContrast | PairLoss = StochasticContrast()
    """ProViCo's loss, or a loss of two halves of a video's clips, which learns no variances."""
    at_collapse: Annotated[Literal["stop", "warn"], TUNABLE] = "stop"
    """If the variances have vanished, or drown the means, for 200 steps of a running training.
    stop: it ends with an error. warn: it goes on."""
    inherits: ClassVar[tuple[str, ...]] = ("parameters", "state/inputs", f"state/{STATISTICS}")

    @property
    def outputs(self) -> Mapping[str, Output]:
        """From a source of clips: `video` f32[B, D], the direction of a video's mean, of length 1;
        `video_deviation` f32[B, D], σ of its mixture; `clip` and `clip_deviation` f32[B, N, D], the
        means and deviations of its clips, 0 for missing ones."""
        needs = (*OF_ENCODER, "parameters/heads")
        functions = {
            "video": self._video,
            "video_deviation": self._video_deviation,
            "clip": self._clip,
            "clip_deviation": self._clip_deviation,
        }
        read = self.embedded.read
        return {n: Output(apply=f, read=read, needs=needs) for n, f in functions.items()}

    def init(
        self, key: jax.Array, spec: Spec, statistics: Mapping[str, Arrays] | None
    ) -> tuple[Parameters, dict[str, Any]]:
        """Parameters `encoder/`, `heads/` and `loss/`, and the state of `begin` with `batches`
        i32[], how many were seen."""
        self._refuse_single_clips(spec.clips)
        encoder_key, heads_key = jax.random.split(key)
        parameters, state, size = self.begin(encoder_key, spec, statistics)
        of_heads = initialise(self.heads, {CLIPS: size}, heads_key)
        parameters |= {HEADS + name: value for name, value in of_heads.items()}
        for name, value in self.loss.learned.items():
            parameters[LOSS + name] = jnp.float32(value)
        return parameters, state | {"batches": jnp.zeros((), jnp.int32)}

    def clips(
        self,
        parameters: Parameters,
        state: Arrays,
        arrays: Arrays,
        *,
        training: bool = False,
        key: jax.Array | None = None,
    ) -> tuple[Clips, dict[str, jax.Array]]:
        """The Gaussian of each clip, and the encoder's statistics; `arrays` and `key`, which only
        counts in training, as in `vectors`."""
        features, running = self.vectors(
            parameters, state, arrays, training=training, key=key if training else None
        )
        gaussians = apply(self.heads, below(HEADS, parameters), {CLIPS: features})
        return Clips(gaussians[0], gaussians[1], arrays["present"]), running

    def loss_and_measures(
        self,
        parameters: Parameters,
        state: Arrays,
        constants: Arrays,
        batch: Arrays,
        key: jax.Array,
    ) -> tuple[jax.Array, tuple[Arrays, dict[str, jax.Array]]]:
        """(loss f32[], (state, measures)) of a batch: rows i32[B], and clips and present as in
        `clips`.

        Measures: `loss`, those of the loss, its learned parameters, `spread` of the videos, and of
        `uncertainty.measures`.
        """
        del constants
        chex.assert_rank(batch["rows"], 1)
        # The key of the loss itself stays what it is for windows of features.
        augment_key = jax.random.fold_in(key, 1)
        clips, running = self.clips(parameters, state, batch, training=True, key=augment_key)
        learned = {name: parameters[LOSS + name] for name in self.loss.learned}
        if isinstance(self.loss, StochasticContrast):
            loss, measures = stochastic(
                self.loss,
                clips,
                batch["rows"],
                parameters=learned,
                batches=state["batches"],
                key=key,
            )
        else:
            loss, measures = deterministic(
                self.loss, clips, batch["rows"], parameters=learned, key=key
            )
        whole = moments(clips)
        valid = jnp.any(clips.present, axis=1)
        videos = jnp.where(valid[:, None], normalise(whole.mean), 0.0)
        centre = jnp.sum(videos, axis=0) / jnp.maximum(jnp.sum(valid, dtype=jnp.float32), 1)
        measures |= {"spread": 1 - jnp.sum(jnp.square(centre)), **learned}
        bounds = self.heads.lowest, self.heads.highest
        measures |= uncertainty.measures(clips, whole, bounds)
        after = {**state, STATISTICS: running, "batches": state["batches"] + 1}
        return loss, (after, {"loss": loss} | measures)

    def diagnose(self, lines: Sequence[collapse.Line], *, finished: bool) -> dict[str, str]:
        """Warnings by name, from the journal lines of a finished or continuing run."""
        warnings = collapse.one_point(lines, finished=finished, remedy=REMEDY)
        if not isinstance(self.loss, StochasticContrast):
            return warnings | collapse.single_clips(lines, finished=finished)
        warnings |= collapse.no_variance(lines, finished=finished)
        warnings |= collapse.drowned(lines, finished=finished)
        if self.loss.threshold != Quantile(share=0):
            warnings |= collapse.nothing_mined(lines, finished=finished)
        return warnings

    @property
    def stop_at(self) -> Mapping[str, str]:
        """See `Task`: variances that have collapsed or exploded."""
        if self.at_collapse == "warn":
            return {}
        return dict.fromkeys(("no variance", "drowned"), "go on with --task.at-collapse warn")

    def _refuse_single_clips(self, clips: int) -> None:
        whole = isinstance(self.loss, StochasticContrast) and self.loss.views == "whole"
        if clips == 1 and not whole:
            raise ValueError(
                "the loss compares two halves of a video's clips, and a batch has one clip of each "
                "video: set --feed.clips 2 or more"
            )

    def _video(self, parameters: Parameters, state: Arrays, arrays: Arrays) -> jax.Array:
        return normalise(moments(self.clips(parameters, state, arrays)[0]).mean)

    def _video_deviation(self, parameters: Parameters, state: Arrays, arrays: Arrays) -> jax.Array:
        return jnp.sqrt(moments(self.clips(parameters, state, arrays)[0]).variance)

    def _clip(self, parameters: Parameters, state: Arrays, arrays: Arrays) -> jax.Array:
        clips = self.clips(parameters, state, arrays)[0]
        return jnp.where(clips.present[..., None], clips.mean, 0.0)

    def _clip_deviation(self, parameters: Parameters, state: Arrays, arrays: Arrays) -> jax.Array:
        clips = self.clips(parameters, state, arrays)[0]
        return jnp.where(clips.present[..., None], jnp.exp(0.5 * clips.log_variance), 0.0)
