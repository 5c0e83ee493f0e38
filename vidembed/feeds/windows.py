"""The feed of windows of frame features; batch k is a pure function of k."""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from vidembed.corpora.frame_sources import FrameSource
from vidembed.feeds.clip_feed import ClipFeed, ClipFeedOptions, ClipVideos
from vidembed.feeds.feed import Batch, Buffers
from vidembed.records.statistics import Statistics
from vidembed.records.tabular import LISTED
from vidembed.tasks.spec import LABELS, Spec

SAMPLE_VIDEOS = 20_000
"""Statistics are over every k-th train video if there are more than this."""


class FramedVideos(ClipVideos, Protocol):
    """Videos with features of their frames; corpora of frame-level records and of files have
    them."""

    @property
    def frame_sources(self) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class FeatureWindows(ClipFeedOptions):
    """Windows of the features of frames, instead of decoded clips; read in threads."""

    clips: int = 4
    """Windows per video."""

    def open(
        self, corpus: FramedVideos, *, seed: int, reads: tuple[str, ...] = ()
    ) -> "FeatureWindowsFeed":
        """Open the feed; raises ValueError if the corpus has no features of frames, or not of the
        modality that the task reads, and for short videos if they are refused."""
        known = dict(corpus.frame_sources)
        if not known:
            raise ValueError(
                "the corpus has no features of frames: give --corpus.frames FOLDER, made by "
                "extraction, or frame-level records (--corpus.records, --corpus.layout.level "
                "frame)"
            )
        names = tuple(name for name in reads if name != LABELS) or tuple(known)
        if len(names) != 1 or names[0] not in known:
            raise ValueError(
                f"windows are of one modality; the model reads {list(names)}, and there are "
                f"frames of {sorted(known)}"
            )
        source: FrameSource = known[names[0]]
        videos = np.flatnonzero(corpus.is_train & (source.lengths > 0))
        if not len(videos):
            raise ValueError(f"no train video has frames of {names[0]!r}")
        short = videos[source.lengths[videos] < self.taking.span]
        if len(short) and self.short == "refuse":
            shown = ", ".join(os.fsdecode(name) for name in corpus.ids[short[:LISTED]])
            raise ValueError(
                f"{len(short):,} of {len(videos):,} train videos have fewer frames than the "
                f"{self.taking.span} of a clip: {shown}. Use shorter clips, or --feed.short loop"
            )
        labelled = LABELS in reads
        return FeatureWindowsFeed(
            self, corpus, videos, source, names[0], seed=seed, labelled=labelled
        )


class FeatureWindowsFeed(ClipFeed):
    """Batches of windows f32[B/hosts, N, T, F]; see `ClipFeed`. None is ever replaced."""

    config: FeatureWindows

    def __init__(
        self,
        config: FeatureWindows,
        corpus: FramedVideos,
        videos: np.ndarray,
        source: FrameSource,
        modality: str,
        *,
        seed: int,
        labelled: bool = False,
    ) -> None:
        super().__init__(config, corpus, videos, seed=seed, labelled=labelled)
        self._source, self._modality, self._is_train = source, modality, corpus.is_train

    @property
    def spec(self) -> Spec:
        """See `Feed`."""
        config, width = self.config, self._source.width
        return self.spec_of({self._modality: width}, (config.frames, width), config.cut)

    @property
    def notes(self) -> tuple[str, ...]:
        """How many train videos have no frames, and how many are shorter than a clip."""
        videos, span = self.slots.videos, self._taking.span
        notes = super().notes
        if empty := int(self._is_train.sum()) - len(videos):
            notes += (f"{empty:,} train videos have no frames and are left out",)
        if short := int((self._source.lengths[videos] < span).sum()):
            notes += (
                f"{short:,} of {len(videos):,} train videos are shorter than a clip of {span} "
                "frames: one clip each, of their frames in a loop",
            )
        return notes

    def statistics(self) -> Statistics:
        """{modality: mean f32[F] and deviation f32[F]} over the frames of the train videos."""
        videos = self.slots.videos[:: -(-len(self.slots.videos) // SAMPLE_VIDEOS)]
        count, total = 0, np.zeros(self._source.width)
        for row in videos.tolist():
            values = self._source.read(row).astype(np.float64)
            count, total = count + len(values), total + values.sum(0)
        mean, squares = total / count, np.zeros(self._source.width)
        for row in videos.tolist():
            squares += np.square(self._source.read(row) - mean).sum(0)
        known = {"mean": mean, "deviation": np.sqrt(squares / count)}
        return {self._modality: {name: of.astype(np.float32) for name, of in known.items()}}

    @cached_property
    def _settings(self) -> tuple[Any, ...]:
        return ("windows", self._modality, self._source.fingerprint)

    def _make(self, step: int, host_slice: slice, out: Buffers) -> Batch:
        del out
        slots = range(host_slice.start, host_slice.stop)
        return self._batch_of(self._element(step, slot) for slot in slots)

    def _element(self, step: int, slot: int) -> dict[str, Any]:
        row, draws = self.slots.chosen(step, slot)
        frames = self._source.read(row)
        clips, present = self._taking.cut(frames, draws)
        short = len(frames) < self._taking.span
        return {"row": row, "clips": clips, "present": present, "attempts": 1, "short": short}
