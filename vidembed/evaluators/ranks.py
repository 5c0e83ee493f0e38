"""Compute exact ranks of relevant items without sorting the corpus.

The rank of an item is one more than the number of items before it. Counting these takes one pass
over the scores: no sort, no list of the whole corpus, any corpus size.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vidembed.distributed import mesh as meshes
from vidembed.pairwise import over_blocks

# Maximum number of scores per block and device: 128 MB.
SCORES_AT_ONCE = 1 << 25
# Entries of the padded i32[queries, most relevant] lists on the devices at a time.
RELEVANT_AT_ONCE = 1 << 23


def relevant_ranks(
    queries: np.ndarray,
    candidates: np.ndarray,
    offsets: np.ndarray,
    relevant: np.ndarray,
    *,
    exclude: np.ndarray | None = None,
    mesh: jax.sharding.Mesh | None = None,
    block: int | None = None,
) -> np.ndarray:
    """Rank, counted from 1, of every relevant candidate of every query: i64[R], as `relevant`.

    queries: f32[Q, D]; candidates: f32[C, D], scored by dot product; offsets: i64[Q+1] into
    relevant: i[R], positions in candidates; exclude: i[Q], a position to exclude from the results
    of the query, such as itself (-1: none). Ties go to the smaller position.

    Candidates are split over the devices of `mesh` (None: all devices). Each device counts its
    part, and the counts are summed, so that ranks do not depend on the number of devices as long as
    the scores do not. A relevant item's score comes from the same product as the scores that it is
    compared with, so that rounding cannot put an item before itself. Memory on a device: its part
    of the candidates, the queries, and `block` rows of scores (None: at most 256 rows and 128 MB).

    Raises ValueError for vectors that are not finite, positions outside the candidates, and a
    relevant item that is excluded.
    """
    queries, candidates = np.asarray(queries, np.float32), np.asarray(candidates, np.float32)
    offsets, relevant = np.asarray(offsets, np.int64), np.asarray(relevant, np.int64)
    exclude = np.full(len(queries), -1) if exclude is None else np.asarray(exclude, np.int64)
    _check(queries, candidates, offsets, relevant, exclude)
    if not len(relevant):
        return np.zeros(0, np.int64)
    counts = np.diff(offsets)
    # Group queries by their number of relevant items: a block loops as often as its longest.
    order = np.argsort(-counts, kind="stable")
    mesh = mesh or meshes.make_mesh(meshes.MeshShape())
    width = int(counts.max())
    local = -(-len(candidates) // mesh.size)
    block = block or int(np.clip(SCORES_AT_ONCE // local, 1, 256))
    at_once = min(len(order), max(block, RELEVANT_AT_ONCE // width))
    placed = meshes.place_rows(mesh, candidates)
    ranks = np.empty(len(relevant), np.int64)
    with jax.set_mesh(mesh):
        for start in range(0, len(order), at_once):
            rows = order[start : start + at_once]
            inside = np.arange(width) < counts[rows][:, None]
            flat = offsets[rows][:, None] + np.arange(width)
            positions = np.where(inside, relevant[np.where(inside, flat, 0)], -1)
            # Pad the last call with repeated rows, so that all calls share one program.
            padding = [(0, at_once - len(rows)), (0, 0)]
            before = _count_before(
                np.pad(queries[rows], padding, mode="edge"),
                placed,
                np.pad(positions, padding, constant_values=-1).astype(np.int32),
                np.pad(exclude[rows], padding[0], constant_values=-1).astype(np.int32),
                size=len(candidates),
                block=block,
            )
            ranks[flat[inside]] = np.asarray(before)[: len(rows)][inside] + 1
    return ranks


@partial(jax.jit, static_argnames=("size", "block"))
def _count_before(
    queries: jax.Array,
    candidates: jax.Array,
    positions: jax.Array,
    exclude: jax.Array,
    *,
    size: int,
    block: int,
) -> jax.Array:
    """Count the candidates, of the first `size`, before each position (-1: none): i32[Q, K]."""

    def on_one_device(
        queries: jax.Array, part: jax.Array, positions: jax.Array, exclude: jax.Array
    ) -> jax.Array:
        begin = meshes.device_number() * len(part)
        columns = begin + jnp.arange(len(part), dtype=jnp.int32)[None, :]

        def count(scores: jax.Array, positions: jax.Array, exclude: jax.Array) -> jax.Array:
            excluded = (columns >= size) | (columns == exclude[:, None])
            scores = jnp.where(excluded, -jnp.inf, scores)
            local = positions - begin
            is_here = (local >= 0) & (local < len(part))
            local_scores = jnp.take_along_axis(scores, jnp.clip(local, 0, len(part) - 1), axis=1)
            # One device has the score, the others add zero: the sum is exactly that score.
            score = meshes.total(jnp.where(is_here, local_scores, 0.0))

            def count_at(place: jax.Array, before: jax.Array) -> jax.Array:
                bound = lax.dynamic_slice_in_dim(score, place, 1, axis=1)
                position = lax.dynamic_slice_in_dim(positions, place, 1, axis=1)
                first = (scores > bound) | ((scores == bound) & (columns < position))
                number = jnp.sum(first, axis=1, keepdims=True, dtype=jnp.int32)
                return lax.dynamic_update_slice_in_dim(before, number, place, axis=1)

            longest = jnp.max(jnp.sum(positions >= 0, axis=1))
            zeros = jnp.zeros_like(positions) * meshes.device_number()
            return meshes.total(lax.fori_loop(0, longest, count_at, zeros))

        return over_blocks(count, queries, part, positions, exclude, block=block)

    return meshes.on_all_devices(on_one_device, (None, 0, None, None))(
        queries, candidates, positions, exclude
    )


def _check(
    queries: np.ndarray,
    candidates: np.ndarray,
    offsets: np.ndarray,
    relevant: np.ndarray,
    exclude: np.ndarray,
) -> None:
    if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1]:
        raise ValueError(
            f"queries [Q, D] and candidates [C, D] must have the same width, found "
            f"{queries.shape} and {candidates.shape}"
        )
    for name, vectors in (("queries", queries), ("candidates", candidates)):
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise ValueError(
                f"{len(bad)} of {len(vectors)} {name} have values that are not finite (rows "
                f"{', '.join(map(str, bad[:10]))}), so they cannot be ranked"
            )
    if len(offsets) != len(queries) + 1 or offsets[0] != 0 or offsets[-1] != len(relevant):
        raise ValueError(
            f"offsets must run from 0 to the {len(relevant)} relevant items over {len(queries)} "
            f"queries, found {len(offsets)} of them"
        )
    if len(relevant) and not 0 <= relevant.min() <= relevant.max() < len(candidates):
        raise ValueError(
            f"relevant positions must lie in [0, {len(candidates)}), found {relevant.min()} to "
            f"{relevant.max()}"
        )
    if exclude.shape != (len(queries),):
        raise ValueError(f"exclude must hold one position per query, found {exclude.shape}")
    if (np.repeat(exclude, np.diff(offsets)) == relevant).any():
        raise ValueError("a query excludes one of its relevant items, which then has no rank")
