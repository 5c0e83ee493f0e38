"""The feed of triplets: batch k is a pure function of (seed, k), so resuming needs only k."""

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

import grain
import numpy as np
import xxhash

from vidembed.feeds.forbidden import SIZING_BATCHES, ForbiddenPairs, sized_width
from vidembed.feeds.sampling import Sampling, TripletSampler
from vidembed.graph.relation import RelationGraph
from vidembed.graph.split import check_no_leak
from vidembed.records.table import FeatureTable

Batch = dict[str, Any]
Placement = Literal["device", "host"]

# Changed whenever the same seed and data would give other batches than before.
SEQUENCE = 1
# A batch from `batches` may be used until this many further ones have been taken.
HELD_BATCHES = 4


class RelatedTrainVideos(Protocol):
    """What triplets are drawn from: a Corpus is one."""

    @property
    def table(self) -> FeatureTable: ...
    @property
    def train_graph(self) -> RelationGraph: ...
    @property
    def is_train(self) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class Triplets:
    """How triplets are drawn and what of them travels to the device.

    sampling: edges uniformly, or in proportion to their weights. placement: "device" sends row
    numbers to a table that is resident there, "host" gathers the features here and sends them as
    stored. max_forbidden: K, the width of the forbidden lists; None sizes it from the data.
    read_threads and prefetch_batches: batches made at the same time, and ahead of their use; 0
    and 0 make each batch when it is asked for.
    """

    batch_triplets: int = 7200
    sampling: Sampling = "uniform"
    placement: Placement = "device"
    max_forbidden: int | None = None
    read_threads: int = 2
    prefetch_batches: int = 4

    def __post_init__(self) -> None:
        if self.batch_triplets < 1:
            raise ValueError(f"batch_triplets must be at least 1, found {self.batch_triplets}")
        if self.sampling not in ("uniform", "weight"):
            raise ValueError(f"sampling must be 'uniform' or 'weight', found {self.sampling!r}")
        if self.placement not in ("device", "host"):
            raise ValueError(f"placement must be 'device' or 'host', found {self.placement!r}")
        if self.max_forbidden is not None and self.max_forbidden < 2:
            raise ValueError(
                f"max_forbidden must be at least 2 (the anchor and its positive), found "
                f"{self.max_forbidden}; None sizes it from the data"
            )
        if not 0 <= self.read_threads <= self.prefetch_batches:
            raise ValueError(
                f"read_threads must lie between 0 and prefetch_batches, found {self.read_threads} "
                f"threads and {self.prefetch_batches} batches: a thread without a batch to make "
                "ahead is idle"
            )

    def shapes(
        self, features: Mapping[str, np.ndarray], *, forbidden: int
    ) -> tuple[Batch, Mapping[str, int | None]]:
        """A whole batch as arrays without content or memory, and the axes that are split.

        For arithmetic before there is data. `features`: modality → array [N, F]; `forbidden`: K.
        """
        triplets = self.batch_triplets
        shapes: dict[str, tuple[tuple[int, ...], type]] = {
            "rows": ((3, triplets), np.int32),
            "first": ((3, triplets), np.bool_),
            "negative_slot": ((triplets,), np.int32),
            "forbidden": ((triplets, forbidden), np.int32),
            "overflow": ((), np.int32),
        }
        batch: Batch = {n: np.broadcast_to(d(0), shape) for n, (shape, d) in shapes.items()}
        if self.placement == "host":
            batch["features"] = {
                name: np.broadcast_to(rows.dtype.type(0), (3, triplets, rows.shape[1]))
                for name, rows in features.items()
            }
        return batch, TripletFeed.split_axes

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
        table, graph, is_train = corpus.table, corpus.train_graph, corpus.is_train
        if not len(table) == graph.nodes == len(is_train):
            raise ValueError(
                f"table, graph and split must speak of the same rows, found {len(table)} videos, "
                f"{graph.nodes} graph nodes and {len(is_train)} split entries"
            )
        if self.batch_triplets % process_count:
            below = self.batch_triplets // process_count * process_count
            nearest = f"{below} or {below + process_count}" if below else f"{process_count}"
            raise ValueError(
                f"batch_triplets must be a multiple of the number of hosts, found "
                f"{self.batch_triplets} triplets on {process_count} hosts; {nearest} would do"
            )
        if not 0 <= process_index < process_count:
            raise ValueError(
                f"process_index must lie in [0, {process_count}), found {process_index}"
            )
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed must lie in [0, 2^64), found {seed}")
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
            is_train=is_train,
            seed=seed,
            process_index=process_index,
            process_count=process_count,
        )


class TripletFeed:
    """Random access to the batches of one run on one host; made by `Triplets.open`.

    A batch of B triplets, as a dict. Slots are ordered negatives, positives, anchors; "own" is
    this host's contiguous slice of the B axis, "whole" is the same on every host:

    rows           i32[3, B/hosts]      own    table rows
    negative_slot  i32[B/hosts]         own    slot of the first occurrence of the sampled negative
    forbidden      i32[B/hosts, K]      own    slots each anchor must never take; 3B is padding
    features       name -> [3, B/hosts, F]     own; only in host placement, dtype as stored
    present        name -> bool[3, B/hosts]    own; only where the table lacks rows
    first          bool[3, B]           whole  whether the slot is the first of its video
    overflow       i32[]                whole  forbidden pairs that did not fit in K

    Slots are numbered over the whole batch, 0..3B-1 row by row: the pool of candidates is global.
    `split_axes` says the same to the mesh: the axis of each entry that is split; None is whole.
    """

    split_axes: ClassVar[Mapping[str, int | None]] = {
        "rows": 1,
        "first": None,
        "negative_slot": 0,
        "forbidden": 0,
        "overflow": None,
        "features": 1,
        "present": 1,
    }

    def __init__(
        self,
        *,
        config: Triplets,
        table: FeatureTable,
        graph: RelationGraph,
        is_train: np.ndarray,
        seed: int,
        process_index: int,
        process_count: int,
    ) -> None:
        self.config = config
        self.seed = seed
        self._table = table
        self._graph = graph
        self._is_train = is_train
        self._sampler = TripletSampler.of(graph, is_train, config.sampling)
        self._pairs = ForbiddenPairs(graph)
        share = config.batch_triplets // process_count
        self._own = slice(process_index * share, (process_index + 1) * share)
        self.forbidden_width = config.max_forbidden or sized_width(
            self._pairs, (self._rows(step) for step in range(SIZING_BATCHES))
        )

    def at(self, step: int) -> Batch:
        """Batch `step` of this host, in fresh memory; the same from any thread, in any order."""
        return self._make(step, out=None)

    def ids_at(self, step: int) -> np.ndarray:
        """Ids S[3, B] of the whole batch `step`, for messages about it."""
        return self._table.ids[self._rows(step)]

    def batches(self, start: int, stop: int) -> Generator[tuple[int, Batch, float], None, None]:
        """Yields (step, batch, seconds waited for it) for steps start..stop-1; resume is `start`.

        Gathered features lie in a ring of reused buffers, for the page faults of fresh ones cost
        more than the gather: a batch is valid until HELD_BATCHES further ones have been taken. By
        then the step that uses it must be done, not only dispatched: `jax.device_put` may still be
        reading the memory, and on CPU may share it for good. Close the generator to stop early.
        """
        config = self.config
        ring = [self._buffers() for _ in range(config.prefetch_batches + HELD_BATCHES + 1)]
        steps = grain.MapDataset.range(start, stop)
        dataset = steps.map(lambda step: self._make(int(step), out=ring[step % len(ring)]))
        options = grain.ReadOptions(
            num_threads=config.read_threads, prefetch_buffer_size=config.prefetch_batches
        )
        iterator = iter(dataset.to_iter_dataset(options))
        try:
            for step in range(start, stop):
                began = time.perf_counter()
                batch = next(iterator)
                yield step, batch, time.perf_counter() - began
        finally:
            iterator.close()

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of all that the sequence of batches depends on besides the step.

        Placement, threads and number of hosts are no part of it: they change no batch.
        """
        config = self.config
        settings = (SEQUENCE, config.batch_triplets, config.sampling, self.forbidden_width)
        data = (self._table.fingerprint, self._graph.fingerprint)
        digest = xxhash.xxh3_128(repr((*settings, self.seed, *data)).encode())
        digest.update(np.packbits(self._is_train).tobytes())
        return digest.hexdigest()

    def _rows(self, step: int) -> np.ndarray:
        if not 0 <= step < 2**64:
            raise ValueError(f"a step is a number from 0 on, found {step}")
        return self._sampler.rows(self.seed, step, self.config.batch_triplets)

    def _make(self, step: int, out: dict[str, np.ndarray] | None) -> Batch:
        rows, own = self._rows(step), self._own
        lists = self._pairs.lists(rows, self.forbidden_width)
        slots = np.arange(rows.size, dtype=np.int32).reshape(rows.shape)
        batch: Batch = {
            "rows": rows[:, own],
            "first": lists.first_slot == slots,
            "negative_slot": lists.first_slot[0, own],
            "forbidden": lists.forbidden[own],
            "overflow": np.array(lists.overflow, np.int32),
        }
        if self.config.placement == "host":
            batch["features"] = self._table.rows(batch["rows"], out=out)
            if self._table.present:
                batch["present"] = {
                    name: mask[batch["rows"]] for name, mask in self._table.present.items()
                }
        return batch

    def _buffers(self) -> dict[str, np.ndarray] | None:
        if self.config.placement != "host":
            return None
        share = self._own.stop - self._own.start
        return {
            name: np.empty((3, share, array.shape[1]), array.dtype)
            for name, array in self._table.features.items()
        }
