"""The nearest negative that is farther than the positive."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

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
