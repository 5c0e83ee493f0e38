"""The feed of videos with all of their labels; batch k is a pure function of k."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

import numpy as np
import xxhash

from vidembed import TUNABLE
from vidembed.corpora.labels import Labels
from vidembed.feeds.feed import Batch
from vidembed.feeds.one_pass import check_step
from vidembed.feeds.passes import Passes
from vidembed.feeds.videos import Placement, TrainVideos, VideoFeed, VideoFeedOptions
from vidembed.records.principal import principal_directions
from vidembed.records.statistics import Statistics
from vidembed.tasks.spec import Spec

# Increase this whenever the same seed and data would give other batches than before.
SEQUENCE = 1


class LabelledTrainVideos(TrainVideos, Protocol):
    """Videos with labels; the corpus of an annotation run has them."""

    @property
    def labels(self) -> Labels: ...
    @property
    def train_rows(self) -> np.ndarray: ...


class LabelStatistics(NamedTuple):
    """What a task starts from, over the train videos."""

    inputs: Statistics
    """Modality → mean, deviation, principal directions f32[F, F] and their variances f32[F]."""
    class_videos: np.ndarray
    """f32[C]: the number of videos of each class."""
    videos: np.ndarray
    """f32[]: the number of videos."""


@dataclass(frozen=True, kw_only=True)
class VideosWithLabels(VideoFeedOptions):
    """Train videos with all of their labels, each once per pass, in a new random order each time.

    A pass need not be a whole number of batches: the last batch goes on with the next pass.
    """

    batch_videos: int = 512
    """Videos per batch (the paper: 512)."""
    whole_pass: bool = False
    """Batches are parts of one pass, for gradients over all train videos: the last part is filled
    with videos that do not count. Set --optimiser.accumulate to the number of parts."""
    run_length: int = 1
    """Shuffle runs of this many consecutive train videos instead of single ones. Records on disk
    are then read a run at a time: 16 or more if the disk is slow at random access."""
    placement: Annotated[Placement, TUNABLE] = "automatic"
    unit: ClassVar[str] = "videos"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run_length < 1:
            raise ValueError(f"run_length must be at least 1, found {self.run_length}")

    def _open(
        self, corpus: LabelledTrainVideos, *, seed: int, reads: tuple[str, ...]
    ) -> "VideosWithLabelsFeed":
        return VideosWithLabelsFeed(self, corpus, seed=seed, reads=reads)


class VideosWithLabelsFeed(VideoFeed):
    """Batches of B videos with at most L labels each:

    rows      i32[B]                   whole  table rows
    labels    i32[B/hosts, L]          own    classes, padded with -1
    counts    f32[B/hosts]             own    1; 0 for a video that does not count
    weight    f32[]                    whole  with `whole_pass`: factor of the gradient
    features  name -> [B/hosts, F]     own    of frame-level records u8[B/hosts, T, F]
    lengths   i32[B/hosts]             own    their frames, of frame-level records
    present   name -> bool[B/hosts]    own
    """

    split_axes: Mapping[str, int | None] = {
        "rows": None,
        "labels": 0,
        "counts": 0,
        "weight": None,
        "features": 0,
        "lengths": 0,
        "present": 0,
    }
    config: VideosWithLabels
    _corpus: LabelledTrainVideos

    def __init__(
        self,
        config: VideosWithLabels,
        corpus: LabelledTrainVideos,
        *,
        seed: int,
        reads: tuple[str, ...],
    ) -> None:
        super().__init__(config, corpus, seed=seed, reads=reads)
        self._labels, self._videos = corpus.labels, corpus.train_rows.astype(np.int32)
        self._width = int(self._labels.per_row[self._videos].max(initial=1))
        self._passes = Passes(seed, self._videos, config.run_length)

    @property
    def spec(self) -> Spec:
        """See `Feed`; includes the classes."""
        names = self._labels.names
        sizes = Spec(widths=self._table.widths, framed=self._framed)
        return replace(sizes, classes=len(names), class_names=names)

    @property
    def one_pass(self) -> tuple[int, str]:
        """See `Feed`."""
        return len(self._videos), "labelled train videos"

    @property
    def notes(self) -> tuple[str, ...]:
        """Which modalities of the data, such as embeddings, the model does not read."""
        unread = [modality for modality in self._table.features if modality not in self._reads]
        if not unread:
            return ()
        return (
            f"the model does not read {', '.join(unread)} of the data, only "
            f"{', '.join(self._reads)} (--task.model.modalities)",
        )

    def statistics(self) -> Any:
        """The `LabelStatistics` of the train videos."""
        known = super().statistics()
        means = {modality: known[modality]["mean"] for modality in self._reads}
        directions = principal_directions(self._table, self._corpus.is_train, means)
        return LabelStatistics(
            inputs={m: {**known[m], **directions[m]} for m in self._reads},
            class_videos=self._labels.counts(self._videos).astype(np.float32),
            videos=np.asarray(len(self._videos), np.float32),
        )

    @cached_property
    def fingerprint(self) -> str:
        """See `Feed`."""
        config = self.config
        settings = ("with labels", SEQUENCE, config.batch_videos, config.whole_pass, self.seed)
        data = (self._table.fingerprint, self._labels.fingerprint)
        runs = () if config.run_length == 1 else (config.run_length,)
        digest = xxhash.xxh3_128(repr((*settings, *runs, *data)).encode())
        digest.update(self._videos.tobytes())
        return digest.hexdigest()

    def _drawn(self, step: int, host_slice: slice) -> Batch:
        check_step(step)
        size, videos = self.config.batch_videos, len(self._videos)
        if self.config.whole_pass:
            places = np.arange(size) + step % -(-videos // size) * size
            counts = (places < videos).astype(np.float32)
            rows = self._passes.order(0)[np.minimum(places, videos - 1)]
            parts = {"weight": np.float32(size * -(-videos // size) / videos)}
        else:
            rows = self._passes.batch(step, size)
            counts, parts = np.ones(size, np.float32), {}
        own = rows[host_slice]
        labels = self._labels.padded(own, self._width)
        return {"rows": rows, "labels": labels, "counts": counts[host_slice], **parts}
