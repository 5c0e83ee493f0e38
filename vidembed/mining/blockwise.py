"""The one pass over all pairs of a batch that the miners share: they differ in what they prefer."""

import abc
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from vidembed import pairwise
from vidembed.mining.forbidden import Anchors, Forbidden, mask


class Pairs(NamedTuple):
    """A block of anchors against the whole pool, and what else a miner goes by."""

    scores: jax.Array  # f32[b, N], similarities; −inf where forbidden
    reference: jax.Array  # f32[b], those of the positives
    number: jax.Array  # i32[b], the anchors' in the batch
    key: jax.Array  # of the whole batch, the same on every device
    margin: float  # the loss's, in squared Euclidean distance

    def farther(self, margin: float | None) -> jax.Array:
        """bool[b, N]: farther than the positive, by less than the margin where there is one."""
        # d² = 2 − 2 s: farther is a smaller score.
        reference = self.reference[:, None]
        eligible = self.scores < reference
        return eligible if margin is None else eligible & (self.scores > reference - margin / 2)


@dataclass(frozen=True, kw_only=True)
class Blockwise(abc.ABC):
    """Scores a block of anchors against the whole pool at a time, and takes what is preferred most.

    block: anchors scored at a time; memory is about 2 · block · N · 4 bytes.
    operands: of the products. bfloat16 takes half to two thirds of the time, and other negatives:
        0.5 % of them on synthetic embeddings, 70 % on barely trained ones, where many are near.
    """

    block: int = 144
    operands: Literal["float32", "bfloat16"] = "float32"

    only_farther: ClassVar[bool]
    """Whether every negative that is chosen is farther than the positive."""

    @abc.abstractmethod
    def prefer(self, pairs: Pairs) -> jax.Array:
        """How much each negative is preferred, f32[b, N]; −inf for those that do not qualify."""

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

        anchor, positive: f32[b, D], pool: f32[N, D], unit vectors; key: the same on every device;
        anchor_offset: i32[], anchors of the batch before these. Of equals the first of the pool.
        """
        anchor, positive, pool = lax.stop_gradient((anchor, positive, pool))

        def choose(
            scores: jax.Array, reference: jax.Array, anchors: Anchors
        ) -> tuple[jax.Array, jax.Array]:
            scores = mask(scores, forbidden, anchors)
            pairs = Pairs(scores, reference, anchors.number, key, margin)
            value, index = pairwise.best(self.prefer(pairs))
            return index, value > -jnp.inf

        anchors = Anchors.of(forbidden, len(anchor), anchor_offset)
        reference = jnp.sum(anchor * positive, axis=-1)
        return pairwise.over_blocks(
            choose, anchor, pool, reference, anchors, block=self.block, operands=self.operands
        )
