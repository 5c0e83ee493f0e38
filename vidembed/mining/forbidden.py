"""Which members of the pool an anchor must never take as its negative."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Forbidden(NamedTuple):
    """pairs: i32[b, K], pool rows that anchor i must not take: itself, its positive, duplicates of
    either, neighbours in the graph; numbers from N on are padding, negative ones not allowed (JAX
    counts them from the end). candidates: bool[N], the pool rows that anyone may take (a video that
    is twice in the batch is a candidate once).

    No mere precaution: the similarity of anchor and positive is rounded in one way in the product
    and in another in the sum of one row, so without the pair (anchor, positive) in the list the
    positive itself is mined for more than a third of the anchors.
    """

    pairs: jax.Array
    candidates: jax.Array


def mask(scores: jax.Array, forbidden: Forbidden) -> jax.Array:
    """scores: f32[b, N] with −inf at the forbidden pairs and in columns that are no candidates."""
    rows = jnp.arange(scores.shape[0])[:, None]
    scores = scores.at[rows, forbidden.pairs].set(-jnp.inf, mode="drop")
    return jnp.where(forbidden.candidates[None, :], scores, -jnp.inf)
