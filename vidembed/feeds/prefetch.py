"""What feeds share: their data, what travels to the device, hosts' shares, and reading ahead."""

import time
from collections.abc import Callable, Generator
from typing import Any, Literal, Protocol

import grain
import numpy as np

from vidembed.graph.hierarchy import Hierarchy
from vidembed.graph.relation import RelationGraph
from vidembed.records.table import FeatureTable

Batch = dict[str, Any]
Buffers = dict[str, np.ndarray] | None
Placement = Literal["device", "host"]

# A batch from `batches` may be used until this many further ones have been taken.
HELD_BATCHES = 4


class RelatedTrainVideos(Protocol):
    """What feeds draw from: a Corpus is one."""

    @property
    def table(self) -> FeatureTable: ...
    @property
    def train_graph(self) -> RelationGraph: ...
    @property
    def train_relations(self) -> RelationGraph: ...
    @property
    def is_train(self) -> np.ndarray: ...
    @property
    def hierarchy(self) -> Hierarchy | None: ...


def check_reading(placement: Placement, read_threads: int, prefetch_batches: int) -> None:
    """Raises ValueError unless the options that every feed has fit each other."""
    if placement not in ("device", "host"):
        raise ValueError(f"placement must be 'device' or 'host', found {placement!r}")
    if not 0 <= read_threads <= prefetch_batches:
        raise ValueError(
            f"read_threads must lie between 0 and prefetch_batches, found {read_threads} "
            f"threads and {prefetch_batches} batches: a thread without a batch to make "
            "ahead is idle"
        )


def check_rows(corpus: RelatedTrainVideos) -> None:
    """Raises ValueError unless table, graph and split speak of as many rows."""
    table, nodes, is_train = corpus.table, corpus.train_graph.nodes, corpus.is_train
    if not len(table) == nodes == len(is_train):
        raise ValueError(
            f"table, graph and split must speak of the same rows, found {len(table)} videos, "
            f"{nodes} graph nodes and {len(is_train)} split entries"
        )


def own_share(unit: str, batch: int, *, seed: int, process_index: int, process_count: int) -> slice:
    """This host's part of a batch of so many `unit`s, cut into contiguous, equal parts.

    Raises ValueError where the hosts cannot share it evenly, or the seed cannot be drawn from.
    """
    if batch % process_count:
        below = batch // process_count * process_count
        nearest = f"{below} or {below + process_count}" if below else f"{process_count}"
        raise ValueError(
            f"batch_{unit} must be a multiple of the number of hosts, found "
            f"{batch} {unit} on {process_count} hosts; {nearest} would do"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index must lie in [0, {process_count}), found {process_index}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie in [0, 2^64), found {seed}")
    share = batch // process_count
    return slice(process_index * share, (process_index + 1) * share)


def needed_hierarchy(corpus: RelatedTrainVideos, what: str) -> Hierarchy:
    """The hierarchy that `what` needs; raises ValueError where there is none."""
    if corpus.hierarchy is None:
        raise ValueError(
            f"{what} need clusters of the train graph: set --corpus.hierarchy PATH, made by "
            "`python -m vidembed cluster`"
        )
    return corpus.hierarchy


def check_step(step: int) -> None:
    """Raises ValueError unless a batch of this number exists."""
    if not 0 <= step < 2**64:
        raise ValueError(f"a step is a number from 0 on, found {step}")


def gathered(table: FeatureTable, rows: np.ndarray, placement: Placement, out: Buffers) -> Batch:
    """What the batch of these rows i32[...] carries besides: features and present, on the host.

    features: name → [..., F] as stored, in `out` where given; present: name → bool[...], only
    where the table lacks rows. Nothing in device placement.
    """
    if placement != "host":
        return {}
    batch: Batch = {"features": table.rows(rows, out=out)}
    if table.present:
        batch["present"] = {name: mask[rows] for name, mask in table.present.items()}
    return batch


def read_ahead(
    make: Callable[[int, Buffers], Batch],
    start: int,
    stop: int,
    *,
    buffers: Callable[[], Buffers],
    read_threads: int,
    prefetch_batches: int,
) -> Generator[tuple[int, Batch, float], None, None]:
    """Yields (step, batch, seconds waited for it) for steps start..stop-1; resume is `start`.

    Gathered features lie in a ring of reused buffers, for the page faults of fresh ones cost
    more than the gather: a batch is valid until HELD_BATCHES further ones have been taken. By
    then the step that uses it must be done, not only dispatched: `jax.device_put` may still be
    reading the memory, and on CPU may share it for good. Close the generator to stop early.
    """
    ring = [buffers() for _ in range(prefetch_batches + HELD_BATCHES + 1)]
    steps = grain.MapDataset.range(start, stop)
    dataset = steps.map(lambda step: make(int(step), ring[step % len(ring)]))
    options = grain.ReadOptions(num_threads=read_threads, prefetch_buffer_size=prefetch_batches)
    iterator = iter(dataset.to_iter_dataset(options))
    try:
        for step in range(start, stop):
            began = time.perf_counter()
            batch = next(iterator)
            yield step, batch, time.perf_counter() - began
    finally:
        iterator.close()


def empty_features(table: FeatureTable, rows: tuple[int, ...], placement: Placement) -> Buffers:
    """Memory for the features of a batch whose rows have this shape; None in device placement."""
    if placement != "host":
        return None
    return {
        name: np.empty((*rows, array.shape[1]), array.dtype)
        for name, array in table.features.items()
    }
