"""What an encoder of clips is, the mean as one, and the normalisation inside the others.

Plain functions of parameters and batch statistics: both are flat dictionaries, as in
`vidembed.models.parameters`. The statistics belong into a task's state, under `batch_statistics`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import jax
import jax.numpy as jnp

from vidembed.models.parameters import Parameters

Arrays = Mapping[str, jax.Array]
Norm = Literal["batch", "group"]
MOMENTUM = 0.9
"""The share of the old statistics in the new ones."""
EPSILON = 1e-5
GROUP_CHANNELS = 16
"""Channels per group at least, where the channels allow it."""


class ClipEncoder(Protocol):
    """A network from clips to vectors."""

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> tuple[Parameters, Parameters]:
        """Parameters and batch statistics, for clips of this shape, without the batch axis."""

    def apply(
        self,
        parameters: Arrays,
        statistics: Arrays,
        clips: jax.Array,
        train: bool,
        present: jax.Array | None = None,
    ) -> tuple[jax.Array, Parameters]:
        """Vectors f32[M, D] of clips f32[M, T, ...], and the new statistics; train: normalise by
        the batch, otherwise by the statistics, which then stay as they are.

        present: bool[M]; the others count in no statistics. None: all are there.
        """


@dataclass(frozen=True, kw_only=True)
class MeanOfFrames:
    """Windows f32[M, T, F] → f32[M, F]: the mean over the frames, without parameters.

    The features are those of a frozen network.
    """

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> tuple[Parameters, Parameters]:
        """Nothing; shape: (T, F)."""
        del key
        check_windows(shape)
        return {}, {}

    def apply(
        self,
        parameters: Arrays,
        statistics: Arrays,
        clips: jax.Array,
        train: bool,
        present: jax.Array | None = None,
    ) -> tuple[jax.Array, Parameters]:
        """See `ClipEncoder`."""
        del parameters, train, present
        return jnp.mean(clips, axis=1), dict(statistics)


def vector_size(encoder: ClipEncoder, shape: tuple[int, ...]) -> int:
    """D, the size of the encoder's vectors of clips of this shape; computes nothing."""

    def run(key: jax.Array) -> jax.Array:
        parameters, statistics = encoder.init(key, shape)
        return encoder.apply(parameters, statistics, jnp.zeros((1, *shape)), False)[0]

    return int(jax.eval_shape(run, jax.random.key(0)).shape[1])


def check_windows(shape: tuple[int, ...]) -> None:
    """Raise ValueError for clips that are not windows of features."""
    if len(shape) != 2:
        raise ValueError(
            f"windows of features (T, F) expected, found clips {list(shape)}: choose "
            "task.encoder:residual-clips for frames, or feed:feature-windows"
        )


def check_norm(norm: str) -> None:
    """Raise ValueError for a normalisation that does not exist."""
    if norm not in get_args(Norm):
        raise ValueError(f"norm must be {' or '.join(get_args(Norm))}, found {norm!r}")


class Normaliser:
    """Normalises the activations of one pass through a network, and gathers new statistics.

    batch: by mean and variance of each channel over all clips of the batch, times and places
    (Ioffe and Szegedy 2015). Arrays under `jax.jit` are those of the whole batch however many
    devices hold it, so that its statistics are too; inside `shard_map` they would be a device's.
    group: within each clip, over groups of channels (Wu and He 2018); needs no statistics.
    """

    def __init__(
        self,
        norm: Norm,
        parameters: Arrays,
        statistics: Arrays,
        train: bool,
        present: jax.Array | None = None,
    ) -> None:
        """present: bool[M], the clips whose moments count; None: all."""
        self._norm, self._parameters, self._train = norm, parameters, train
        self._present = present
        self.statistics = dict(statistics)

    def __call__(self, name: str, values: jax.Array) -> jax.Array:
        """The normalised values f32[M, ..., C], scaled and shifted by the parameters of `name`."""
        scale, bias = self._parameters[f"{name}/scale"], self._parameters[f"{name}/bias"]
        ones = (1,) * (values.ndim - 1)
        if self._norm == "group":
            scaled = _by_group(values)
        else:
            mean, variance = self._moments(name, values)
            scaled = (values - mean.reshape(*ones, -1)) * jax.lax.rsqrt(
                variance.reshape(*ones, -1) + EPSILON
            )
        return scaled * scale.reshape(*ones, -1) + bias.reshape(*ones, -1)

    def _moments(self, name: str, values: jax.Array) -> tuple[jax.Array, jax.Array]:
        known = {part: self.statistics[f"{name}/{part}"] for part in ("mean", "variance")}
        if not self._train:
            return known["mean"], known["variance"]
        now = _moments_of(values, self._present)
        for part, value in now.items():
            fixed = jax.lax.stop_gradient(value)
            self.statistics[f"{name}/{part}"] = MOMENTUM * known[part] + (1 - MOMENTUM) * fixed
        return now["mean"], now["variance"]


def new_norm(
    name: str, channels: int, norm: Norm, parameters: Parameters, statistics: Parameters
) -> None:
    """Add the parameters and statistics of a normalisation."""
    parameters[f"{name}/scale"] = jnp.ones(channels, jnp.float32)
    parameters[f"{name}/bias"] = jnp.zeros(channels, jnp.float32)
    if norm == "batch":
        statistics[f"{name}/mean"] = jnp.zeros(channels, jnp.float32)
        statistics[f"{name}/variance"] = jnp.ones(channels, jnp.float32)


def groups_of(channels: int) -> int:
    """The largest number of equal groups of at least GROUP_CHANNELS channels; one, if too few."""
    most = max(1, channels // GROUP_CHANNELS)
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


def _moments_of(values: jax.Array, present: jax.Array | None) -> dict[str, jax.Array]:
    """Mean and variance f32[C] of values f32[M, ..., C] over all clips that are present."""
    axes, kept = tuple(range(values.ndim - 1)), None
    if present is not None:
        here = present | ~jnp.any(present)  # without any, an empty mean would be NaN
        kept = jnp.broadcast_to(here.reshape(-1, *(1,) * (values.ndim - 1)), values.shape)
    return {
        "mean": jnp.mean(values, axes, where=kept),
        "variance": jnp.var(values, axes, where=kept),
    }


def _by_group(values: jax.Array) -> jax.Array:
    shape, groups = values.shape, groups_of(values.shape[-1])
    parts = values.reshape(shape[0], -1, groups, shape[-1] // groups)
    mean = jnp.mean(parts, (1, 3), keepdims=True)
    variance = jnp.var(parts, (1, 3), keepdims=True)
    return ((parts - mean) * jax.lax.rsqrt(variance + EPSILON)).reshape(shape)
