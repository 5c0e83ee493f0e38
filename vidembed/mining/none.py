"""No mining: every triplet keeps the negative it was sampled with."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from vidembed.mining.forbidden import Forbidden


@dataclass(frozen=True, kw_only=True)
class NoMining:
    """Never finds anything, so that the sampled negative stays. The control for every miner."""

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
        """(zeros: i32[b], false: bool[b]) for anchor f32[b, D]; nothing else is used."""
        del positive, pool, forbidden, key, margin, anchor_offset
        return jnp.zeros(anchor.shape[0], jnp.int32), jnp.zeros(anchor.shape[0], bool)
