"""What feeds share: their data, the options of reading, hosts' shares, features, reading ahead."""

import abc
import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar

import grain
import numpy as np

from vidembed import TUNABLE
from vidembed.graph.hierarchy import Hierarchy
from vidembed.graph.relation import RelationGraph
from vidembed.records.rows import resident_rows
from vidembed.records.statistics import Statistics, train_statistics
from vidembed.records.table import FeatureTable
from vidembed.tasks.spec import Spec

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


def needed_hierarchy(corpus: RelatedTrainVideos, what: str) -> Hierarchy:
    """The hierarchy that `what` needs; raises ValueError where there is none."""
    if corpus.hierarchy is None:
        raise ValueError(
            f"{what} need clusters of the train graph: set --corpus.hierarchy PATH, made by "
            "`python -m vidembed cluster`"
        )
    return corpus.hierarchy


class Feed(abc.ABC):
    """Random access to the batches of one run on one host.

    A batch is a dict. Its rows i32[..., B] are whole on every host; `own` is a host's contiguous
    slice of the B axis. In host placement it holds the host's part of `features` (name → [..., F],
    as stored) and, where the table lacks rows, `present` (name → bool[...]).
    """

    config: "FeedOptions"
    split_axes: ClassVar[Mapping[str, int | None]]
    """Entry of the batch → its axis that is split over the mesh's data axis; None is whole."""
    groups: ClassVar[tuple[int, ...]] = ()
    """The axes of the rows before B."""

    def __init__(self, corpus: RelatedTrainVideos, *, seed: int, reads: tuple[str, ...]) -> None:
        """reads: the modalities that the task reads."""
        self.seed = seed
        self._corpus, self._table, self._reads = corpus, corpus.table, reads

    @property
    def spec(self) -> Spec:
        """Sizes that the shapes of parameters follow from."""
        return Spec(widths=self._table.widths)

    @property
    @abc.abstractmethod
    def one_pass(self) -> tuple[int, str]:
        """How many examples make one pass over what is drawn from, and what that is."""

    def statistics(self) -> Statistics:
        """Mean and deviation of each feature over the train split."""
        return train_statistics(self._table, self._corpus.is_train)

    def resident(self) -> Mapping[str, Any]:
        """What a step gathers from the devices: features as stored, and who has them; {} in host
        placement."""
        if self.config.placement == "host":
            return {}
        return resident_rows(self._table, self._reads)

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Hex digest of all that the sequence of batches depends on besides the step.

        Placement, threads and number of hosts are no part of it: they change no batch.
        """

    @property
    @abc.abstractmethod
    def notes(self) -> tuple[str, ...]:
        """What there is to say of the feed, for people."""

    @property
    def events(self) -> tuple[str, ...]:
        """Names of what `events_of` may say of a batch."""
        return ()

    def events_of(self, batch: Batch) -> Iterable[str]:
        """Rare events that this batch is one of, to be counted."""
        del batch
        return ()

    def at(self, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """Batch `step` of a host, in fresh memory; the same from any thread, in any order.

        part: the host's number, and how many there are. Every host makes the same global batch and
        keeps its own part.
        """
        return self._make(step, self.config.own(part), out=None)

    def ids_at(self, step: int) -> np.ndarray:
        """Ids S[..., B] of the whole batch `step`, for messages about it."""
        return self._table.ids[self._drawn(step, self.config.own((0, 1)))["rows"]]

    def batches(
        self, start: int, stop: int, part: tuple[int, int] = (0, 1)
    ) -> Generator[tuple[int, Batch, float], None, None]:
        """Yields (step, batch, seconds waited for it) for steps start..stop-1, read ahead.

        Gathered features lie in a ring of reused buffers, for the page faults of fresh ones cost
        more than the gather: a batch is valid until HELD_BATCHES further ones have been taken. By
        then the step that uses it must be done, not only dispatched: `jax.device_put` may still be
        reading the memory, and on CPU may share it for good. Close the generator to stop early.
        """
        threads, ahead = self.config.read_threads, self.config.prefetch_batches
        own = self.config.own(part)
        ring = [self._buffers(own.stop - own.start) for _ in range(ahead + HELD_BATCHES + 1)]
        steps = grain.MapDataset.range(start, stop)
        dataset = steps.map(lambda step: self._make(int(step), own, out=ring[step % len(ring)]))
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        iterator = iter(dataset.to_iter_dataset(options))
        try:
            for step in range(start, stop):
                began = time.perf_counter()
                batch = next(iterator)
                yield step, batch, time.perf_counter() - began
        finally:
            iterator.close()

    @abc.abstractmethod
    def _drawn(self, step: int, own: slice) -> Batch:
        """The batch of a host without its features."""

    def _make(self, step: int, own: slice, out: Buffers) -> Batch:
        batch = self._drawn(step, own)
        if self.config.placement == "host":
            rows = batch["rows"][..., own]
            batch["features"] = self._table.rows(rows, out=out)
            if self._table.present:
                batch["present"] = {name: mask[rows] for name, mask in self._table.present.items()}
        return batch

    def _buffers(self, examples: int) -> Buffers:
        """Memory for the features of so many examples."""
        if self.config.placement != "host":
            return None
        return {
            name: np.empty((*self.groups, examples, array.shape[1]), array.dtype)
            for name, array in self._table.features.items()
        }


F = TypeVar("F", bound=Feed)


@dataclass(frozen=True, kw_only=True)
class FeedOptions(abc.ABC, Generic[F]):
    """What every feed is configured by, besides its batch_UNIT."""

    placement: Annotated[Placement, TUNABLE] = "device"
    """device sends row numbers to a table that is resident there, host gathers the features here
    and sends them as stored."""
    read_threads: Annotated[int, TUNABLE] = 2
    """Batches made at the same time."""
    prefetch_batches: Annotated[int, TUNABLE] = 4
    """Batches made ahead of their use; with 0, and 0 threads, each is made when it is asked for."""
    unit: ClassVar[str]
    """What a batch is counted in."""

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise ValueError(f"batch_{self.unit} must be at least 1, found {self.examples}")
        if self.placement not in ("device", "host"):
            raise ValueError(f"placement must be 'device' or 'host', found {self.placement!r}")
        if not 0 <= self.read_threads <= self.prefetch_batches:
            raise ValueError(
                "read_threads must lie between 0 and prefetch_batches, found "
                f"{self.read_threads} threads and {self.prefetch_batches} batches: a thread "
                "without a batch to make ahead is idle"
            )

    @property
    def examples(self) -> int:
        """B: what is split over the devices."""
        return int(getattr(self, f"batch_{self.unit}"))

    def own(self, part: tuple[int, int]) -> slice:
        """A host's slice of the B axis; ValueError where hosts cannot share the batch evenly."""
        index, count = part
        if self.examples % count:
            below = self.examples // count * count
            nearest = f"{below} or {below + count}" if below else f"{count}"
            raise ValueError(
                f"batch_{self.unit} must be a multiple of the number of hosts, found "
                f"{self.examples} {self.unit} on {count} hosts; {nearest} would do"
            )
        if not 0 <= index < count:
            raise ValueError(f"host {index} is none of {count} hosts")
        share = self.examples // count
        return slice(index * share, (index + 1) * share)

    @abc.abstractmethod
    def _open(self, corpus: RelatedTrainVideos, *, seed: int, reads: tuple[str, ...]) -> F: ...

    def open(self, corpus: RelatedTrainVideos, *, seed: int, reads: tuple[str, ...] = ()) -> F:
        """The feed on these data.

        Raises ValueError where there is nothing to draw from, or table, graph and split do not
        speak of the same rows.
        """
        table, nodes, is_train = corpus.table, corpus.train_graph.nodes, corpus.is_train
        if not len(table) == nodes == len(is_train):
            raise ValueError(
                f"table, graph and split must speak of the same rows, found {len(table)} videos, "
                f"{nodes} graph nodes and {len(is_train)} split entries"
            )
        return self._open(corpus, seed=seed, reads=reads)
