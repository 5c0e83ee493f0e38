"""The feed of triplets: batch k is a pure function of (seed, k), so resuming needs only k."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np
import xxhash

from vidembed import TUNABLE
from vidembed.feeds.feed import Batch
from vidembed.feeds.forbidden import SIZING_BATCHES, Capacities, ForbiddenPairs
from vidembed.feeds.negatives import Negatives, UniformNegatives
from vidembed.feeds.sampling import Anchors, Sampling, TripletSampler, anchor_chances
from vidembed.feeds.videos import RelatedTrainVideos, RelatedVideoFeedOptions, VideoFeed
from vidembed.graph.relation import check_no_leak

# Increase this whenever the same seed and data would give other batches than before.
SEQUENCE = 2
LARGE_FORBIDDEN = "large_forbidden"
"""Event: a batch needs the large capacity."""


@dataclass(frozen=True, kw_only=True)
class Triplets(RelatedVideoFeedOptions):
    """Options for drawing triplets."""

    batch_triplets: int = 7200
    """Triplets in a batch, over all devices."""
    anchors: Anchors = "edges"
    """edges draws a pair of related videos, either its anchor (CDML); videos an anchor uniformly
    among the train videos that have relations, and its positive uniformly among these (GCML)."""
    sampling: Sampling = "uniform"
    """Draw edges uniformly, or in proportion to their weights."""
    negatives: Negatives = UniformNegatives()
    """Where sampled negatives come from: any train video, or one of a sibling cluster."""
    max_forbidden_pairs: Annotated[int, TUNABLE] = 2**24
    """The most forbidden pairs that a batch may have. Each takes 8 bytes on every host and device
    (134 MB by default). A graph that could need more is refused."""
    unit: ClassVar[str] = "triplets"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampling not in ("uniform", "weight"):
            raise ValueError(f"sampling must be 'uniform' or 'weight', found {self.sampling!r}")
        if self.anchors not in ("edges", "videos"):
            raise ValueError(f"anchors must be 'edges' or 'videos', found {self.anchors!r}")
        if self.anchors == "videos" and self.sampling == "weight":
            raise ValueError(
                "sampling='weight' draws edges, but anchors='videos' draws an anchor and one of "
                "its neighbours uniformly: choose sampling='uniform', or anchors='edges'"
            )

    def _open(
        self, corpus: RelatedTrainVideos, *, seed: int, reads: tuple[str, ...]
    ) -> "TripletFeed":
        """The feed over the edges of the train graph; LeakError if one has an end outside it."""
        graph, is_train = corpus.train_graph, corpus.is_train
        trained = int(np.count_nonzero(is_train))
        if trained < 2:
            raise ValueError(
                f"triplets need at least 2 train videos, found {trained} of {len(is_train)}; "
                "enlarge the data or the train share of the split"
            )
        if not graph.edges:
            raise ValueError(
                "triplets need related videos, but there is no edge between the "
                f"{trained} train videos; "
                "lower the co-watch threshold, check that sessions and table use the same ids, or "
                "enlarge the train share"
            )
        check_no_leak(graph, is_train)
        return TripletFeed(self, corpus, seed=seed, reads=reads)


class TripletFeed(VideoFeed):
    """Batches of B triplets. Slots are ordered negatives, positives, anchors:

    rows              i32[3, B]          whole  table rows
    negative_slot     i32[B/hosts]       own    slot of the first occurrence of the sampled negative
    negative_allowed  bool[B/hosts]      own    whether the anchor may take that negative
    drawn_at          bool[L+1, B/hosts] own    for sibling negatives: whether it came from this
                                                level; last: from all train videos, or from none
    features          name -> [3, B/hosts, F]   own
    present           name -> bool[3, B/hosts]  own
    first             bool[3, B]         whole  whether the slot is the first of its video
    forbidden         i32[2, P]          whole  (anchor, slot forbidden to it), in order of anchor;
                                                (B, 3B) is padding

    Anchors and slots are numbered over the whole batch, 0..B-1 and, row by row, 0..3B-1: the pool
    of candidates is global. P is the smaller of two capacities that holds the batch's pairs.
    """

    split_axes: Mapping[str, int | None] = {
        "rows": None,
        "first": None,
        "negative_slot": 0,
        "negative_allowed": 0,
        "drawn_at": 1,
        "forbidden": None,
        "features": 1,
        "present": 1,
    }

    groups: ClassVar[tuple[int, ...]] = (3,)

    config: Triplets
    _corpus: RelatedTrainVideos

    def __init__(
        self, config: Triplets, corpus: RelatedTrainVideos, *, seed: int, reads: tuple[str, ...]
    ) -> None:
        super().__init__(config, corpus, seed=seed, reads=reads)
        self._sampler = TripletSampler.of(
            corpus.train_graph,
            corpus.is_train,
            sampling=config.sampling,
            anchors=config.anchors,
            siblings=config.negatives.open(corpus),
        )
        self._pairs = ForbiddenPairs(corpus.train_relations)
        self._chances = anchor_chances(corpus.train_graph, config.anchors, config.sampling)
        self.capacities = Capacities.of(
            (self._pairs.of(self._sampled(step)[0]).total for step in range(SIZING_BATCHES)),
            corpus.train_relations.degrees(),
            self._chances,
            triplets=config.batch_triplets,
            max_forbidden_pairs=config.max_forbidden_pairs,
        )

    @property
    def one_pass(self) -> tuple[int, str]:
        """See `Feed`; counts what anchors are drawn from."""
        graph = self._corpus.train_graph
        if self.config.anchors == "edges":
            return graph.edges, "train relations"
        return int(np.count_nonzero(graph.degrees())), "train videos with relations"

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Sentences to show the user: where negatives come from, unless default; the capacities."""
        config, siblings = self.config, self._sampler.siblings
        if siblings is None:
            return (self.capacities.note,)
        return (*config.negatives.notes(siblings, self._chances), self.capacities.note)

    @property
    def events(self) -> tuple[str, ...]:
        """See `Feed`."""
        capacities = self.capacities
        return (LARGE_FORBIDDEN,) if capacities.ordinary < capacities.large else ()

    def events_of(self, batch: Batch) -> Iterable[str]:
        """See `Feed`."""
        large = batch["forbidden"].shape[1] > self.capacities.ordinary
        return (LARGE_FORBIDDEN,) if large else ()

    @cached_property
    def fingerprint(self) -> str:
        """See `Feed`. The capacity for forbidden pairs is not part of it, either."""
        config = self.config
        settings = (SEQUENCE, config.batch_triplets, config.sampling)
        corpus = self._corpus
        data = (corpus.table, corpus.train_graph, corpus.train_relations)
        fingerprints = [part.fingerprint for part in data]
        digest = xxhash.xxh3_128(repr((*settings, self.seed, *fingerprints)).encode())
        digest.update(np.packbits(corpus.is_train).tobytes())
        # Only if they are used, so that earlier fingerprints stay valid.
        if config.anchors != "edges":
            digest.update(repr(config.anchors).encode())
        if (siblings := self._sampler.siblings) is not None:
            sibling_settings = (*config.negatives.settings, siblings.hierarchy_fingerprint)
            digest.update(repr(sibling_settings).encode())
        return digest.hexdigest()

    def _sampled(self, step: int) -> tuple[np.ndarray, np.ndarray | None]:
        config = self.config
        level = config.negatives.level_at(step)
        return self._sampler.draw(self.seed, step, config.batch_triplets, level=level)

    def _drawn(self, step: int, host_slice: slice) -> Batch:
        rows, drawn_at = self._sampled(step)
        forbidden = self._pairs.of(rows)
        pairs, allowed = forbidden.flat(self.capacities.fitting(forbidden.total, step))
        slots = np.arange(rows.size, dtype=np.int32).reshape(rows.shape)
        batch: Batch = {
            "rows": rows,
            "first": forbidden.first_slot == slots,
            "negative_slot": forbidden.first_slot[0, host_slice],
            "negative_allowed": allowed[host_slice],
            "forbidden": pairs,
        }
        if drawn_at is not None:
            batch["drawn_at"] = drawn_at[:, host_slice]
        return batch
