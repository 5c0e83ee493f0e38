"""Exact ranks of relevant items in the full ranking of a corpus, without ranking the corpus.

The rank of an item is one more than the number of items that come before it, and counting those
takes one pass over the scores: no sort, no list of the whole corpus, any corpus size.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vidembed.distributed import mesh as meshes
from vidembed.pairwise import over_blocks

# Scores of one block on one device, at most: 128 MB.
SCORES_AT_ONCE = 1 << 25
# Entries of the padded i32[queries, most relevant] lists that are on the devices at a time.
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
    """Rank, counted from 1, of every relevant candidate of every query: i64[R], beside `relevant`.

    queries: f32[Q, D]; candidates: f32[C, D], scored by dot product; offsets: i64[Q+1] into
    relevant: i[R], positions in candidates; exclude: i[Q], a position that is no result of its
    query, such as itself (-1: none). Of equal scores the smaller position comes first.

    Candidates are split over the devices of `mesh` (of all there are, if None), each counts its
    own, and one sum joins them: any number of devices gives the same ranks where the scores are
    the same. A relevant item's
    score comes out of the same product as those it is compared with, so that rounding cannot put
    an item before itself. Memory on a device: its part of the candidates, the queries, and
    `block` rows of scores (as many as 128 MB hold, at most 256, if None).

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
    # Queries with many relevant items together: a block then counts no longer than its longest.
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
            wanted = np.where(inside, relevant[np.where(inside, flat, 0)], -1)
            # The last rows are repeated into a full call, so that all calls share one program.
            padding = [(0, at_once - len(rows)), (0, 0)]
            before = _count_before(
                np.pad(queries[rows], padding, mode="edge"),
                placed,
                np.pad(wanted, padding, constant_values=-1).astype(np.int32),
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
    wanted: jax.Array,
    exclude: jax.Array,
    *,
    size: int,
    block: int,
) -> jax.Array:
    """How many of the first `size` candidates come before each wanted one (-1: none): i32[Q, K]."""

    def on_one_device(
        queries: jax.Array, part: jax.Array, wanted: jax.Array, exclude: jax.Array
    ) -> jax.Array:
        begin = meshes.device_number() * len(part)
        columns = begin + jnp.arange(len(part), dtype=jnp.int32)[None, :]

        def count(scores: jax.Array, wanted: jax.Array, exclude: jax.Array) -> jax.Array:
            barred = (columns >= size) | (columns == exclude[:, None])
            scores = jnp.where(barred, -jnp.inf, scores)
            local = wanted - begin
            mine = (local >= 0) & (local < len(part))
            own = jnp.take_along_axis(scores, jnp.clip(local, 0, len(part) - 1), axis=1)
            # One device has the score, the others add zero: the sum is that very score.
            score = meshes.total(jnp.where(mine, own, 0.0))

            def one_more(place: jax.Array, before: jax.Array) -> jax.Array:
                bound = lax.dynamic_slice_in_dim(score, place, 1, axis=1)
                position = lax.dynamic_slice_in_dim(wanted, place, 1, axis=1)
                first = (scores > bound) | ((scores == bound) & (columns < position))
                number = jnp.sum(first, axis=1, keepdims=True, dtype=jnp.int32)
                return lax.dynamic_update_slice_in_dim(before, number, place, axis=1)

            longest = jnp.max(jnp.sum(wanted >= 0, axis=1))
            nothing = jnp.zeros_like(wanted) * meshes.device_number()
            return meshes.total(lax.fori_loop(0, longest, one_more, nothing))

        return over_blocks(count, queries, part, wanted, exclude, block=block)

    return meshes.on_all_devices(on_one_device, (None, 0, None, None))(
        queries, candidates, wanted, exclude
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
            f"queries [Q, D] and candidates [C, D] must have one width, found {queries.shape} and "
            f"{candidates.shape}"
        )
    for name, vectors in (("queries", queries), ("candidates", candidates)):
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise ValueError(
                f"{len(bad)} of {len(vectors)} {name} have values that are not finite (rows "
                f"{', '.join(map(str, bad[:10]))}): they have no rank"
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
        raise ValueError(f"exclude must hold one position a query, found {exclude.shape}")
    if (np.repeat(exclude, np.diff(offsets)) == relevant).any():
        raise ValueError("a query excludes one of its own relevant items: it cannot have a rank")
