"""The blockwise pass over all pairs of a batch that miners share, with forbidden pairs masked."""

import abc
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from vidembed import pairwise

# Pairs masked at a time; a block of 144 anchors has about 400 in an ordinary batch.
WINDOW = 1024


class Forbidden(NamedTuple):
    """Which pool rows each anchor must not take, and which rows are candidates at all.

    pairs: i32[2, P], anchors and the pool rows forbidden to them: themselves, their positives,
    duplicates of either, and neighbours in the graph. Anchors are numbered over the whole batch, in
    ascending order; pool rows from N on are padding, negative ones are not allowed (JAX counts them
    from the end). candidates: bool[N], the rows that any anchor may take (a video that occurs twice
    in the batch is a candidate once).

    The pairs (anchor, positive) are necessary: the matrix product rounds their similarity
    differently from the sum over one row, so without them the positive itself is mined for more
    than a third of the anchors.
    """

    pairs: jax.Array
    candidates: jax.Array


class Anchors(NamedTuple):
    """For each anchor, i32[b]: its number in the batch, and the start and end of its pairs in the
    list. `over_blocks` splits these like the anchors."""

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
    """Return scores f32[b, N] with −inf at forbidden pairs and in columns that are not candidates.

    Row i belongs to anchor i of `anchors`, which are consecutive; rows of padding, all zeros, may
    follow. The work grows with their pairs, not with the capacity of the list.
    """
    count, pairs = len(scores), forbidden.pairs
    length = min(WINDOW, pairs.shape[1])
    if length:
        first, begin, end = anchors.number[0], anchors.begin[0], jnp.max(anchors.end)

        def window(number: jax.Array, scores: jax.Array) -> jax.Array:
            # The last window is moved back to end with the list; masking twice is harmless.
            start = begin + number * length
            anchor, slot = lax.dynamic_slice_in_dim(pairs, start, length, axis=1)
            row = anchor - first
            row = jnp.where(row >= 0, row, count)  # JAX counts negative rows from the end
            return scores.at[row, slot].set(-jnp.inf, mode="drop")

        scores = lax.fori_loop(0, -(-(end - begin) // length), window, scores)
    return jnp.where(forbidden.candidates[None, :], scores, -jnp.inf)


class Pairs(NamedTuple):
    """A block of anchors scored against the whole pool, and other inputs of a miner."""

    scores: jax.Array  # f32[b, N], similarities; −inf where forbidden
    reference: jax.Array  # f32[b], similarities of the positives
    number: jax.Array  # i32[b], numbers of the anchors in the batch
    key: jax.Array  # of the whole batch, the same on every device
    margin: float  # of the loss, in squared Euclidean distance

    def farther(self, margin: float | None) -> jax.Array:
        """bool[b, N]: farther than the positive, by less than `margin` unless it is None."""
        # d² = 2 − 2 s: farther is a smaller score.
        reference = self.reference[:, None]
        eligible = self.scores < reference
        return eligible if margin is None else eligible & (self.scores > reference - margin / 2)


class Miner(Protocol):
    """Chooses for each anchor the negative that it learns from."""

    @property
    def only_farther(self) -> bool:
        """Whether every chosen negative is farther than the positive."""

    @property
    def inside_margin(self) -> bool:
        """Whether only negatives inside the loss's margin are chosen."""

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
        """(index i32[b], found bool[b]); see `vidembed.mining` and `Blockwise`."""


@dataclass(frozen=True, kw_only=True)
class Blockwise(abc.ABC):
    """Score one block of anchors at a time against the whole pool; take the most preferred row."""

    block: int = 144
    """Anchors scored at a time; memory is about 2 · block · N · 4 bytes."""
    operands: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the operands of products. bfloat16 takes half to two thirds of the time, and chooses
    other negatives: 0.5 % of them on synthetic embeddings, 70 % on barely trained ones, where many
    are near."""

    only_farther: ClassVar[bool]
    """Whether every chosen negative is farther than the positive."""

    @abc.abstractmethod
    def prefer(self, pairs: Pairs) -> jax.Array:
        """Preference for each negative, f32[b, N]; −inf for those that do not qualify."""

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
        """Choose (index: i32[b] into the pool, found: bool[b]); found is False if none qualifies.

        anchor, positive: f32[b, D], pool: f32[N, D], unit vectors; key: the same on every device;
        anchor_offset: i32[], anchors of the batch before these. Ties go to the first in the pool.
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
