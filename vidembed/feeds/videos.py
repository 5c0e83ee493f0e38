"""The base of feeds that draw rows of a feature table: data, and where features are gathered."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Protocol, get_args

import numpy as np

from vidembed import TUNABLE
from vidembed.feeds.feed import ONE_HOST, Batch, Buffers, Feed, FeedOptions
from vidembed.graph.hierarchy import Hierarchy
from vidembed.graph.relation import RelationGraph
from vidembed.records.bytecode import ranged
from vidembed.records.rows import resident_rows
from vidembed.records.statistics import Statistics, train_statistics
from vidembed.records.table import FeatureTable
from vidembed.tasks.spec import Spec

Placement = Literal["automatic", "device", "host"]


class TrainVideos(Protocol):
    """Videos that feeds draw from; every corpus of a feature table has them."""

    @property
    def table(self) -> FeatureTable: ...
    @property
    def is_train(self) -> np.ndarray: ...


class RelatedTrainVideos(TrainVideos, Protocol):
    """Videos with relations; the corpus of watched videos has them."""

    @property
    def train_graph(self) -> RelationGraph: ...
    @property
    def train_relations(self) -> RelationGraph: ...
    @property
    def hierarchy(self) -> Hierarchy | None: ...


def needed_hierarchy(corpus: RelatedTrainVideos, what: str) -> Hierarchy:
    """The hierarchy of the corpus; raises ValueError, naming `what` needs it, if there is none."""
    if corpus.hierarchy is None:
        raise ValueError(
            f"{what} need clusters of the train graph: set --corpus.hierarchy PATH, made by "
            "`python -m vidembed cluster`. None was given, or the file does not exist"
        )
    return corpus.hierarchy


class VideoFeed(Feed):
    """Batches of table rows i32[..., B], which are whole on every host.

    In host placement a batch holds the host's part of `features` (name → [..., F], as stored) and,
    if the table has missing rows, `present` (name → bool[...]). Of frame-level records these are
    frames u8[..., T, F], and `lengths` i32[...] says how many. Gathered features are written to a
    ring of reused buffers, because page faults of new memory cost more than the gather.
    """

    config: "VideoFeedOptions"
    groups: ClassVar[tuple[int, ...]] = ()
    """The axes of the rows before B."""

    def __init__(
        self,
        config: "VideoFeedOptions",
        corpus: TrainVideos,
        *,
        seed: int,
        reads: tuple[str, ...],
    ) -> None:
        """reads: the modalities that the task reads."""
        super().__init__(config)
        self.seed = seed
        self._corpus, self._table, self._reads = corpus, corpus.table, reads

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Hex digest of everything the sequence of batches depends on besides the step.

        Placement, threads and number of hosts are not part of it: they change no batch.
        """

    @property
    def spec(self) -> Spec:
        """Sizes that determine the shapes of parameters."""
        return Spec(widths=self._table.widths)

    @property
    @abc.abstractmethod
    def one_pass(self) -> tuple[int, str]:
        """Number of examples in one pass over the data drawn from, and the name of these."""

    @property
    def _framed(self) -> tuple[str, ...]:
        """The modalities of which batches have the frames."""
        frames = self._table.frames
        if frames is None or self.config.placement != "host":
            return ()
        return tuple(frames.reader.format.widths)

    def statistics(self) -> Statistics:
        """Mean and deviation of each feature over the train split, of the modalities read."""
        return train_statistics(self._table, self._corpus.is_train, self._reads)

    def resident(self) -> Mapping[str, Any]:
        """Arrays that a step gathers from the devices: features as stored, and which videos have
        them; {} in host placement."""
        return {} if self.config.placement == "host" else resident_rows(self._table, self._reads)

    def ids_at(self, step: int) -> np.ndarray:
        """See `Feed`."""
        return self._table.ids[self._drawn(step, self.config.own(ONE_HOST))["rows"]]

    @abc.abstractmethod
    def _drawn(self, step: int, host_slice: slice) -> Batch:
        """The batch of a host without its features."""

    def _make(self, step: int, host_slice: slice, out: Buffers) -> Batch:
        batch = self._drawn(step, host_slice)
        if self.config.placement == "host":
            rows = batch["rows"][..., host_slice]
            out = self._table.new_rows(rows.shape, self._reads) if out is None else out
            stored, ranges = self._table.rows(rows, out=out), self._table.ranges
            batch["features"] = {m: ranged(a, ranges.get(m)) for m, a in stored.items()}
            if self._table.lengths is not None:
                batch["lengths"] = self._table.lengths[rows]
            if self._table.present:
                batch["present"] = {name: mask[rows] for name, mask in self._table.present.items()}
        return batch

    def _buffers(self, examples: int) -> Buffers:
        if self.config.placement != "host":
            return None
        return self._table.new_rows((*self.groups, examples), self._reads)


@dataclass(frozen=True, kw_only=True)
class VideoFeedOptions(FeedOptions):
    """Options of feeds of a feature table."""

    placement: Annotated[Placement, TUNABLE] = "device"
    """device: keep the table on the devices and send row numbers. host: gather features on the
    host and send them as stored. automatic: host for records that stay on disk, else device."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.placement not in get_args(Placement):
            raise ValueError(
                f"placement must be 'automatic', 'device' or 'host', found {self.placement!r}"
            )

    @abc.abstractmethod
    def _open(self, corpus: Any, *, seed: int, reads: tuple[str, ...]) -> VideoFeed: ...

    def open(self, corpus: Any, *, seed: int, reads: tuple[str, ...] = ()) -> Any:
        """Open the feed on a corpus; raises ValueError if there is nothing to draw from, or if the
        table lacks a modality that the task reads."""
        table = corpus.table
        if missing := [m for m in reads if m not in table.features]:
            raise ValueError(
                f"the model reads {list(reads)}, the data has {sorted(table.features)}: no "
                f"{missing[0]!r}. Name the data's modalities: --task.model.modalities ..., "
                "--task.model.spaces ... for spaces of text, or task.model:single-modality "
                "--task.model.modality NAME for one"
            )
        for modality in reads:
            if not (corpus.is_train & table.has(modality)).any():
                raise ValueError(
                    f"no train video has {modality!r}: leave it out of the model "
                    "(--task.model.modalities), or check the records"
                )
        if self.placement == "device" and not table.in_memory:
            raise ValueError(
                "--feed.placement device keeps the whole table on the devices, but these records "
                "stay on disk: use --feed.placement host, or import them into a table"
            )
        placed = self.placement
        if placed == "automatic":
            placed = "device" if table.in_memory else "host"
        return replace(self, placement=placed)._open(corpus, seed=seed, reads=reads)


@dataclass(frozen=True, kw_only=True)
class RelatedVideoFeedOptions(VideoFeedOptions):
    """Options of feeds that draw by the relations between videos."""

    def open(self, corpus: RelatedTrainVideos, *, seed: int, reads: tuple[str, ...] = ()) -> Any:
        """As for `VideoFeedOptions`; raises ValueError, too, if table, graph and split have
        different numbers of rows."""
        table, nodes, is_train = corpus.table, corpus.train_graph.nodes, corpus.is_train
        if not len(table) == nodes == len(is_train):
            raise ValueError(
                f"table, graph and split must have the same rows, found {len(table)} videos, "
                f"{nodes} graph nodes and {len(is_train)} split entries"
            )
        return super().open(corpus, seed=seed, reads=reads)
