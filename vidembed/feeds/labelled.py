"""The feed of videos labelled with their cluster number; batch k is a pure function of k."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import xxhash

from vidembed.feeds.feed import Batch
from vidembed.feeds.sampling import below, raw_draws
from vidembed.feeds.videos import (
    RelatedTrainVideos,
    RelatedVideoFeedOptions,
    VideoFeed,
    needed_hierarchy,
)
from vidembed.graph.hierarchy import Hierarchy, HierarchyError
from vidembed.tasks.spec import Spec

# Increase this whenever the same seed and data would give other batches than before.
SEQUENCE = 1


class Labels(NamedTuple):
    """The class of each video, and the class sizes."""

    of_row: np.ndarray  # i32[N], 0..C-1 by descending size; -1 for no class
    sizes: np.ndarray  # i64[C]
    dropped_clusters: int
    dropped_videos: int
    hierarchy_fingerprint: str


@dataclass(frozen=True, kw_only=True)
class LabelledVideos(RelatedVideoFeedOptions):
    """Train videos labelled with their cluster number, for classification (GCML, cluster labels).

    Which level the paper uses, and whether it leaves out small clusters, is not known.
    """

    batch_videos: int = 21_600
    """Videos per batch; 21,600 is the number that 7,200 triplets embed."""
    level: int = 1
    """Level of the hierarchy, from 1; higher levels have fewer and larger classes."""
    min_cluster_size: int = 2
    """Smaller clusters are not used as classes, and their videos are never drawn."""
    unit: ClassVar[str] = "videos"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("level", "min_cluster_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")

    def labels(self, corpus: RelatedTrainVideos) -> Labels:
        """The clusters of a level as classes, numbered 0..C-1 by descending size.

        Ties go to the smaller cluster number: a log-uniform sampler treats low numbers as frequent
        classes. Raises ValueError without a hierarchy, and HierarchyError if it belongs to another
        graph, lacks the level, or leaves fewer than 2 classes.
        """
        hierarchy = needed_hierarchy(corpus, "cluster labels")
        hierarchy.check(corpus.train_graph, corpus.is_train)
        cluster, sizes = hierarchy.level(self.level), hierarchy.sizes(self.level)
        order = np.argsort(-sizes, kind="stable")
        chosen = order[sizes[order] >= self.min_cluster_size]
        if len(chosen) < 2:
            raise HierarchyError(self._too_few(hierarchy, len(chosen)))
        # One extra entry, for rows whose cluster is -1.
        number = np.full(len(sizes) + 1, -1, np.int32)
        number[chosen] = np.arange(len(chosen), dtype=np.int32)
        return Labels(
            of_row=number[cluster],
            sizes=sizes[chosen],
            dropped_clusters=len(sizes) - len(chosen),
            dropped_videos=int(sizes.sum() - sizes[chosen].sum()),
            hierarchy_fingerprint=hierarchy.fingerprint,
        )

    def _open(
        self, corpus: RelatedTrainVideos, *, seed: int, reads: tuple[str, ...]
    ) -> "LabelledFeed":
        return LabelledFeed(self, corpus, seed=seed, reads=reads)

    def _too_few(self, hierarchy: Hierarchy, classes: int) -> str:
        levels = "; ".join(
            f"level {level}: {len(sizes):,} clusters, {int((sizes >= self.min_cluster_size).sum())}"
            f" of them large enough, the largest of {sizes.max(initial=0):,} videos"
            for level in range(1, hierarchy.levels + 1)
            for sizes in [hierarchy.sizes(level)]
        )
        return (
            f"cluster labels need at least 2 classes, found {classes} clusters of "
            f"{self.min_cluster_size} or more videos at level {self.level} ({levels}). Lower "
            "min_cluster_size, choose another level, or cluster again with other --rounds"
        )


class LabelledFeed(VideoFeed):
    """Batches of B videos, drawn uniformly with replacement:

    rows      i32[B]                  whole  table rows
    labels    i32[B/hosts]            own    class of each video, 0..C-1
    features  name -> [B/hosts, F]    own
    present   name -> bool[B/hosts]   own
    """

    split_axes: Mapping[str, int | None] = {
        "rows": None,
        "labels": 0,
        "features": 0,
        "present": 0,
    }

    config: LabelledVideos

    def __init__(
        self,
        config: LabelledVideos,
        corpus: RelatedTrainVideos,
        *,
        seed: int,
        reads: tuple[str, ...],
    ) -> None:
        super().__init__(config, corpus, seed=seed, reads=reads)
        self._labels = config.labels(corpus)
        self._videos = np.flatnonzero(self._labels.of_row >= 0).astype(np.int32)

    @property
    def spec(self) -> Spec:
        """See `Feed`; includes the number of classes."""
        return Spec(widths=self._table.widths, classes=len(self._labels.sizes))

    @property
    def one_pass(self) -> tuple[int, str]:
        """See `Feed`."""
        return len(self._videos), "labelled videos"

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence about the classes, to show the user."""
        labels, config = self._labels, self.config
        return (
            f"{len(labels.sizes):,} classes: the clusters of {config.min_cluster_size} or more "
            f"videos at level {config.level}, {len(self._videos):,} videos in all, "
            f"{labels.sizes[0]:,} in the largest; {labels.dropped_clusters:,} smaller clusters "
            f"with {labels.dropped_videos:,} videos are left out",
        )

    @property
    def fingerprint(self) -> str:
        """See `Feed`."""
        config, labels = self.config, self._labels
        settings = ("labelled", SEQUENCE, config.batch_videos, config.level)
        data = (self._table.fingerprint, labels.hierarchy_fingerprint)
        everything = (*settings, config.min_cluster_size, self.seed, *data)
        return xxhash.xxh3_128_hexdigest(repr(everything).encode())

    def _drawn(self, step: int, host_slice: slice) -> Batch:
        raw = raw_draws(self.seed, step, (self.config.batch_videos,))
        rows = self._videos[below(raw, len(self._videos))]
        return {"rows": rows, "labels": self._labels.of_row[rows[host_slice]]}
