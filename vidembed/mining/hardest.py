"""The nearest negative, be it nearer than the positive."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
from jax import lax

from vidembed import pairwise
from vidembed.mining.forbidden import Forbidden, mask


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

    def __call__(
        self,
        anchor: jax.Array,
        positive: jax.Array,
        pool: jax.Array,
        forbidden: Forbidden,
        *,
        key: jax.Array,
        anchor_offset: jax.Array | int = 0,
    ) -> tuple[jax.Array, jax.Array]:
        """(index: i32[b] into the pool, found: bool[b]), false where all the pool is forbidden.

        anchor: f32[b, D], pool: f32[N, D], unit vectors; positive, key, anchor_offset: not used.
        """
        del positive, key, anchor_offset
        anchor, pool = lax.stop_gradient((anchor, pool))

        def choose(scores: jax.Array, pairs: jax.Array) -> tuple[jax.Array, jax.Array]:
            value, index = pairwise.best(mask(scores, Forbidden(pairs, forbidden.candidates)))
            return index, value > -float("inf")

        return pairwise.over_blocks(
            choose, anchor, pool, forbidden.pairs, block=self.block, operands=self.operands
        )
