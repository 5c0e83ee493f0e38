"""The nearest negative, be it nearer than the positive."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import lax

from vidembed import pairwise
from vidembed.mining.forbidden import Anchors, Forbidden, mask


@dataclass(frozen=True, kw_only=True)
class Hardest:
    """The negative of least d²(a, n): the most violating of all.

    The other reading of CDML 4.1.1, which in one paragraph asks for semi-hard mining and for "the
    hardest (mostly violating …) negative within the mini-batch". Early in training it can pull all
    embeddings into one point (FaceNet, section 3.2): watch their spread.

    block, operands: as in SemiHard.
    """

    block: int = 144
    operands: Literal["float32", "bfloat16"] = "float32"

    only_farther: ClassVar[bool] = False
    inside_margin: ClassVar[bool] = False

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
        """(index: i32[b] into the pool, found: bool[b]), false where all the pool is forbidden.

        anchor: f32[b, D], pool: f32[N, D], unit vectors; anchor_offset: i32[], anchors of the batch
        before these; positive, key, margin: not used.
        """
        del positive, key, margin
        anchor, pool = lax.stop_gradient((anchor, pool))

        def choose(scores: jax.Array, anchors: Anchors) -> tuple[jax.Array, jax.Array]:
            value, index = pairwise.best(mask(scores, forbidden, anchors))
            return index, value > -jnp.inf

        anchors = Anchors.of(forbidden, len(anchor), anchor_offset)
        return pairwise.over_blocks(
            choose, anchor, pool, anchors, block=self.block, operands=self.operands
        )
