"""Pool the frames of a video to one vector per statistic, on the device.

Means are sums of whole numbers, so they do not depend on the order of the frames or the device.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.records.bytecode import STEP, dequantise

LARGEST = 5
"""Values of a feature whose mean is the statistic top5."""
BLOCK_VIDEOS = 64
"""Videos that are pooled at a time outside a step."""
FLOAT32 = np.dtype(np.float32)


def mean(frames: jax.Array, lengths: jax.Array) -> jax.Array:
    """The mean f32[B, F] of the first lengths i32[B] frames of u8[B, T, F]; 0 bytes if none."""
    return _mean_byte(frames, lengths) * np.float32(STEP) + dequantise(np.zeros((), np.uint8))


def deviation(frames: jax.Array, lengths: jax.Array) -> jax.Array:
    """The standard deviation f32[B, F] over the frames; 0 for a single frame."""
    centred = frames.astype(jnp.float32) - _mean_byte(frames, lengths)[:, None, :]
    squares = jnp.sum(jnp.where(_inside(frames, lengths), jnp.square(centred), 0.0), axis=1)
    return jnp.sqrt(squares / _count(lengths)) * np.float32(STEP)


def top5(frames: jax.Array, lengths: jax.Array) -> jax.Array:
    """The mean f32[B, F] of each feature's five largest values, or of all if there are fewer."""
    steps = frames.shape[1]
    number = jax.lax.broadcasted_iota(jnp.int32, frames.shape, 1)
    # A byte with the number of its frame is unique, so that each pass takes the next largest.
    keys = frames.astype(jnp.int32) * steps + number
    inside = _inside(frames, lengths)
    bound = jnp.full((frames.shape[0], frames.shape[2]), 256 * steps, jnp.int32)
    total = jnp.zeros_like(bound)
    for _ in range(min(LARGEST, steps)):
        bound = jnp.max(jnp.where(inside & (keys < bound[:, None, :]), keys, -1), axis=1)
        total += jnp.maximum(bound, 0) // steps
    byte = total.astype(jnp.float32) / jnp.minimum(_count(lengths), LARGEST)
    return byte * np.float32(STEP) + dequantise(np.zeros((), np.uint8))


STATISTICS: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "mean": mean,
    "deviation": deviation,
    "top5": top5,
}


def pooled_name(modality: str, statistic: str) -> str:
    """The name of a pooled modality: that of the frames for the mean, else NAME_STATISTIC."""
    return modality if statistic == "mean" else f"{modality}_{statistic}"


def pooled_features(features: Mapping[str, Any], lengths: jax.Array) -> dict[str, jax.Array]:
    """Every statistic of the frames u8[B, T, F] by name; vectors [B, F] stay as they are.

    Inside a compiled function only those that are used are computed.
    """
    vectors = {name: array for name, array in features.items() if array.ndim == 2}
    for name, array in features.items():
        if array.ndim == 3:
            for statistic, function in STATISTICS.items():
                vectors[pooled_name(name, statistic)] = function(array, lengths)
    return vectors


def pool_block(
    frames: Mapping[str, np.ndarray], lengths: np.ndarray, statistics: Iterable[str]
) -> dict[str, np.ndarray]:
    """Pooled name → f32[n, F], for frames u8[n, T, F] of at most BLOCK_VIDEOS videos.

    Computed on a device of this process, for blocks of one shape.
    """
    size = BLOCK_VIDEOS - len(lengths)
    filled = {m: np.pad(each, ((0, size), (0, 0), (0, 0))) for m, each in frames.items()}
    # A mesh of its own: the caller's may span processes, each with other videos.
    with jax.set_mesh(make_mesh(MeshShape(), jax.local_devices()[:1])):
        vectors = _pool(filled, np.pad(lengths, (0, size)), tuple(statistics))
        return {name: np.asarray(array)[: len(lengths)] for name, array in vectors.items()}


@partial(jax.jit, static_argnums=2)
def _pool(
    frames: Mapping[str, jax.Array], lengths: jax.Array, statistics: tuple[str, ...]
) -> dict[str, jax.Array]:
    return {
        pooled_name(modality, statistic): STATISTICS[statistic](each, lengths)
        for modality, each in frames.items()
        for statistic in statistics
    }


def _inside(frames: jax.Array, lengths: jax.Array) -> jax.Array:
    """bool[B, T, 1]: the frames of the video, not the padding."""
    number = jax.lax.broadcasted_iota(jnp.int32, (*frames.shape[:2], 1), 1)
    return number < lengths[:, None, None]


def _count(lengths: jax.Array) -> jax.Array:
    """f32[B, 1]: the number of frames, at least 1."""
    return jnp.maximum(lengths, 1).astype(jnp.float32)[:, None]


def _mean_byte(frames: jax.Array, lengths: jax.Array) -> jax.Array:
    """f32[B, F]: the mean of the bytes."""
    whole = jnp.where(_inside(frames, lengths), frames, 0).astype(jnp.int32)
    return jnp.sum(whole, axis=1).astype(jnp.float32) / _count(lengths)
