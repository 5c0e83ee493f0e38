"""No mining: every triplet keeps the negative it was sampled with."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp


@dataclass(frozen=True, kw_only=True)
class NoMining:
    """Never finds anything, so that the sampled negative stays. The control for every miner."""

    only_farther: ClassVar[bool] = False
    inside_margin: ClassVar[bool] = False

    def __call__(self, anchor: jax.Array, *_: object, **__: object) -> tuple[jax.Array, jax.Array]:
        """(zeros: i32[b], false: bool[b]) for anchor f32[b, D]; nothing else is used."""
        return jnp.zeros(len(anchor), jnp.int32), jnp.zeros(len(anchor), bool)
