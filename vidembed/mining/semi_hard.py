"""The nearest negative that is farther than the positive."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import lax

from vidembed import pairwise
from vidembed.mining.forbidden import Anchors, Forbidden, mask


@dataclass(frozen=True, kw_only=True)
class SemiHard:
    """Of the negatives with d²(a, n) > d²(a, p) the one of least d²(a, n).

    CDML section 4.1.1, which takes the word from FaceNet (section 3.2). FaceNet's semi-hard
    negatives also lie inside the margin; the nearest one does if any does, so the option
    `inside_margin` changes only what happens to anchors that have none: they find nothing,
    instead of a negative on which the loss's hinge is zero. Off by default, as CDML wants
    "the hardest negative within the mini-batch" for each triplet.

    block: anchors scored at a time; memory is about 2 · block · N · 4 bytes.
    operands: of the products. bfloat16 takes half to two thirds of the time, and other negatives:
        0.5 % of them on synthetic embeddings, 70 % on barely trained ones, where many are near.
    """

    inside_margin: bool = False
    block: int = 144
    operands: Literal["float32", "bfloat16"] = "float32"

    only_farther: ClassVar[bool] = True

    def __call__(
        self,
        anchor: jax.Array,
        positive: jax.Array,
        pool: jax.Array,
        forbidden: Forbidden,
        *,
        key: jax.Array,
        margin: float,
        anchor_offset: jax.Array | int = 0,
    ) -> tuple[jax.Array, jax.Array]:
        """(index: i32[b] into the pool, found: bool[b]), false where no negative qualifies.

        anchor, positive: f32[b, D], pool: f32[N, D], unit vectors; margin: in squared Euclidean
        distance; anchor_offset: i32[], anchors of the batch before these; key: not used. Of equally
        near negatives the first of the pool.
        """
        del key
        anchor, positive, pool = lax.stop_gradient((anchor, positive, pool))

        def choose(
            scores: jax.Array, reference: jax.Array, anchors: Anchors
        ) -> tuple[jax.Array, jax.Array]:
            scores = mask(scores, forbidden, anchors)
            # d² = 2 − 2 s: farther is a smaller score, and the nearest has the largest.
            eligible = scores < reference[:, None]
            if self.inside_margin:
                eligible &= scores > reference[:, None] - margin / 2
            value, index = pairwise.best(jnp.where(eligible, scores, -jnp.inf))
            return index, value > -jnp.inf

        anchors = Anchors.of(forbidden, len(anchor), anchor_offset)
        reference = jnp.sum(anchor * positive, axis=-1)
        return pairwise.over_blocks(
            choose,
            anchor,
            pool,
            reference,
            anchors,
            block=self.block,
            operands=self.operands,
        )
