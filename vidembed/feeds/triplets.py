"""The feed of triplets: batch k is a pure function of (seed, k), so resuming needs only k."""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np
import xxhash

from vidembed.feeds import prefetch
from vidembed.feeds.capacities import SIZING_BATCHES, Capacities
from vidembed.feeds.forbidden import ForbiddenPairs
from vidembed.feeds.negatives import SiblingNegatives, UniformNegatives
from vidembed.feeds.prefetch import Batch, Placement, RelatedTrainVideos
from vidembed.feeds.sampling import Anchors, Sampling, TripletSampler, anchor_chances
from vidembed.field_roles import TUNABLE
from vidembed.graph.relation import RelationGraph
from vidembed.graph.split import check_no_leak
from vidembed.records.table import FeatureTable

# Changed whenever the same seed and data would give other batches than before.
SEQUENCE = 2
LARGE_FORBIDDEN = "large_forbidden"
"""The event of a batch that needs the large capacity."""


@dataclass(frozen=True, kw_only=True)
class Triplets:
    """How triplets are drawn and what of them travels to the device.

    anchors: "edges" draws a pair of related videos, either its anchor (CDML); "videos" an anchor
    uniformly among the train videos that have relations, its positive uniformly among these (GCML).
    sampling: edges uniformly, or in proportion to their weights. negatives: any train video, or
    one of a sibling cluster. placement: "device" sends row numbers to a table that is resident
    there, "host" gathers the features here and sends them as stored. max_forbidden_pairs: the most
    forbidden pairs that a batch may have; each takes 8 bytes on every host and device (134 MB by
    default). A graph that could need more is refused. read_threads and prefetch_batches: batches
    made at the same time, and ahead of their use; 0 and 0 make each batch when it is asked for.
    """

    batch_triplets: int = 7200
    anchors: Anchors = "edges"
    sampling: Sampling = "uniform"
    negatives: UniformNegatives | SiblingNegatives = UniformNegatives()
    placement: Annotated[Placement, TUNABLE] = "device"
    max_forbidden_pairs: Annotated[int, TUNABLE] = 2**24
    read_threads: Annotated[int, TUNABLE] = 2
    prefetch_batches: Annotated[int, TUNABLE] = 4
    unit: ClassVar[str] = "triplets"

    def __post_init__(self) -> None:
        if self.batch_triplets < 1:
            raise ValueError(f"batch_triplets must be at least 1, found {self.batch_triplets}")
        if self.sampling not in ("uniform", "weight"):
            raise ValueError(f"sampling must be 'uniform' or 'weight', found {self.sampling!r}")
        if self.anchors not in ("edges", "videos"):
            raise ValueError(f"anchors must be 'edges' or 'videos', found {self.anchors!r}")
        if self.anchors == "videos" and self.sampling == "weight":
            raise ValueError(
                "sampling='weight' draws edges, anchors='videos' draws an anchor and one of its "
                "neighbours, all alike: choose sampling='uniform', or anchors='edges'"
            )
        prefetch.check_reading(self.placement, self.read_threads, self.prefetch_batches)

    @property
    def examples(self) -> int:
        """B: what is split over the devices."""
        return self.batch_triplets

    def one_pass(self, corpus: RelatedTrainVideos) -> tuple[int, str]:
        """How many triplets make one pass over what anchors are drawn from, and what that is."""
        if self.anchors == "edges":
            return corpus.train_graph.edges, "train relations"
        return int(np.count_nonzero(corpus.train_graph.degrees())), "train videos with relations"

    def classes(self, corpus: object) -> int:
        """0: triplets have no labels."""
        del corpus
        return 0

    def open(
        self,
        corpus: RelatedTrainVideos,
        *,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> "TripletFeed":
        """The feed over the edges of the train graph, which must lie within the train rows.

        Every host makes the same global batch and keeps its own slice of the B axis. Raises
        ValueError where there is nothing to draw from or the hosts cannot share the batch evenly.
        """
        table, is_train = corpus.table, corpus.is_train
        graph = corpus.train_graph
        prefetch.check_rows(corpus)
        own = prefetch.own_share(
            self.unit,
            self.batch_triplets,
            seed=seed,
            process_index=process_index,
            process_count=process_count,
        )
        trained = int(np.count_nonzero(is_train))
        if trained < 2:
            raise ValueError(
                f"triplets need at least 2 train videos, found {trained} of {len(is_train)}; "
                "enlarge the data or the train share of the split"
            )
        within = graph.within(is_train)
        if not within.edges:
            raise ValueError(
                f"triplets need related videos, found no edge between the {trained} train videos "
                f"(the whole graph has {graph.edges}); lower the co-watch threshold, check that "
                "sessions and table speak of the same ids, or enlarge the train share"
            )
        check_no_leak(within, is_train)
        # A graph that had no other edges serves itself, without a second copy of it in memory.
        within = graph if within.edges == graph.edges else within
        return TripletFeed(
            config=self,
            table=table,
            graph=within,
            relations=corpus.train_relations,
            is_train=is_train,
            sampler=TripletSampler.of(
                within,
                is_train,
                sampling=self.sampling,
                anchors=self.anchors,
                siblings=self.negatives.open(corpus),
            ),
            seed=seed,
            own=own,
        )


class TripletFeed:
    """Random access to the batches of one run on one host; made by `Triplets.open`.

    A batch of B triplets, as a dict. Slots are ordered negatives, positives, anchors; "own" is
    this host's contiguous slice of the B axis, "whole" is the same on every host:

    rows              i32[3, B]          whole  table rows
    negative_slot     i32[B/hosts]       own    slot of the first occurrence of the sampled negative
    negative_allowed  bool[B/hosts]      own    whether the anchor may take that negative
    drawn_at          bool[L+1, B/hosts] own    only of sibling negatives: whether it came from this
                                                level; the last: from all train videos, or from none
    features          name -> [3, B/hosts, F]   own; only in host placement, dtype as stored
    present           name -> bool[3, B/hosts]  own; only where the table lacks rows
    first             bool[3, B]         whole  whether the slot is the first of its video
    forbidden         i32[2, P]          whole  (anchor, slot that it must never take), in order of
                                                anchor; (B, 3B) is padding

    Anchors and slots are numbered over the whole batch, 0..B-1 and, row by row, 0..3B-1: the pool
    of candidates is global. P is one of two capacities, the smaller that holds the batch's pairs.
    `split_axes` says the same to the mesh: the axis of each entry that is split; None is whole.
    """

    split_axes: ClassVar[Mapping[str, int | None]] = {
        "rows": None,
        "first": None,
        "negative_slot": 0,
        "negative_allowed": 0,
        "drawn_at": 1,
        "forbidden": None,
        "features": 1,
        "present": 1,
    }

    def __init__(
        self,
        *,
        config: Triplets,
        table: FeatureTable,
        graph: RelationGraph,
        relations: RelationGraph,
        is_train: np.ndarray,
        sampler: TripletSampler,
        seed: int,
        own: slice,
    ) -> None:
        self.config = config
        self.seed = seed
        self._table = table
        self._graph = graph
        self._relations = relations
        self._is_train = is_train
        self._sampler = sampler
        self._pairs = ForbiddenPairs(relations)
        self._own = own
        self._chances = anchor_chances(graph, config.anchors, config.sampling)
        self.capacities = Capacities.of(
            (self._pairs.of(self._draw(step)[0]).total for step in range(SIZING_BATCHES)),
            relations.degrees(),
            self._chances,
            triplets=config.batch_triplets,
            max_forbidden_pairs=config.max_forbidden_pairs,
        )

    def at(self, step: int) -> Batch:
        """Batch `step` of this host, in fresh memory; the same from any thread, in any order."""
        return self._make(step, out=None)

    def ids_at(self, step: int) -> np.ndarray:
        """Ids S[3, B] of the whole batch `step`, for messages about it."""
        return self._table.ids[self._draw(step)[0]]

    def batches(self, start: int, stop: int) -> Generator[tuple[int, Batch, float], None, None]:
        """Yields (step, batch, seconds waited for it); see `prefetch.read_ahead` for their life."""
        config, share = self.config, self._own.stop - self._own.start
        return prefetch.read_ahead(
            self._make,
            start,
            stop,
            buffers=lambda: prefetch.empty_features(self._table, (3, share), config.placement),
            read_threads=config.read_threads,
            prefetch_batches=config.prefetch_batches,
        )

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """For people: where negatives come from, unless that is the default, and the capacities."""
        config, siblings = self.config, self._sampler.siblings
        if siblings is None or isinstance(config.negatives, UniformNegatives):
            return (self.capacities.note,)
        return (*config.negatives.notes(siblings, self._chances), self.capacities.note)

    @property
    def events(self) -> tuple[str, ...]:
        """Names of what `events_of` may say of a batch."""
        capacities = self.capacities
        return (LARGE_FORBIDDEN,) if capacities.ordinary < capacities.large else ()

    def events_of(self, batch: Batch) -> Iterable[str]:
        """Rare events that this batch is one of, to be counted."""
        large = batch["forbidden"].shape[1] > self.capacities.ordinary
        return (LARGE_FORBIDDEN,) if large else ()

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of all that the sequence of batches depends on besides the step.

        Placement, threads, number of hosts and the room for forbidden pairs are no part of it:
        they change neither what is drawn nor what is forbidden.
        """
        config = self.config
        settings = (SEQUENCE, config.batch_triplets, config.sampling)
        data = (self._table, self._graph, self._relations)
        prints = [part.fingerprint for part in data]
        digest = xxhash.xxh3_128(repr((*settings, self.seed, *prints)).encode())
        digest.update(np.packbits(self._is_train).tobytes())
        # Only where they are used.
        if config.anchors != "edges":
            digest.update(repr(config.anchors).encode())
        if (siblings := self._sampler.siblings) is not None:
            own = (*config.negatives.settings, siblings.hierarchy_fingerprint)
            digest.update(repr(own).encode())
        return digest.hexdigest()

    def _draw(self, step: int) -> tuple[np.ndarray, np.ndarray | None]:
        prefetch.check_step(step)
        config = self.config
        level = config.negatives.level_at(step)
        return self._sampler.draw(self.seed, step, config.batch_triplets, level=level)

    def _make(self, step: int, out: prefetch.Buffers) -> Batch:
        (rows, drawn_at), own = self._draw(step), self._own
        found = self._pairs.of(rows)
        pairs, allowed = found.flat(self.capacities.fitting(found.total, step))
        slots = np.arange(rows.size, dtype=np.int32).reshape(rows.shape)
        batch: Batch = {
            "rows": rows,
            "first": found.first_slot == slots,
            "negative_slot": found.first_slot[0, own],
            "negative_allowed": allowed[own],
            "forbidden": pairs,
        }
        if drawn_at is not None:
            batch["drawn_at"] = drawn_at[:, own]
        return batch | prefetch.gathered(self._table, rows[:, own], self.config.placement, out)
