"""Distances, and the blockwise reduction over pairs used by mining, ranks, search and losses.

The full matrix of pairs is never in memory: `over_blocks` computes the scores of some queries
against the whole pool, passes them to a reduction, and keeps only its results. `in_blocks` is the
same for scores that are no dot products.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

T = TypeVar("T")

# A row shorter than this has no direction: dividing by its length would amplify rounding to noise
# and make the gradient unbounded.
SHORTEST = 1e-6
# Size of the scores that `search` holds at a time, unless `block` is given.
SEARCH_BYTES = 256 * 2**20


def squared_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    """Squared Euclidean distance of row i of x to row i of y: f32[..., D] twice → f32[...].

    Computed from differences, not as 2 − 2 x·y, which loses small distances to cancellation.
    Without a square root, so the gradient, 2 (x − y), also exists for equal rows.
    """
    chex.assert_equal_shape([x, y])
    return jnp.sum(jnp.square(x.astype(jnp.float32) - y.astype(jnp.float32)), axis=-1)


def normalise(x: jax.Array) -> jax.Array:
    """Rows scaled to Euclidean length 1: f32|bf16[..., D] → f32[..., D].

    A row no longer than `SHORTEST` becomes zero with zero gradient, because it has no direction to
    learn from. NaN stays NaN, so that a broken row is not hidden.
    """
    x = x.astype(jnp.float32)
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    short = squares <= SHORTEST**2
    # The inner `where` keeps 1/0 out of the gradient of the unused branch.
    length = jnp.sqrt(jnp.where(short, 1.0, squares))
    return jnp.where(short, 0.0, x / length)


def check_margin(margin: float) -> None:
    """Raise ValueError unless margin is in [0, 4], the squared distances of unit vectors."""
    if not 0 <= margin <= 4:
        raise ValueError(
            f"margin is {margin}; it is a squared Euclidean distance, which between unit vectors "
            "lies in [0, 4], so the margin must too (CDML tried 0.1, 0.3 and 0.5)"
        )


def over_blocks(
    reduce: Callable[..., T],
    queries: jax.Array,
    pool: jax.Array,
    *per_query: Any,
    block: int,
    operands: DTypeLike = jnp.float32,
) -> T:
    """Apply `reduce` to the scores of all pairs, for at most `block` queries at a time.

    queries: f32[Q, D]; pool: f32[N, D]; per_query: pytrees of [Q, ...], split like the queries.
    reduce(scores: f32[b, N], *per_query [b, ...]) → pytree of [b, ...], where each row depends only
    on its own row (padding rows are passed too, and cut off). Returns a pytree of [Q, ...].

    Scores are dot products, accumulated in float32. `operands=jnp.bfloat16` rounds the vectors
    first: twice as fast on CPU, more on accelerators, with three significant digits. With float32
    full precision is requested, which is not the default on GPUs and TPUs.

    Memory: about `block`·N·4 bytes in the forward pass. The backward pass recomputes the scores, so
    it needs no more.
    """
    chex.assert_rank([queries, pool], 2)
    chex.assert_equal(queries.shape[1], pool.shape[1])
    full = jnp.dtype(operands) == jnp.float32
    columns = pool.astype(operands)

    def reduce_block(queries_of_block: jax.Array, *rest: Any) -> T:
        scores = lax.dot_general(
            queries_of_block,
            columns,
            (((1,), (1,)), ((), ())),
            precision=lax.Precision.HIGHEST if full else None,
            preferred_element_type=jnp.float32,
        )
        return reduce(scores, *rest)

    return in_blocks(reduce_block, queries.astype(operands), *per_query, block=block)


def in_blocks(function: Callable[..., T], *rows: Any, block: int) -> T:
    """Apply `function` to at most `block` rows at a time.

    rows: pytrees of [Q, ...]. function(*rows [b, ...]) → pytree of [b, ...], where each row depends
    only on its own row (padding rows of zeros are passed too, and cut off). Returns a pytree of
    [Q, ...]. The backward pass computes each block again, so it keeps nothing of a block.
    """
    if block < 1:
        raise ValueError(f"block is {block}; it must be at least 1 query")
    count = len(jax.tree.leaves(rows)[0])
    blocks = -(-count // block)
    size = -(-count // blocks) if blocks else 1  # even blocks need less padding than full ones

    def cut(x: jax.Array) -> jax.Array:
        chex.assert_axis_dimension(x, 0, count)
        padding = [(0, blocks * size - count)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding).reshape(blocks, size, *x.shape[1:])

    @partial(jax.checkpoint, prevent_cse=False)  # type: ignore[untyped-decorator, unused-ignore]
    def of_block(arguments: Any) -> T:
        return function(*arguments)

    reduced = lax.map(of_block, jax.tree.map(cut, rows))
    return jax.tree.map(lambda x: x.reshape(blocks * size, *x.shape[2:])[:count], reduced)


def best(scores: jax.Array, *, tile: int = 128) -> tuple[jax.Array, jax.Array]:
    """The largest score of every row and its index: f32[b, N] → (f32[b], i32[b]).

    Of equal scores the smallest index wins. NaN counts as −inf. A row that is all −inf (or has no
    columns) gives (−inf, 0): check the value before using the index.

    First takes the maxima of tiles of about `tile` columns, then the place within the best tile: an
    argmax over the whole row would cost as much as the product that made it.
    """
    chex.assert_rank(scores, 2)
    count, width = scores.shape
    if width == 0:
        return jnp.full(count, -jnp.inf), jnp.zeros(count, jnp.int32)
    tile = _even(width, tile)
    whole = width // tile * tile
    maxima = _maximum(scores[:, :whole].reshape(count, -1, tile))
    if whole < width:
        rest = _maximum(scores[:, None, whole:])
        maxima = jnp.concatenate([maxima, rest], axis=1)
    winner = jnp.argmax(maxima, axis=1).astype(jnp.int32)
    # The last tile may be short; the window then reaches back into its neighbour, whose scores
    # are all smaller, because the first of equal tiles wins.
    start = jnp.minimum(winner * tile, width - tile)
    window = jax.vmap(lambda row, at: lax.dynamic_slice_in_dim(row, at, tile))(scores, start)
    window = jnp.where(jnp.isnan(window), -jnp.inf, window)
    place = jnp.argmax(window, axis=1).astype(jnp.int32)
    value = jnp.take_along_axis(window, place[:, None], axis=1)[:, 0]
    return value, start + place


def largest(scores: jax.Array, k: int, *, tile: int = 128) -> tuple[jax.Array, jax.Array]:
    """The k largest scores of every row, exactly: f32[b, N] → (f32[b, k], i32[b, k]), descending.

    Of equal scores (−0 and 0 are equal) the smaller index comes first, also at the k-th place. NaN
    counts as −inf. If a row has fewer than k scores above −inf, its end is −inf with meaningless
    indices. Raises ValueError unless 1 ≤ k ≤ N.

    The k largest lie in the k tiles of largest maximum (of equal maxima the earlier tile): a score
    outside these ranks below one score of each of them. So N/tile + k·tile are sorted, not N.
    """
    chex.assert_rank(scores, 2)
    width = scores.shape[1]
    if not 1 <= k <= width:
        raise ValueError(f"the {k} largest of {width} scores: k must lie between 1 and {width}")
    tile = _even(width, tile)
    tiles = width // tile
    if tiles <= k:
        values, columns = lax.top_k(_comparable(scores), k)
        return values, columns
    tiled = scores[:, : tiles * tile].reshape(-1, tiles, tile)
    _, winners = lax.top_k(_comparable(_maximum(tiled)), k)
    # In column order, so that the index among the candidates breaks ties like the column does;
    # columns after the last whole tile are always candidates and come last.
    winners = jnp.sort(winners, axis=1)
    inside = jax.vmap(lambda row, at: row[at])(tiled, winners).reshape(-1, k * tile)
    candidates = jnp.concatenate([inside, scores[:, tiles * tile :]], axis=1)
    values, places = lax.top_k(_comparable(candidates), k)
    winner = jnp.take_along_axis(winners, jnp.minimum(places // tile, k - 1), axis=1)
    beyond = places - k * tile
    columns = jnp.where(beyond < 0, winner * tile + places % tile, tiles * tile + beyond)
    return values, columns


def _even(width: int, tile: int) -> int:
    """A tile size that divides the row, if there is one between half of `tile` and `tile`: without
    a remainder the row need not be copied."""
    divisors = (size for size in range(tile, tile // 2, -1) if width % size == 0)
    return next(divisors, min(tile, width))


def _maximum(scores: jax.Array) -> jax.Array:
    """Maximum f32[..., M] → f32[...] that ignores NaN, without gradient. NaN is handled inside the
    reduction, because a `where` before it would write all scores a second time."""

    def larger(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(b > a, b, jnp.where(a == a, a, b))

    low = jnp.float32(-jnp.inf)
    maxima = lax.reduce(lax.stop_gradient(scores), low, larger, (scores.ndim - 1,))
    # For all-NaN rows: the compiler may drop the initial value, and does for a single column.
    return jnp.where(jnp.isnan(maxima), low, maxima)


def _comparable(scores: jax.Array) -> jax.Array:
    """Scores for `lax.top_k`, which would put NaN first and −0 after 0."""
    return jnp.where(jnp.isnan(scores), -jnp.inf, jnp.where(scores == 0, 0.0, scores))


def search(
    queries: jax.Array,
    pool: jax.Array,
    k: int,
    *,
    exclude: jax.Array | None = None,
    block: int | None = None,
    operands: DTypeLike = jnp.float32,
) -> tuple[jax.Array, jax.Array]:
    """The k nearest rows of the pool by dot product: (similarity f32[Q, k], index i32[Q, k]).

    queries: f32[Q, D]; pool: f32[N, D]; exclude: i32[Q, E], pool rows that a query must not
    return, such as itself (numbers from N on are padding). Exact; order, ties, NaN and rows with
    too few results as in `largest`.

    Memory: the scores of `block` queries, block·N·4 bytes, twice that if no number near 128 divides
    N. By default 256 MB of scores: with fewer queries per block the product runs slower.
    """
    if exclude is None:
        exclude = jnp.zeros((queries.shape[0], 0), jnp.int32)
    if block is None:
        block = max(1, SEARCH_BYTES // (4 * max(1, pool.shape[0])))

    def nearest(scores: jax.Array, without: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows = jnp.arange(scores.shape[0])[:, None]
        return largest(scores.at[rows, without].set(-jnp.inf, mode="drop"), k)

    return over_blocks(nearest, queries, pool, exclude, block=block, operands=operands)
