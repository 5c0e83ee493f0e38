"""Which members of the pool an anchor must never take as its negative."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# Pairs that are masked at a time; a block of 144 anchors has about 400 in an ordinary batch.
WINDOW = 1024


class Forbidden(NamedTuple):
    """pairs: i32[2, P], anchors and the pool rows that they must not take: themselves, their
    positives, duplicates of either, neighbours in the graph. Anchors are numbered over the whole
    batch and stand in rising order; pool rows from N on are padding, negative ones not allowed
    (JAX counts them from the end). candidates: bool[N], the pool rows that anyone may take (a video
    that is twice in the batch is a candidate once).

    No mere precaution: the similarity of anchor and positive is rounded in one way in the product
    and in another in the sum of one row, so without the pair (anchor, positive) in the list the
    positive itself is mined for more than a third of the anchors.
    """

    pairs: jax.Array
    candidates: jax.Array


class Anchors(NamedTuple):
    """Of each anchor i32[b]: its number in the batch, and where in the list of pairs its own begin
    and end; for `over_blocks`, which cuts them like the anchors."""

    number: jax.Array
    begin: jax.Array
    end: jax.Array

    @staticmethod
    def of(forbidden: Forbidden, count: int, offset: jax.Array | int) -> "Anchors":
        """The anchors offset .. offset + count - 1 of the batch."""
        numbers = offset + jnp.arange(count + 1, dtype=jnp.int32)
        bounds = jnp.searchsorted(forbidden.pairs[0], numbers).astype(jnp.int32)
        return Anchors(numbers[:-1], bounds[:-1], bounds[1:])


def mask(scores: jax.Array, forbidden: Forbidden, anchors: Anchors) -> jax.Array:
    """scores: f32[b, N] with −inf at the forbidden pairs and in columns that are no candidates.

    Row i belongs to anchor i of `anchors`, which follow each other; rows of padding, all zeros,
    may come after them. The work is that of their pairs, whatever room there is in the list.
    """
    count, pairs = len(scores), forbidden.pairs
    length = min(WINDOW, pairs.shape[1])
    if length:
        first, begin, end = anchors.number[0], anchors.begin[0], jnp.max(anchors.end)

        def window(number: jax.Array, scores: jax.Array) -> jax.Array:
            # The last window is moved back to end with the list; masking twice does no harm.
            start = begin + number * length
            anchor, slot = lax.dynamic_slice_in_dim(pairs, start, length, axis=1)
            row = anchor - first
            row = jnp.where(row >= 0, row, count)  # negative ones would count from the end
            return scores.at[row, slot].set(-jnp.inf, mode="drop")

        scores = lax.fori_loop(0, -(-(end - begin) // length), window, scores)
    return jnp.where(forbidden.candidates[None, :], scores, -jnp.inf)
