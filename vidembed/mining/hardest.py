"""The nearest negative, be it nearer than the positive."""

from dataclasses import dataclass
from typing import ClassVar

import jax

from vidembed.mining.blockwise import Blockwise, Pairs


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
