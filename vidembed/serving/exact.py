"""Exact search on the mesh: every device scores its own rows, and the best of all are joined."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidembed.distributed import mesh as meshes
from vidembed.pairwise import largest, over_blocks
from vidembed.serving.segment import Segment

# Scores of one block on one device, at most: 128 MB.
SCORES_AT_ONCE = 1 << 25
QUERIES_AT_ONCE = 1024
# Fewer rows are padded to a power of two.
PADDED = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Exact:
    """Every allowed row is scored: recall 1, and 4 bytes a value on the devices."""

    effort: int = 1
    """Without effect: there is nothing to miss."""

    def build(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Nothing beside the vectors."""
        return {}

    def search(
        self, segment: Segment, queries: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """As Engine.search; any number of devices gives the same rows where scores are the same."""
        mesh = meshes.make_mesh(meshes.MeshShape())
        return search_placed(mesh, pool_of(mesh, segment), queries, k, allowed)


def pool_of(mesh: jax.sharding.Mesh, segment: Segment) -> jax.Array:
    """The vectors of a segment on the mesh, as `placed`, once."""
    return segment.loaded("exact", lambda: placed(mesh, segment.whole()))


def few_sizes(rows: int) -> int:
    """A size for so many rows such that few programs are compiled as an index grows."""
    return 1 << (rows - 1).bit_length() if rows < PADDED else rows


def placed(mesh: jax.sharding.Mesh, vectors: np.ndarray) -> jax.Array:
    """Vectors f32[N, D] with their rows split over all devices, padded to one of few sizes."""
    padding = few_sizes(len(vectors)) - len(vectors)
    return meshes.place_rows(mesh, np.pad(vectors, [(0, padding), (0, 0)]) if padding else vectors)


def search_placed(
    mesh: jax.sharding.Mesh, pool: jax.Array, queries: np.ndarray, k: int, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(scores f32[Q, k], rows i64[Q, k]) of a pool that was put on the mesh, padded or not.

    allowed: bool[N] of the rows before padding; those of padding are not.
    """
    mask = meshes.place_rows(mesh, np.pad(allowed, (0, few_sizes(len(allowed)) - len(allowed))))
    local = -(-len(pool) // mesh.size)
    found = []
    with jax.set_mesh(mesh):
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            some = queries[start : start + QUERIES_AT_ONCE]
            # Few sizes, so that few programs are compiled.
            padded = few_sizes(len(some))
            block = int(np.clip(SCORES_AT_ONCE // max(1, local), 1, min(256, padded)))
            rows = np.pad(some, [(0, padded - len(some)), (0, 0)])
            best = _search(rows, pool, mask, k=min(k, len(pool)), block=block)
            found.append([np.asarray(part)[: len(some)] for part in best])
    scores, rows = (np.concatenate(parts) for parts in zip(*found))
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
    # Parts stand in the order of their rows, so that of equal scores the smaller row comes first.
    best, places = largest(scores, k)
    return best, jnp.take_along_axis(rows, places, axis=1)
