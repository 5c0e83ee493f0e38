"""Any negative that is a little farther than the positive, each with the same chance."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from vidembed.mining.blockwise import Blockwise, Pairs


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
