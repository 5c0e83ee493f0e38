"""What each miner prefers among the negatives of the pool."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from vidembed.mining.blockwise import Blockwise, Pairs


@dataclass(frozen=True, kw_only=True)
class SemiHard(Blockwise):
    """Of the negatives with d²(a, n) > d²(a, p) the one of least d²(a, n).

    CDML section 4.1.1, which takes the word from FaceNet (section 3.2). FaceNet's semi-hard
    negatives also lie inside the margin; the nearest one does if any does, so the option
    `inside_margin` changes only what happens to anchors that have none: they find nothing,
    instead of a negative on which the loss's hinge is zero. Off by default, as CDML wants
    "the hardest negative within the mini-batch" for each triplet.
    """

    inside_margin: bool = False

    only_farther: ClassVar[bool] = True

    def prefer(self, pairs: Pairs) -> jax.Array:
        """The nearest of those that are farther than the positive."""
        eligible = pairs.farther(pairs.margin if self.inside_margin else None)
        return jnp.where(eligible, pairs.scores, -jnp.inf)


@dataclass(frozen=True, kw_only=True)
class Hardest(Blockwise):
    """The negative of least d²(a, n): the most violating of all.

    The other reading of CDML 4.1.1, which in one paragraph asks for semi-hard mining and for "the
    hardest (mostly violating …) negative within the mini-batch". Early in training it can pull all
    embeddings into one point (FaceNet, section 3.2): watch their spread.
    """

    only_farther: ClassVar[bool] = False
    inside_margin: ClassVar[bool] = False

    def prefer(self, pairs: Pairs) -> jax.Array:
        """The nearest, whatever the positive."""
        return pairs.scores


@dataclass(frozen=True, kw_only=True)
class NoMining:
    """Never finds anything, so that the sampled negative stays. The control for every miner."""

    only_farther: ClassVar[bool] = False
    inside_margin: ClassVar[bool] = False

    def __call__(self, anchor: jax.Array, *_: object, **__: object) -> tuple[jax.Array, jax.Array]:
        """(zeros: i32[b], false: bool[b]) for anchor f32[b, D]; nothing else is used."""
        return jnp.zeros(len(anchor), jnp.int32), jnp.zeros(len(anchor), bool)


@dataclass(frozen=True, kw_only=True)
class SemiHardRandom(Blockwise):
    """One of the negatives with d²(a, p) < d²(a, n) < d²(a, p) + margin, uniformly at random.

    FaceNet's set of semi-hard negatives (section 3.2), of which CDML takes the hardest. A random
    member is less often a false negative, a video that belongs to the anchor without an edge.

    inside_margin: false draws from all farther negatives, most of them easy.
    """

    inside_margin: bool = True

    only_farther: ClassVar[bool] = True

    def prefer(self, pairs: Pairs) -> jax.Array:
        """A number drawn for each of those that qualify."""
        # An endless margin leaves the forbidden out, at −inf, and nothing else.
        eligible = pairs.farther(pairs.margin if self.inside_margin else math.inf)
        seeds = jax.random.bits(pairs.key, (2,), jnp.uint32)
        columns = jnp.arange(eligible.shape[1], dtype=jnp.uint32)
        draw = lottery(seeds, pairs.number.astype(jnp.uint32), columns)
        return jnp.where(eligible, draw, -jnp.inf)


def lottery(seeds: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """A positive number for every pair, of which any set's largest is a uniform draw from it:
    seeds u32[2], rows u32[b], columns u32[N] → f32[b, N].

    A function of (seeds, row, column), so that it needs no state, no memory beyond the block, and
    no knowledge of the devices. Five operations a pair, for which mining takes no longer; numbers
    of cryptographic quality would cost more than the product. The 30 random bits are read as a
    float without conversion: among positive floats the order is that of their bits.
    """
    pairs = _mix(columns ^ seeds[1])[None, :] ^ (rows ^ seeds[0])[:, None]
    pairs = pairs * jnp.uint32(0x7FEB352D)
    pairs = (pairs ^ (pairs >> 15)) * jnp.uint32(0x846CA68B)
    # Above the denormal numbers, which a processor may take for zero, and below infinity.
    return lax.bitcast_convert_type((pairs >> 2) + jnp.uint32(0x00800000), jnp.float32)


def _mix(x: jax.Array) -> jax.Array:
    """A bijection of u32[...] whose every output bit depends on every input bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
