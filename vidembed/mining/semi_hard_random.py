"""Any negative that is a little farther than the positive, each with the same chance."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import lax

from vidembed import pairwise
from vidembed.mining.forbidden import Anchors, Forbidden, mask


@dataclass(frozen=True, kw_only=True)
class SemiHardRandom:
    """One of the negatives with d²(a, p) < d²(a, n) < d²(a, p) + margin, uniformly at random.

    FaceNet's set of semi-hard negatives (section 3.2), of which CDML takes the hardest. A random
    member is less often a false negative, a video that belongs to the anchor without an edge.

    inside_margin: false draws from all farther negatives, most of them easy.
    block, operands: as in SemiHard.
    """

    inside_margin: bool = True
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

        anchor, positive: f32[b, D], pool: f32[N, D], unit vectors. key: the draw of the whole
        batch, the same on every device; margin: in squared Euclidean distance; anchor_offset:
        i32[], anchors of the batch before these.
        """
        anchor, positive, pool = lax.stop_gradient((anchor, positive, pool))
        seeds = jax.random.bits(key, (2,), jnp.uint32)
        columns = jnp.arange(pool.shape[0], dtype=jnp.uint32)

        def choose(
            scores: jax.Array, reference: jax.Array, anchors: Anchors
        ) -> tuple[jax.Array, jax.Array]:
            scores = mask(scores, forbidden, anchors)
            eligible = scores < reference[:, None]
            # The forbidden, at −inf, are below any reference: the lower bound leaves them out.
            low = margin / 2 if self.inside_margin else jnp.inf
            eligible &= scores > reference[:, None] - low
            draw = lottery(seeds, anchors.number.astype(jnp.uint32), columns)
            value, index = pairwise.best(jnp.where(eligible, draw, -jnp.inf))
            return index, value > -jnp.inf

        reference = jnp.sum(anchor * positive, axis=-1)
        anchors = Anchors.of(forbidden, len(anchor), anchor_offset)
        return pairwise.over_blocks(
            choose,
            anchor,
            pool,
            reference,
            anchors,
            block=self.block,
            operands=self.operands,
        )


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
