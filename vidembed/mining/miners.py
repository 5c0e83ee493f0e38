"""The miners: which negative of the pool each one prefers."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from vidembed.mining.blockwise import Blockwise, Pairs


@dataclass(frozen=True, kw_only=True)
class SemiHard(Blockwise):
    """The nearest negative with d²(a, n) > d²(a, p).

    CDML section 4.1.1, which takes the term from FaceNet (section 3.2). FaceNet's semi-hard
    negatives also lie inside the margin; the nearest one does if any does, so `inside_margin` only
    changes anchors without such a negative: they find none, instead of one on which the hinge is
    zero. Off by default, because CDML asks for "the hardest negative within the mini-batch" for
    each triplet.
    """

    inside_margin: bool = False
    """Choose only negatives inside the loss's margin; anchors that have none find nothing."""

    only_farther: ClassVar[bool] = True

    def prefer(self, pairs: Pairs) -> jax.Array:
        """Similarity, for negatives that are farther than the positive."""
        eligible = pairs.farther(pairs.margin if self.inside_margin else None)
        return jnp.where(eligible, pairs.scores, -jnp.inf)


@dataclass(frozen=True, kw_only=True)
class Hardest(Blockwise):
    """The nearest negative, which violates the margin most.

    The other reading of CDML 4.1.1, which in one paragraph asks for semi-hard mining and for "the
    hardest (mostly violating …) negative within the mini-batch". Early in training it can pull all
    embeddings into one point (FaceNet, section 3.2): watch their spread.
    """

    only_farther: ClassVar[bool] = False
    inside_margin: ClassVar[bool] = False

    def prefer(self, pairs: Pairs) -> jax.Array:
        """Similarity, regardless of the positive."""
        return pairs.scores


@dataclass(frozen=True, kw_only=True)
class NoMining:
    """Never finds a negative, so the sampled one stays. The control for every miner."""

    only_farther: ClassVar[bool] = False
    inside_margin: ClassVar[bool] = False

    def __call__(self, anchor: jax.Array, *_: object, **__: object) -> tuple[jax.Array, jax.Array]:
        """(zeros: i32[b], False: bool[b]) for anchor f32[b, D]; other arguments are ignored."""
        return jnp.zeros(len(anchor), jnp.int32), jnp.zeros(len(anchor), bool)


@dataclass(frozen=True, kw_only=True)
class SemiHardRandom(Blockwise):
    """A negative with d²(a, p) < d²(a, n) < d²(a, p) + margin, uniformly at random.

    FaceNet's set of semi-hard negatives (section 3.2); CDML takes the hardest of them. A random
    member is less often a false negative, that is, a related video without an edge.
    """

    inside_margin: bool = True
    """Draw only from negatives inside the loss's margin; otherwise from all farther ones, most of
    them easy."""

    only_farther: ClassVar[bool] = True

    def prefer(self, pairs: Pairs) -> jax.Array:
        """A random number for each negative that qualifies."""
        # An infinite margin excludes only the forbidden pairs, at −inf.
        eligible = pairs.farther(pairs.margin if self.inside_margin else math.inf)
        seeds = jax.random.bits(pairs.key, (2,), jnp.uint32)
        columns = jnp.arange(eligible.shape[1], dtype=jnp.uint32)
        draw = lottery(seeds, pairs.number.astype(jnp.uint32), columns)
        return jnp.where(eligible, draw, -jnp.inf)


def lottery(seeds: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Hash each (row, column) to a positive number; the largest of any set is a uniform draw.

    seeds u32[2], rows u32[b], columns u32[N] → f32[b, N]. A pure function of (seeds, row, column):
    it needs no state, no memory beyond the block, and no knowledge of the devices. Five operations
    per pair do not slow mining down; numbers of cryptographic quality would cost more than the
    product. The 30 random bits are reinterpreted as a float: positive floats sort like their bits.
    """
    pairs = _mix(columns ^ seeds[1])[None, :] ^ (rows ^ seeds[0])[:, None]
    pairs = pairs * jnp.uint32(0x7FEB352D)
    pairs = (pairs ^ (pairs >> 15)) * jnp.uint32(0x846CA68B)
    # Above the denormal numbers, which a processor may flush to zero, and below infinity.
    return lax.bitcast_convert_type((pairs >> 2) + jnp.uint32(0x00800000), jnp.float32)


def _mix(x: jax.Array) -> jax.Array:
    """A bijection of u32[...] whose every output bit depends on every input bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
