"""The feed that goes over all train videos and their relations once, in a fixed number of steps.

What is summed over them needs no sampling. A step's share follows from the data: the recipe says
how many steps there are, and every step has as many slots, the last ones empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import xxhash

from vidembed.feeds.feed import Batch, Buffers
from vidembed.feeds.videos import RelatedTrainVideos, VideoFeed, VideoFeedOptions
from vidembed.graph.relation import check_no_leak
from vidembed.graph.scaled import Weigh, scaled
from vidembed.records.statistics import Statistics

# Changed whenever the same seed and data would give other batches than before.
SEQUENCE = 1
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class WholePass(VideoFeedOptions):
    """How the pass is divided, and what a relation counts for.

    parts: steps of the whole pass; the recipe has as many. batch_shares: what is split over the
    devices; a batch has as many rows of each kind as divide by it. weigh: each relation counts 1,
    or log(1 + weight). by_degree: divided by the root of the product of its ends' sums.
    """

    batch_shares: int = 64
    parts: int = 32
    weigh: Weigh = "one"
    by_degree: bool = True
    unit: ClassVar[str] = "shares"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parts < 1:
            raise ValueError(f"parts {self.parts} must be 1 or more")
        if self.weigh not in ("one", "log"):
            raise ValueError(f"weigh must be 'one' or 'log', found {self.weigh!r}")

    def _open(
        self, corpus: RelatedTrainVideos, *, seed: int, reads: tuple[str, ...]
    ) -> "WholePassFeed":
        """ValueError where no train video is related to another."""
        if not corpus.train_graph.edges:
            raise ValueError(
                f"the closed form needs related videos, found no relation between the "
                f"{int(corpus.is_train.sum())} train videos; lower the co-watch threshold, check "
                "that sessions and table speak of the same ids, or enlarge the train share"
            )
        check_no_leak(corpus.train_graph, corpus.is_train)
        return WholePassFeed(self, corpus, seed=seed, reads=reads)


class WholePassFeed(VideoFeed):
    """A batch has one group of B train videos, and m groups of B relations, which are two each:

    rows    i32[1 + 2m, B]        whole  table rows: videos, sources, targets
    counts  f32[1 + m, B/hosts]   own    1 for a video, what it counts for for a relation; 0: empty

    and, in host placement, features and present as other feeds. B and m follow from the data.
    """

    split_axes: Mapping[str, int | None] = {"rows": None, "counts": 1, "features": 1, "present": 1}

    config: WholePass

    def __init__(
        self, config: WholePass, corpus: RelatedTrainVideos, *, seed: int, reads: tuple[str, ...]
    ) -> None:
        super().__init__(config, corpus, seed=seed, reads=reads)
        graph = scaled(corpus.train_graph, weigh=config.weigh, by_degree=config.by_degree)
        random = np.random.default_rng(seed)
        # In random order, so that every step and every device has its share of the work.
        self._videos = random.permutation(np.flatnonzero(corpus.is_train)).astype(np.int32)
        once = np.flatnonzero(graph.rows() < graph.neighbours)
        once = random.permutation(once)
        self._ends = np.stack([graph.rows()[once], graph.neighbours[once]])
        self._weights = graph.weights[once]
        videos, edges = len(self._videos), len(once)
        self._groups = max(1, round(edges / videos))
        slots = config.parts * config.batch_shares
        self._each = -(-max(videos, -(-edges // self._groups)) // slots)
        """Rows of a group in one share."""

    @property
    def whole_steps(self) -> int:
        """How many steps the pass has."""
        return self.config.parts

    @cached_property
    def fingerprint(self) -> str:
        """See `VideoFeed`."""
        digest = xxhash.xxh3_128()
        config = self.config
        digest.update(f"{SEQUENCE} {self.seed} {config.parts} {config.batch_shares} ".encode())
        for array in (self._videos, self._ends, self._weights):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def one_pass(self) -> tuple[int, str]:
        """See `VideoFeed`."""
        size = self.config.parts * self.config.batch_shares
        videos, edges = len(self._videos), len(self._weights)
        return size, f"shares of {videos:,} train videos and {edges:,} relations"

    @property
    def notes(self) -> tuple[str, ...]:
        """Which features are constant, and how many train videos lack a modality."""
        found, videos = [], np.sort(self._videos)
        for modality in self._reads:
            lacking = int((~self._table.has(modality)[videos]).sum())
            if lacking:
                found.append(
                    f"{lacking:,} of {len(videos):,} train videos lack {modality}: its mean stands "
                    "for it"
                )
            flat = np.flatnonzero(self.statistics()[modality]["deviation"] <= 1e-6)
            if len(flat):
                found.append(
                    f"{len(flat)} features of {modality} are constant over the train videos and "
                    f"say nothing: {_some(flat)}"
                )
        return tuple(found)

    @cached_property
    def _statistics(self) -> Statistics:
        return super().statistics()

    def statistics(self) -> Statistics:
        """See `VideoFeed`; ValueError, by name, for features that are not finite."""
        for modality in self._reads:
            known = self._statistics[modality]
            bad = np.flatnonzero(~np.isfinite(known["mean"] + known["deviation"]))
            if len(bad):
                raise ValueError(
                    f"{modality} has values that are not finite among the train videos, in the "
                    f"features {_some(bad)}: find them with `python -m vidembed inspect`, and "
                    "import without them"
                )
        return self._statistics

    def _drawn(self, step: int, own: slice) -> Batch:
        if step < 0:
            raise ValueError(f"a step is a number from 0 on, found {step}")
        size = self.config.batch_shares * self._each
        rows = np.full((1 + 2 * self._groups, size), self._videos[0], np.int32)
        counts = np.zeros((1 + self._groups, size), np.float32)
        some = self._videos[step * size : (step + 1) * size]
        rows[0, : len(some)], counts[0, : len(some)] = some, 1
        for group in range(self._groups):
            first = (group * self.config.parts + step) * size
            here = self._weights[first : first + size]
            ends = self._ends[:, first : first + size]
            rows[1 + group, : len(here)], rows[1 + self._groups + group, : len(here)] = ends
            counts[1 + group, : len(here)] = here
        return {"rows": rows, "counts": counts[:, own]}

    def _make(self, step: int, own: slice, out: Buffers) -> Batch:
        # A host's part in rows, not in shares.
        return super()._make(step, slice(own.start * self._each, own.stop * self._each), out)

    def _buffers(self, examples: int) -> Buffers:
        """None: each batch has its own memory; how many groups there are is known from the data."""
        del examples
        return None


def _some(numbers: np.ndarray) -> str:
    shown = ", ".join(map(str, numbers[:SHOWN]))
    return f"{shown} ..." if len(numbers) > SHOWN else shown
