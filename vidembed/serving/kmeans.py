"""k-means on the mesh: Lloyd's iteration with k-means++ initialisation and no empty clusters.

Rows are split over all devices. Each device finds the nearest centroid of its own rows and sums
them; only sums, counts and centroids travel. Assignments are made in blocks, so that memory holds
`SCORES_AT_ONCE` products per device besides the rows.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidembed.distributed import mesh as meshes
from vidembed.pairwise import best, largest, over_blocks, squared_distance

SCORES_AT_ONCE = 1 << 24
"""Products of rows with centroids on one device: 64 MB."""
SAMPLE = 64
"""Maximum rows per centroid among which k-means++ chooses."""
AVERAGED = 16
"""Maximum rows of the sample whose mean initialises a centroid."""
TOLERANCE = 1e-4
"""The iteration stops when the relative decrease of the error is below this."""


def kmeans(
    rows: jax.Array,
    count: int,
    size: int,
    *,
    seed: tuple[int, ...],
    iterations: int,
    on_iteration: Callable[[int], Any] = lambda done: None,
) -> np.ndarray:
    """Centroids f32[size, D] of the first `count` of rows f32[P@all devices, D], under the current
    mesh; 1 ≤ size ≤ count.

    k-means++ (Arthur and Vassilvitskii, 2007) draws rows from a sample, and each centroid starts at
    the mean of the sample's rows nearest to such a row. In hundreds of dimensions a single row is
    nearer to the mean of all rows than to any other row, so if centroids start at single rows, a
    few of them attract everything: at a third level of 256, 2,950 vectors of a trained network then
    had codes of perplexity 7; now they have 237.

    A centroid without rows restarts at the row that is farthest from its own centroid. If fewer
    than `size` rows are distinct, the remaining centroids are copies without rows. On any number of
    devices the same seed draws the same rows, and the error is the same within 1 %; centroids are
    equal up to rounding unless a row is half-way between two of them, which may move others.
    """
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(count, min(count, SAMPLE * size), replace=False))
    key = jax.random.key(int(rng.integers(1 << 31)))
    centroids = np.asarray(_begin(rows, drawn, key, size=size))
    before = np.inf
    for iteration in range(iterations):
        on_iteration(iteration)
        sums, counts, total = (np.asarray(part) for part in _assigned(rows, centroids, count))
        means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centroids)
        empty, error = np.flatnonzero(counts == 0), float(total)
        if len(empty) and error > 0:
            distances, far = (np.asarray(part) for part in _farthest(rows, centroids, count))
            far = far[distances > 0][: len(empty)]
            means[empty[: len(far)]] = far
        elif error >= before * (1 - TOLERANCE) or error == 0:
            return means.astype(np.float32)
        centroids, before = means.astype(np.float32), error
    return centroids


def nearest(rows: jax.Array, centroids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The nearest of centroids f32[K, D] to each row f32[N, D], and its squared distance:
    (i32[N], f32[N]). Ties go to the first; products are in full precision."""
    halves = jnp.sum(jnp.square(centroids), axis=1)[None] / 2

    def of_block(products: jax.Array, block_rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, code = best(products - halves)
        return code, squared_distance(block_rows, jnp.take(centroids, code, axis=0, mode="clip"))

    block = max(1, SCORES_AT_ONCE // len(centroids))
    return over_blocks(of_block, rows, centroids, rows, block=block)


@partial(jax.jit, static_argnames="size")
def _begin(rows: jax.Array, drawn: jax.Array, key: jax.Array, *, size: int) -> jax.Array:
    """Initial centroids f32[size, D] from the sampled rows i32[S]. The first row is chosen
    uniformly, each later one with probability proportional to its squared distance to the nearest
    chosen before; each then becomes the mean of the rows nearest to it."""
    mesh = jax.sharding.get_abstract_mesh()
    whole = jax.sharding.NamedSharding(mesh, meshes.batch_spec(None))
    sample = jax.lax.with_sharding_constraint(jnp.take(rows, drawn, axis=0, mode="clip"), whole)

    def choose(step: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        chosen, distance = state
        # `categorical` uses the Gumbel trick, less sensitive to rounding than cumulative sums.
        row = sample[jax.random.categorical(jax.random.fold_in(key, step), jnp.log(distance))]
        to_row = squared_distance(sample, jnp.broadcast_to(row[None], sample.shape))
        return chosen.at[step].set(row), jnp.where(step == 0, to_row, jnp.minimum(distance, to_row))

    start = (jnp.zeros((size, rows.shape[1]), jnp.float32), jnp.ones(len(sample), jnp.float32))
    chosen, _ = jax.lax.fori_loop(0, size, choose, start)
    halves = jnp.sum(jnp.square(sample), axis=1)[None] / 2
    averaged = min(AVERAGED, max(1, len(sample) // size))

    def of_block(products: jax.Array) -> jax.Array:
        _, places = largest(products - halves, averaged)
        return jnp.mean(jnp.take(sample, places, axis=0, mode="clip"), axis=1)

    return over_blocks(of_block, chosen, sample, block=max(1, SCORES_AT_ONCE // len(sample)))


def _is_real(part: jax.Array, count: jax.Array) -> jax.Array:
    """Which rows on this device are not padding, bool[n]."""
    return meshes.device_number() * len(part) + jnp.arange(len(part), dtype=jnp.int32) < count


@jax.jit
def _assigned(rows: jax.Array, centroids: jax.Array, count: int) -> Any:
    """Sums f32[K, D] and counts i32[K] of the rows nearest to each centroid, and the sum f32[] of
    all squared distances."""

    def on_one_device(part: jax.Array, centroids: jax.Array, count: jax.Array) -> Any:
        code, distance = nearest(part, centroids)
        real = _is_real(part, count)
        sums = jnp.zeros(centroids.shape, jnp.float32)
        sums = sums.at[code].add(jnp.where(real[:, None], part, 0.0))
        counts = jnp.zeros(len(centroids), jnp.int32).at[code].add(real.astype(jnp.int32))
        return meshes.total((sums, counts, jnp.sum(jnp.where(real, distance, 0.0))))

    return meshes.on_all_devices(on_one_device, (0, None, None))(rows, centroids, count)


@jax.jit
def _farthest(rows: jax.Array, centroids: jax.Array, count: int) -> Any:
    """Up to K rows that are farthest from their nearest centroid, farthest first: squared
    distances f32[k] (negative for padding) and rows f32[k, D]."""
    most = len(centroids)

    def on_one_device(part: jax.Array, centroids: jax.Array, count: jax.Array) -> Any:
        distance = jnp.where(_is_real(part, count), nearest(part, centroids)[1], -1.0)
        distances, places = largest(distance[None], min(most, len(part)))
        return distances[0], jnp.take(part, places[0], axis=0, mode="clip")

    split, whole = meshes.everywhere_spec(0), meshes.batch_spec(None)
    distances, far = meshes.on_devices(on_one_device, (split, whole, whole), (split, split))(
        rows, centroids, count
    )
    ordered, places = largest(distances[None], min(most, len(distances)))
    return ordered[0], jnp.take(far, places[0], axis=0, mode="clip")
