"""What tasks on clips share: the encoder, what it reads of clips, and the vectors of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp

from vidembed.models.augment import Augmentation, plain
from vidembed.models.clip_encoder import ClipEncoder, MeanOfFrames, vector_size
from vidembed.models.gaussian_heads import CLIPS
from vidembed.models.parameters import Parameters
from vidembed.tasks.clip_reading import EvenClips, EvenWindows
from vidembed.tasks.spec import Spec
from vidembed.tasks.task import Task
from vidembed.tasks.video import Arrays

ENCODER = "encoder/"
"""Prefix of the encoder's parameters."""
STATISTICS = "batch_statistics"
OF_ENCODER = ("parameters/encoder", "state/inputs", f"state/{STATISTICS}")
"""Path prefixes of all that the encoder's vectors depend on."""


@dataclass(frozen=True, kw_only=True)
class ClipTask(Task):
    """A task on N clips of each of B videos, as frames or as windows of their features."""

    encoder: ClipEncoder = MeanOfFrames()
    """The network from a clip to a vector."""
    augment: Augmentation = Augmentation()
    """Random changes of decoded clips while training, and the size that the encoder reads, also
    when embedding. Windows of features are not changed."""
    embedded: EvenWindows | EvenClips = EvenWindows()
    """The clips by which a trained model embeds a video."""
    learns_from: ClassVar[str] = "videos"

    @property
    def reads(self) -> tuple[str, ...]:
        """The modality of the windows, if one is named; otherwise the feed has only one."""
        named = isinstance(self.embedded, EvenWindows) and self.embedded.modality
        return (named,) if named else ()

    def begin(
        self, key: jax.Array, spec: Spec, statistics: Mapping[str, Arrays] | None
    ) -> tuple[Parameters, dict[str, Any], int]:
        """(parameters `encoder/`, state, size of the encoder's vectors) before the first update.

        spec.clip: (T, H, W, 3) of frames, or (T, F) of windows. state: `inputs`, {"clips": {"mean":
        f32[F], "scale": f32[F]}}, standardises the features by `statistics` of the one modality
        ({"mean", "deviation"}) if they are given, and does nothing to frames, whose colours have
        fixed moments; `batch_statistics` of the encoder.
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
        of_encoder, running = self.encoder.init(key, shape)
        parameters = {ENCODER + name: value for name, value in of_encoder.items()}
        mean, scale = jnp.zeros(channels), jnp.ones(channels)
        if statistics is not None:
            (known,) = statistics.values()
            deviation = jnp.asarray(known["deviation"], jnp.float32)
            mean = jnp.asarray(known["mean"], jnp.float32)
            varies = deviation > 1e-6
            scale = jnp.where(varies, 1 / jnp.where(varies, deviation, 1.0), 0.0)
        state = {"inputs": {CLIPS: {"mean": mean, "scale": scale}}, STATISTICS: running}
        return parameters, state, vector_size(self.encoder, shape)

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

    def vectors(
        self,
        parameters: Parameters,
        state: Arrays,
        arrays: Arrays,
        *,
        training: bool = False,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(vectors f32[B, N, F] of the clips, the encoder's statistics, updated while training).

        arrays: clips u8[B, N, T, H, W, 3] or f32[B, N, T, F], and present bool[B, N]. What stands
        in the place of absent clips changes nothing. key: for the random changes of frames; without
        it, they are only resized.
        """
        present = arrays["present"]
        chex.assert_rank(arrays[CLIPS], {4, 6})
        chex.assert_shape(present, arrays[CLIPS].shape[:2])
        inputs = self._inputs(state, arrays[CLIPS], key)
        here = jnp.reshape(present, present.shape + (1,) * (inputs.ndim - 2))
        inputs = jnp.where(here, inputs, 0.0)
        vectors, running = self.encoder.apply(
            below(ENCODER, parameters),
            state[STATISTICS],
            inputs.reshape(-1, *inputs.shape[2:]),
            training,
            present.reshape(-1),
        )
        return vectors.reshape(*present.shape, vectors.shape[-1]), running

    def _inputs(self, state: Arrays, clips: jax.Array, key: jax.Array | None) -> jax.Array:
        """What the encoder reads of clips: f32[B, N, T, ...], standardised."""
        if clips.ndim == 6:
            return plain(clips, self.augment.size) if key is None else self.augment(key, clips)
        known = state["inputs"][CLIPS]
        mean, scale = (jnp.broadcast_to(known[name], clips.shape) for name in ("mean", "scale"))
        return (clips - mean) * scale


def below(prefix: str, parameters: Parameters) -> Parameters:
    """The parameters whose names begin with a prefix, without it."""
    return {n.removeprefix(prefix): p for n, p in parameters.items() if n.startswith(prefix)}
