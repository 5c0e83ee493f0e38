"""Exact search on the mesh: each device scores its own rows, and the best are combined."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidembed.distributed import mesh as meshes
from vidembed.pairwise import largest, over_blocks
from vidembed.serving.segment import Segment

# At most this many scores per block on one device: 128 MB.
SCORES_AT_ONCE = 1 << 25
QUERIES_AT_ONCE = 1024
# Pools with fewer rows are padded to a power of two.
PADDED = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Exact:
    """Score every allowed row: recall 1, with 4 bytes per value on the devices."""

    effort: int = 1
    """Has no effect: exact search misses nothing."""

    def build(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """No arrays besides the vectors."""
        return {}

    def search(
        self, segment: Segment, queries: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See Engine.search; equal scores give equal rows on any number of devices."""
        mesh = meshes.make_mesh(meshes.MeshShape())
        return search_placed(mesh, pool_of(mesh, segment), queries, k, allowed)


def pool_of(mesh: jax.sharding.Mesh, segment: Segment) -> jax.Array:
    """The vectors of a segment on the mesh, placed once by `placed`."""
    return segment.loaded("exact", lambda: placed(mesh, segment.whole()))


def few_sizes(rows: int) -> int:
    """Round up to one of few sizes, so that few programs are compiled as an index grows."""
    return 1 << (rows - 1).bit_length() if rows < PADDED else rows


def placed(mesh: jax.sharding.Mesh, vectors: np.ndarray) -> jax.Array:
    """Vectors f32[N, D] with their rows split over all devices, padded to one of few sizes."""
    padding = few_sizes(len(vectors)) - len(vectors)
    return meshes.place_rows(mesh, np.pad(vectors, [(0, padding), (0, 0)]) if padding else vectors)


def search_placed(
    mesh: jax.sharding.Mesh, pool: jax.Array, queries: np.ndarray, k: int, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Search a pool on the mesh, padded or not: (scores f32[Q, k], rows i64[Q, k]).

    allowed: bool[N] of the rows before padding; padding is never returned.
    """
    mask = meshes.place_rows(mesh, np.pad(allowed, (0, few_sizes(len(allowed)) - len(allowed))))
    local = -(-len(pool) // mesh.size)
    results = []
    with jax.set_mesh(mesh):
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            part_of_queries = queries[start : start + QUERIES_AT_ONCE]
            # Use few sizes, so that few programs are compiled.
            padded = few_sizes(len(part_of_queries))
            block = int(np.clip(SCORES_AT_ONCE // max(1, local), 1, min(256, padded)))
            rows = np.pad(part_of_queries, [(0, padded - len(part_of_queries)), (0, 0)])
            best = _search(rows, pool, mask, k=min(k, len(pool)), block=block)
            results.append([np.asarray(part)[: len(part_of_queries)] for part in best])
    scores, rows = (np.concatenate(parts) for parts in zip(*results))
    return scores, rows.astype(np.int64)


@partial(jax.jit, static_argnames=("k", "block"))
def _search(queries: Any, pool: jax.Array, mask: jax.Array, *, k: int, block: int) -> Any:
    def on_one_device(queries: jax.Array, part: jax.Array, mask: jax.Array) -> Any:
        begin = meshes.device_number() * len(part)

        def nearest(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
            return largest(jnp.where(mask[None, :], scores, -jnp.inf), min(k, len(part)))

        scores, columns = over_blocks(nearest, queries, part, block=block)
        return scores, begin + columns

    whole, split = meshes.batch_spec(None), meshes.everywhere_spec(0)
    joined = meshes.everywhere_spec(1)
    scores, rows = meshes.on_devices(on_one_device, (whole, split, split), (joined, joined))(
        queries, pool, mask
    )
    # Parts are in the order of their rows, so ties go to the smaller row.
    best, places = largest(scores, k)
    return best, jnp.take_along_axis(rows, places, axis=1)
