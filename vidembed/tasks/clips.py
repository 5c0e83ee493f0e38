"""Videos as mixtures of Gaussians, learned from clips without labels (ProViCo, CVPR 2022).

A batch has N clips of each of B videos, as frames or as windows of their features. An encoder and
two heads make a Gaussian of each clip, a video is the mixture of its clips, and the loss compares
all videos of the batch. With a loss of pairs instead, such as InfoNCE, the means of two random
halves of a video's clips are a pair: the deterministic method beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp

from vidembed.losses import uncertainty
from vidembed.losses.mixtures import Clips, moments
from vidembed.losses.of_clips import deterministic, stochastic
from vidembed.losses.ranking import PairLoss
from vidembed.losses.stochastic_contrast import StochasticContrast
from vidembed.models.augment import Augmentation, plain
from vidembed.models.clip_encoder import ClipEncoder, MeanOfFrames, vector_size
from vidembed.models.gaussian_heads import CLIPS, GaussianHeads
from vidembed.models.parameters import Parameters, apply, initialise
from vidembed.pairwise import normalise
from vidembed.tasks import collapse
from vidembed.tasks.clip_reading import EvenClips, EvenWindows
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

    encoder: ClipEncoder = MeanOfFrames()
    """The network from a clip to a vector."""
    augment: Augmentation = Augmentation()
    """Random changes of decoded clips while training, and the size that the encoder reads, also
    when embedding. Windows of features are not changed."""
    embedded: EvenWindows | EvenClips = EvenWindows()
    """The clips by which a trained model embeds a video."""
    heads: GaussianHeads = GaussianHeads()
    """From the vector of a clip to its Gaussian."""
    loss: StochasticContrast | PairLoss = StochasticContrast()
    """ProViCo's loss, or a loss of two halves of a video's clips, which learns no variances."""
    learns_from: ClassVar[str] = "videos"
    inherits: ClassVar[tuple[str, ...]] = ("parameters", "state/inputs", f"state/{STATISTICS}")

    @property
    def reads(self) -> tuple[str, ...]:
        """The modality of the windows, if one is named; otherwise the feed has only one."""
        named = isinstance(self.embedded, EvenWindows) and self.embedded.modality
        return (named,) if named else ()

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
        read = self.embedded.read
        return {n: Output(apply=f, read=read, needs=needs) for n, f in functions.items()}

    def init(
        self, key: jax.Array, spec: Spec, statistics: Mapping[str, Arrays] | None
    ) -> tuple[Parameters, dict[str, Any]]:
        """Parameters `encoder/`, `heads/` and `loss/`, and the state.

        spec.clip: (T, H, W, 3) of frames, or (T, F) of windows. state: `inputs`, {"clips": {"mean":
        f32[F], "scale": f32[F]}}, standardises the features by `statistics` of the one modality
        ({"mean", "deviation"}) if they are given, and does nothing to frames, whose colours have
        fixed moments; `batch_statistics` of the encoder; `batches` i32[], how many were seen.
        """
        if not spec.clip:
            raise ValueError(
                f"this task learns from clips, and the feed gives {sorted(spec.widths)}: choose a "
                "feed of clips"
            )
        channels, shape, of_frames = spec.clip[-1], spec.clip, len(spec.clip) == 4
        if of_frames != isinstance(self.embedded, EvenClips):
            fitting = "even-clips" if of_frames else "even-windows"
            raise ValueError(
                f"the feed gives clips {list(shape)}, and the trained model would read others: "
                f"choose task.embedded:{fitting}"
            )
        self._check_cut(spec.cut)
        if of_frames:
            shape = (shape[0], self.augment.size, self.augment.size, channels)
        encoder_key, heads_key = jax.random.split(key)
        of_encoder, running = self.encoder.init(encoder_key, shape)
        widths = {CLIPS: vector_size(self.encoder, shape)}
        parameters = {ENCODER + name: value for name, value in of_encoder.items()}
        of_heads = initialise(self.heads, widths, heads_key)
        parameters |= {HEADS + name: value for name, value in of_heads.items()}
        for name, value in self.loss.learned.items():
            parameters[LOSS + name] = jnp.float32(value)
        mean, scale = jnp.zeros(channels), jnp.ones(channels)
        if statistics is not None:
            (known,) = statistics.values()
            deviation = jnp.asarray(known["deviation"], jnp.float32)
            mean = jnp.asarray(known["mean"], jnp.float32)
            varies = deviation > 1e-6
            scale = jnp.where(varies, 1 / jnp.where(varies, deviation, 1.0), 0.0)
        state = {"inputs": {CLIPS: {"mean": mean, "scale": scale}}, STATISTICS: running}
        return parameters, state | {"batches": jnp.zeros((), jnp.int32)}

    def _check_cut(self, cut: Mapping[str, float]) -> None:
        """Raise ValueError if the trained model would read clips cut otherwise than the feed's."""
        other = [name for name, value in cut.items() if getattr(self.embedded, name) != value]
        if other:
            pairs = (f"{n} {cut[n]:g} and {getattr(self.embedded, n):g}" for n in other)
            alike = " ".join(f"--task.embedded.{name} {cut[name]:g}" for name in other)
            raise ValueError(
                f"the feed and the trained model cut clips differently ({', '.join(pairs)}), so "
                f"that it would see other motion than it learned from: add {alike}"
            )

    def clips(
        self,
        parameters: Parameters,
        state: Arrays,
        arrays: Arrays,
        *,
        training: bool = False,
        key: jax.Array | None = None,
    ) -> tuple[Clips, dict[str, jax.Array]]:
        """The Gaussian of each clip, and the encoder's statistics, updated while training.

        arrays: clips u8[B, N, T, H, W, 3] or f32[B, N, T, F], and present bool[B, N]. What stands
        in the place of absent clips changes nothing. key: for the random changes of frames in
        training; without it, they are only resized.
        """
        present = arrays["present"]
        chex.assert_rank(arrays[CLIPS], {4, 6})
        chex.assert_shape(present, arrays[CLIPS].shape[:2])
        inputs = self._inputs(state, arrays[CLIPS], key if training else None)
        here = jnp.reshape(present, present.shape + (1,) * (inputs.ndim - 2))
        inputs = jnp.where(here, inputs, 0.0)
        vectors, running = self.encoder.apply(
            _below(ENCODER, parameters),
            state[STATISTICS],
            inputs.reshape(-1, *inputs.shape[2:]),
            training,
            present.reshape(-1),
        )
        features = vectors.reshape(*present.shape, vectors.shape[-1])
        gaussians = apply(self.heads, _below(HEADS, parameters), {CLIPS: features})
        return Clips(gaussians[0], gaussians[1], present), running

    def _inputs(self, state: Arrays, clips: jax.Array, key: jax.Array | None) -> jax.Array:
        """What the encoder reads of clips: f32[B, N, T, ...], standardised."""
        if clips.ndim == 6:
            return plain(clips, self.augment.size) if key is None else self.augment(key, clips)
        known = state["inputs"][CLIPS]
        mean, scale = (jnp.broadcast_to(known[name], clips.shape) for name in ("mean", "scale"))
        return (clips - mean) * scale

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


def _below(prefix: str, parameters: Parameters) -> Parameters:
    return {n.removeprefix(prefix): p for n, p in parameters.items() if n.startswith(prefix)}
