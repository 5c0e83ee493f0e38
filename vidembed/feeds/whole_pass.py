"""The feed that passes over all train videos and their relations once."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import xxhash

from vidembed.feeds.feed import Batch
from vidembed.feeds.one_pass import OnePass, OnePassFeed, check_step
from vidembed.feeds.videos import RelatedTrainVideos
from vidembed.graph.relation import check_no_leak
from vidembed.graph.scaled import Weigh, scaled

# Increase this whenever the same seed and data would give other batches than before.
SEQUENCE = 1


@dataclass(frozen=True, kw_only=True)
class WholePass(OnePass):
    """Options for dividing the pass, and the weights of relations."""

    batch_shares: int = 64
    """What is split over the devices; the rows of each kind in a batch are a multiple of it."""
    weigh: Weigh = "one"
    """Each relation counts 1 (one), or log(1 + weight) (log)."""
    by_degree: bool = True
    """Divide what a relation counts by the root of the product of its ends' sums."""
    unit: ClassVar[str] = "shares"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weigh not in ("one", "log"):
            raise ValueError(f"weigh must be 'one' or 'log', found {self.weigh!r}")

    def _open(
        self, corpus: RelatedTrainVideos, *, seed: int, reads: tuple[str, ...]
    ) -> "WholePassFeed":
        """Raises ValueError if no train video is related to another."""
        if not corpus.train_graph.edges:
            raise ValueError(
                f"the closed form needs related videos, but there is no relation between the "
                f"{int(corpus.is_train.sum())} train videos; lower the co-watch threshold, check "
                "that sessions and table use the same ids, or enlarge the train share"
            )
        check_no_leak(corpus.train_graph, corpus.is_train)
        return WholePassFeed(self, corpus, seed=seed, reads=reads)


class WholePassFeed(OnePassFeed):
    """Batches of one group of B train videos, and m groups of B relations with two rows each:

    rows    i32[1 + 2m, B]        whole  table rows: videos, sources, targets
    counts  f32[1 + m, B/hosts]   own    1 for a video, its weight for a relation; 0: empty slot

    and, in host placement, features and present as in other feeds. B and m follow from the data.
    """

    split_axes: Mapping[str, int | None] = {"rows": None, "counts": 1, "features": 1, "present": 1}

    config: WholePass

    def __init__(
        self, config: WholePass, corpus: RelatedTrainVideos, *, seed: int, reads: tuple[str, ...]
    ) -> None:
        super().__init__(config, corpus, seed=seed, reads=reads)
        graph = scaled(corpus.train_graph, weigh=config.weigh, by_degree=config.by_degree)
        random = np.random.default_rng(seed)
        # In random order, so that work is balanced over steps and devices.
        self.videos = random.permutation(np.flatnonzero(corpus.is_train)).astype(np.int32)
        once = np.flatnonzero(graph.rows() < graph.neighbours)
        once = random.permutation(once)
        self._ends = np.stack([graph.rows()[once], graph.neighbours[once]])
        self._weights = graph.weights[once]
        videos, edges = len(self.videos), len(once)
        self._groups = max(1, round(edges / videos))
        slots = config.parts * config.batch_shares
        self.each = -(-max(videos, -(-edges // self._groups)) // slots)

    @cached_property
    def fingerprint(self) -> str:
        """See `VideoFeed`."""
        digest = xxhash.xxh3_128()
        config = self.config
        digest.update(f"{SEQUENCE} {self.seed} {config.parts} {config.batch_shares} ".encode())
        for array in (self.videos, self._ends, self._weights):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def one_pass(self) -> tuple[int, str]:
        """See `VideoFeed`."""
        size = self.config.parts * self.config.batch_shares
        videos, edges = len(self.videos), len(self._weights)
        return size, f"shares of {videos:,} train videos and {edges:,} relations"

    def _drawn(self, step: int, host_slice: slice) -> Batch:
        check_step(step)
        size = self.config.batch_shares * self.each
        rows = np.full((1 + 2 * self._groups, size), self.videos[0], np.int32)
        counts = np.zeros((1 + self._groups, size), np.float32)
        some = self.videos[step * size : (step + 1) * size]
        rows[0, : len(some)], counts[0, : len(some)] = some, 1
        for group in range(self._groups):
            first = (group * self.config.parts + step) * size
            weights = self._weights[first : first + size]
            ends = self._ends[:, first : first + size]
            rows[1 + group, : len(weights)], rows[1 + self._groups + group, : len(weights)] = ends
            counts[1 + group, : len(weights)] = weights
        return {"rows": rows, "counts": counts[:, host_slice]}
