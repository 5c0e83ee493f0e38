"""Miners: which negative each anchor learns from, out of a pool.

Every miner is called as `miner(anchor, positive, pool, forbidden, key=, margin=, anchor_offset=)`
and returns `(index: i32[b], found: bool[b])`: the pool row chosen, and whether there was any to
choose (if not, the index is 0 and means nothing). The margin is the loss's, in squared Euclidean
distance; miners with `inside_margin` use it. Embeddings are unit vectors, so that d² = 2 − 2 s.
Static shapes, no gradient through the choice, memory of one block of anchors against the pool. An
anchor's answer depends on its number in the batch, its positive, the pool and the key: not on how
anchors are spread over devices, as `anchor_offset` says how many of the batch come before these.

NaN is never chosen: a similarity that is NaN counts as none, so an anchor of NaN finds nothing.
"""

from vidembed.mining.blockwise import Forbidden, Miner
from vidembed.mining.miners import Hardest, NoMining, SemiHard, SemiHardRandom

__all__ = ["Forbidden", "Hardest", "Miner", "NoMining", "SemiHard", "SemiHardRandom"]
