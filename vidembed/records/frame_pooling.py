"""Pool the frames of a video to one vector per statistic, on the device.

All sums are of whole numbers, so they do not depend on the order of the frames or the device.
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
Ranked = tuple[jax.Array, ...]
"""The largest bytes u8[B, F] of each feature, by falling value."""


def mean(frames: jax.Array, lengths: jax.Array) -> jax.Array:
    """The mean f32[B, F] of the first lengths i32[B] frames of u8[B, T, F]; 0 bytes if none."""
    byte = _total(frames, lengths).astype(jnp.float32) / _count(lengths)
    return byte * np.float32(STEP) + dequantise(np.zeros((), np.uint8))


def deviation(frames: jax.Array, lengths: jax.Array) -> jax.Array:
    """The standard deviation f32[B, F] over the frames; 0 for a single frame."""
    total, count = _total(frames, lengths), jnp.maximum(lengths, 1)[:, None]
    # Squares of whole numbers near the mean are summed, so that nothing is rounded or cancelled.
    centre = (2 * total + count) // (2 * count)

    def add(squares: jax.Array, frame: jax.Array, inside: jax.Array) -> jax.Array:
        return squares + jnp.where(inside, jnp.square(frame.astype(jnp.int32) - centre), 0)

    def whole(frames: jax.Array, lengths: jax.Array) -> jax.Array:
        squares = jnp.square(frames.astype(jnp.int32) - centre[:, None, :])
        return jnp.sum(jnp.where(_inside(frames, lengths), squares, 0), axis=1)

    squares = _over_frames(add, jnp.zeros_like(centre), whole, frames, lengths)
    off = (total - count * centre).astype(jnp.float32) / _count(lengths)
    variance = squares.astype(jnp.float32) / _count(lengths) - jnp.square(off)
    return jnp.sqrt(jnp.maximum(variance, 0.0)) * np.float32(STEP)


def top5(frames: jax.Array, lengths: jax.Array) -> jax.Array:
    """The mean f32[B, F] of each feature's five largest values, or of all if there are fewer."""
    videos, steps, width = frames.shape
    places = min(LARGEST, steps)

    def insert(largest: Ranked, frame: jax.Array, inside: jax.Array) -> Ranked:
        value, ranked = jnp.where(inside, frame, jnp.uint8(0)), []
        for known in largest:
            ranked.append(jnp.maximum(known, value))
            value = jnp.minimum(known, value)
        return tuple(ranked)

    def whole(frames: jax.Array, lengths: jax.Array) -> Ranked:
        # A byte with the number of its frame is unique: each pass takes the next largest.
        number = jax.lax.broadcasted_iota(jnp.int32, frames.shape, 1)
        keys = jnp.where(_inside(frames, lengths), frames.astype(jnp.int32) * steps + number, -1)
        bounds = [jnp.full((videos, width), 256 * steps, jnp.int32)]
        for _ in range(places):
            below = keys < bounds[-1][:, None, :]
            bounds.append(jnp.max(jnp.where(below, keys, -1), axis=1))
        return tuple((jnp.maximum(bound, 0) // steps).astype(jnp.uint8) for bound in bounds[1:])

    start = (jnp.zeros((videos, width), jnp.uint8),) * places
    largest = _over_frames(insert, start, whole, frames, lengths)
    total = sum(each.astype(jnp.float32) for each in largest)
    byte = total / jnp.minimum(_count(lengths), LARGEST)
    return byte * np.float32(STEP) + dequantise(np.zeros((), np.uint8))


def largest(frames: jax.Array, lengths: jax.Array) -> jax.Array:
    """The largest value f32[B, F] of each feature over the frames; 0 bytes if there are none."""

    def larger(known: jax.Array, frame: jax.Array, inside: jax.Array) -> jax.Array:
        return jnp.maximum(known, jnp.where(inside, frame, jnp.uint8(0)))

    def whole(frames: jax.Array, lengths: jax.Array) -> jax.Array:
        return jnp.max(jnp.where(_inside(frames, lengths), frames, jnp.uint8(0)), axis=1)

    start = jnp.zeros((frames.shape[0], frames.shape[2]), jnp.uint8)
    byte = _over_frames(larger, start, whole, frames, lengths).astype(jnp.float32)
    return byte * np.float32(STEP) + dequantise(np.zeros((), np.uint8))


STATISTICS: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "mean": mean,
    "deviation": deviation,
    "top5": top5,
    "max": largest,
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


def _total(frames: jax.Array, lengths: jax.Array) -> jax.Array:
    """i32[B, F]: the sum of the bytes."""

    def add(total: jax.Array, frame: jax.Array, inside: jax.Array) -> jax.Array:
        return total + jnp.where(inside, frame.astype(jnp.int32), 0)

    def whole(frames: jax.Array, lengths: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(_inside(frames, lengths), frames.astype(jnp.int32), 0), axis=1)

    start = jnp.zeros((frames.shape[0], frames.shape[2]), jnp.int32)
    total: jax.Array = _over_frames(add, start, whole, frames, lengths)
    return total


def _over_frames(
    add: Callable[..., Any],
    start: Any,
    whole: Callable[..., Any],
    frames: jax.Array,
    lengths: jax.Array,
) -> Any:
    """`whole(frames, lengths)`; on CPU as a loop, add(carry, frame u8[B, F], inside bool[B, 1]).

    XLA does not vectorise reductions over a middle axis on CPU (means: 23 times slower).
    """

    def loop(frames: jax.Array, lengths: jax.Array) -> Any:
        def body(number: jax.Array, carry: Any) -> Any:
            frame = jax.lax.dynamic_index_in_dim(frames, number, 1, keepdims=False)
            return add(carry, frame, (number < lengths)[:, None])

        return jax.lax.fori_loop(0, frames.shape[1], body, start)

    return jax.lax.platform_dependent(frames, lengths, cpu=loop, default=whole)
