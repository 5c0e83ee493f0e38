"""Miners: choose the negative that each anchor learns from, out of a pool.

Every miner is called as `miner(anchor, positive, pool, forbidden, key=, margin=, anchor_offset=)`
and returns `(index: i32[b], found: bool[b])`: the chosen pool row, and whether any negative
qualified (if not, the index is 0 and meaningless). The margin is that of the loss, in squared
Euclidean distance; miners with `inside_margin` use it. Embeddings are unit vectors, so
d² = 2 − 2 s. Shapes are static, no gradient flows through the choice, and memory is that of one
block of anchors against the pool. The choice for an anchor depends on its number in the batch, its
positive, the pool and the key, not on how anchors are spread over devices: `anchor_offset` is the
number of anchors of the batch before these.

NaN similarities are never chosen, so an anchor that contains NaN finds no negative.
"""

from vidembed.mining.blockwise import Forbidden, Miner
from vidembed.mining.miners import Hardest, NoMining, SemiHard, SemiHardRandom

__all__ = ["Forbidden", "Hardest", "Miner", "NoMining", "SemiHard", "SemiHardRandom"]
