"""Videos as mixtures of Gaussians, learned from clips without labels (ProViCo, CVPR 2022).

A batch has N clips of each of B videos, as frames or as stored features. An encoder and two heads
make a Gaussian of each clip, a video is the mixture of its clips, and the loss compares all videos
of the batch. With a loss of pairs instead, such as InfoNCE, the means of two random halves of a
video's clips are a pair: the deterministic method beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from vidembed.losses import uncertainty
from vidembed.losses.mixtures import Clips, moments
from vidembed.losses.of_clips import deterministic, stochastic
from vidembed.losses.ranking import PairLoss
from vidembed.losses.stochastic_contrast import StochasticContrast
from vidembed.models import clip_encoder
from vidembed.models.clip_encoder import ClipEncoder, StoredFeatures
from vidembed.models.gaussian_heads import CLIPS, GaussianHeads
from vidembed.models.parameters import Parameters, apply, initialise
from vidembed.pairwise import normalise
from vidembed.records.bytecode import dequantise
from vidembed.tasks import collapse
from vidembed.tasks.outputs import Output
from vidembed.tasks.spec import Spec
from vidembed.tasks.task import Task
from vidembed.tasks.video import Arrays

ENCODER, HEADS, LOSS = "encoder/", "heads/", "loss/"
"""Prefixes of parameters."""
STATISTICS = "batch_statistics"
REMEDY = (
    "Try a lower --optimiser.learning-rate, more clips or videos in a batch, or a smaller share of "
    "mined pairs (--task.loss.threshold.share)"
)


@dataclass(frozen=True, kw_only=True)
class ProbabilisticVideos(Task):
    """An embedding of videos and clips as distributions."""

    encoder: ClipEncoder = StoredFeatures()
    """The network from a clip to a vector."""
    heads: GaussianHeads = GaussianHeads()
    """From the vector of a clip to its Gaussian."""
    loss: StochasticContrast | PairLoss = StochasticContrast()
    """ProViCo's loss, or a loss of two halves of a video's clips, which learns no variances."""
    learns_from: ClassVar[str] = "videos"
    inherits: ClassVar[tuple[str, ...]] = ("parameters", "state/inputs", f"state/{STATISTICS}")

    @property
    def reads(self) -> tuple[str, ...]:
        """The clips."""
        return (CLIPS,)

    @property
    def outputs(self) -> Mapping[str, Output]:
        """From a source of clips: `video` f32[B, D], the direction of a video's mean, of length 1;
        `video_deviation` f32[B, D], σ of its mixture; `clip` and `clip_deviation` f32[B, N, D], the
        means and deviations of its clips, 0 for missing ones."""
        needs = ("parameters/encoder", "parameters/heads", "state/inputs", f"state/{STATISTICS}")
        functions = {
            "video": self._video,
            "video_deviation": self._video_deviation,
            "clip": self._clip,
            "clip_deviation": self._clip_deviation,
        }
        return {n: Output(apply=f, read=read_clips, needs=needs) for n, f in functions.items()}

    def init(
        self, key: jax.Array, spec: Spec, statistics: Mapping[str, Arrays] | None
    ) -> tuple[Parameters, dict[str, Any]]:
        """Parameters `encoder/`, `heads/` and `loss/`, and the state.

        spec.widths["clips"]: C, the last axis of clips: features, or colours. state: `inputs`,
        {"clips": {"mean": f32[C], "scale": f32[C]}}, standardises along that axis, by
        statistics["clips"] ({"mean", "deviation"}) if they are given; `batch_statistics` of the
        encoder; `batches` i32[], how many were seen.
        """
        if CLIPS not in spec.widths:
            raise ValueError(
                f"this task learns from clips, and the feed gives {sorted(spec.widths)}: choose a "
                "feed of clips"
            )
        channels = spec.widths[CLIPS]
        encoder_key, heads_key = jax.random.split(key)
        of_encoder, running = clip_encoder.initialise(self.encoder, channels, encoder_key)
        widths = {CLIPS: self.encoder.width(channels)}
        parameters = {ENCODER + name: value for name, value in of_encoder.items()}
        of_heads = initialise(self.heads, widths, heads_key)
        parameters |= {HEADS + name: value for name, value in of_heads.items()}
        for name, value in self.loss.learned.items():
            parameters[LOSS + name] = jnp.float32(value)
        mean, scale = jnp.zeros(channels), jnp.ones(channels)
        if statistics is not None:
            deviation = jnp.asarray(statistics[CLIPS]["deviation"], jnp.float32)
            mean = jnp.asarray(statistics[CLIPS]["mean"], jnp.float32)
            varies = deviation > 1e-6
            scale = jnp.where(varies, 1 / jnp.where(varies, deviation, 1.0), 0.0)
        state = {"inputs": {CLIPS: {"mean": mean, "scale": scale}}, STATISTICS: running}
        return parameters, state | {"batches": jnp.zeros((), jnp.int32)}

    def clips(
        self, parameters: Parameters, state: Arrays, arrays: Arrays, *, training: bool = False
    ) -> tuple[Clips, dict[str, jax.Array]]:
        """The Gaussian of each clip, and the encoder's statistics, updated while training.

        arrays: clips u8|bf16|f32[B, N, ..., C], and present bool[B, N]; bytes are read as stored
        features are, so that 0 to 255 is about −2 to 2.
        """
        stored, present = dequantise(arrays[CLIPS]), arrays["present"]
        chex.assert_shape(present, stored.shape[:2])
        known = state["inputs"][CLIPS]
        mean, scale = (jnp.broadcast_to(known[name], stored.shape) for name in ("mean", "scale"))
        here = jnp.reshape(present, present.shape + (1,) * (stored.ndim - 2))
        inputs = jnp.where(here, (stored - mean) * scale, 0.0)
        vectors, running = clip_encoder.encode(
            self.encoder,
            _below(ENCODER, parameters),
            state[STATISTICS],
            inputs.reshape(-1, *inputs.shape[2:]),
            present.reshape(-1),
            training=training,
        )
        features = vectors.reshape(*present.shape, vectors.shape[-1])
        gaussians = apply(self.heads, _below(HEADS, parameters), {CLIPS: features})
        return Clips(gaussians[0], gaussians[1], present), running

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
        clips, running = self.clips(parameters, state, batch, training=True)
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
        if isinstance(self.loss, StochasticContrast):
            warnings |= collapse.no_variance(lines, finished=finished)
            warnings |= collapse.drowned(lines, finished=finished)
        return warnings

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


def read_clips(source: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The clips and present of rows i64[B], from what a source of clips reads."""
    arrays = source.read(rows)
    return {name: arrays[name] for name in (CLIPS, "present")}


def _below(prefix: str, parameters: Parameters) -> Parameters:
    return {n.removeprefix(prefix): p for n, p in parameters.items() if n.startswith(prefix)}
