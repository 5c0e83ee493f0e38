"""Metrics of multi-label classification: videos that belong to several of C classes.

All are computed from scores f32[b, C], block by block. A video's k best classes stay in memory, as
do its own metrics; all scores stay only up to `ALL_SCORES` of them.

Conventions, and those of the YouTube-8M starter code of 2018 (google/youtube-8m, `eval_util.py`):

- GAP@k pools the k best classes of all videos and ranks them together. Average precision of this
  list, its sum divided by all true classes of all videos: those below rank k are missed. The same
  in the starter code.
- MAP per class is the mean of each class's average precision over its videos: over all videos
  (`map_per_class`), or over those with the class among their k best (`map_per_class@k`, divided by
  all videos of the class, as in the starter code). Classes without a true video are left out; the
  starter code counts them as 0, so its value is ours times the share of classes with one.
- MAP per video (CDML, section 4.3) ranks all classes of a video; the starter code has none.
- Hit@k is the share of videos with a true class among their k best. PERR is the precision among a
  video's n best, for its n true classes; scores of 0 or less are no hit, here only, as in the
  starter code.
- Ties go to the smaller class number, then to the earlier video. The starter code leaves them to
  the sort within a video, and shuffles them in the pool.
- Videos without classes are left out and counted. In the starter code they score 0, and their
  predictions count as errors of GAP.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from vidembed.metrics.class_ranks import class_ranks, precision_by_class, top_classes
from vidembed.metrics.pooled import pooled_by_class, pooled_precision

ALL_SCORES = 1 << 26
"""Scores up to which all are kept, for `map_per_class`: 256 MB."""


class TrueClasses(Protocol):
    """Ragged rows of classes, such as `corpora.labels.Labels`: row i has
    values[offsets[i]:offsets[i + 1]], ascending and distinct."""

    @property
    def offsets(self) -> np.ndarray:
        """i64[b + 1]"""

    @property
    def values(self) -> np.ndarray:
        """i32[L], in 0..C-1"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """The k best classes of V videos with true classes, and the metrics of each video."""

    rows: np.ndarray
    """i64[V]: the videos, ascending and distinct."""
    scores: np.ndarray
    """f32[V, k], best first; -inf where there are fewer than k classes."""
    classes: np.ndarray
    """i32[V, k]; -1 where there are fewer than k classes."""
    hits: np.ndarray
    """bool[V, k]: whether the class is true."""
    offsets: np.ndarray
    """i64[V + 1]"""
    labels: np.ndarray
    """i32[L]: the true classes, video by video."""
    values: Mapping[str, np.ndarray]
    """f64[V] by metric: `hit@1`, `perr`, `map_per_video`."""
    all_scores: np.ndarray | None
    """f32[V, C], unless there are too many."""
    left_out: int
    """The number of videos without true classes."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def gap(self) -> float:
        """GAP@k."""
        return pooled_precision(self.scores, self.classes, self.hits, len(self.labels))

    @property
    def map_per_class_at_k(self) -> float:
        """MAP per class over the videos with the class among their k best."""
        each = pooled_by_class(self.scores, self.classes, self.hits, self.labels)
        return float(each.mean())

    @property
    def map_per_class(self) -> float | None:
        """MAP per class over all videos; None if not all scores were kept."""
        if self.all_scores is None:
            return None
        return float(precision_by_class(self.all_scores, self.offsets, self.labels).mean())

    def of(self, places: np.ndarray) -> "Predictions":
        """Those at places i64[n], in their order; `left_out` is 0."""
        counts = np.diff(self.offsets)[places]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        shift = np.repeat(self.offsets[places] - offsets[:-1], counts)
        return Predictions(
            rows=self.rows[places],
            scores=self.scores[places],
            classes=self.classes[places],
            hits=self.hits[places],
            offsets=offsets,
            labels=self.labels[shift + np.arange(offsets[-1])],
            values={name: column[places] for name, column in self.values.items()},
            all_scores=None if self.all_scores is None else self.all_scores[places],
            left_out=0,
        )


class Accumulator:
    """Collects blocks of scores of videos; `result` may be merged with those of other hosts."""

    def __init__(
        self, *, k: int = 20, hits_at: Sequence[int] = (1, 5), all_scores: int = ALL_SCORES
    ) -> None:
        """all_scores: the number of scores up to which all are kept."""
        if min(k, *hits_at) < 1:
            raise ValueError(f"k must be at least 1, found {k} and {tuple(hits_at)}")
        self._k, self._hits_at, self._limit = k, tuple(hits_at), all_scores
        self._blocks: list[Predictions] = []
        self._scores = 0

    def add(self, rows: np.ndarray, scores: np.ndarray, labels: TrueClasses) -> None:
        """Add videos i64[b], each once: scores f32[b, C], and true classes in the same order.

        Raises ValueError for scores that are not finite, and for classes beyond C.
        """
        scores = np.asarray(scores, np.float32)
        self._scores += scores.size
        whole = self._scores <= self._limit
        if not whole:
            self._blocks = [replace(block, all_scores=None) for block in self._blocks]
        block = _block(np.asarray(rows), scores, labels, self._k, self._hits_at, whole=whole)
        self._blocks.append(block)

    def result(self) -> Predictions:
        """All videos so far, by row."""
        return merged(self._blocks, all_scores=self._limit)


def merged(parts: Sequence[Predictions], *, all_scores: int = ALL_SCORES) -> Predictions:
    """The predictions of several parts, such as hosts, as if one had seen all videos.

    Raises ValueError if there is none, and if two parts have the same video.
    """
    if not parts:
        raise ValueError("no predictions to measure: add the scores of at least one video")
    tables = [part.all_scores for part in parts]
    whole = [table for table in tables if table is not None]
    complete = len(whole) == len(tables) and sum(table.size for table in whole) <= all_scores
    sizes = np.concatenate([np.diff(part.offsets) for part in parts])
    every = Predictions(
        rows=np.concatenate([part.rows for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        classes=np.concatenate([part.classes for part in parts]),
        hits=np.concatenate([part.hits for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        labels=np.concatenate([part.labels for part in parts]),
        values={n: np.concatenate([part.values[n] for part in parts]) for n in parts[0].values},
        all_scores=np.concatenate(whole) if complete else None,
        left_out=0,
    )
    order = np.argsort(every.rows, kind="stable")
    rising = every if (np.diff(every.rows) >= 0).all() else every.of(order)
    if len(repeated := rising.rows[1:][np.diff(rising.rows) == 0]):
        raise ValueError(
            f"{len(repeated):,} videos have predictions twice, such as row {repeated[0]}: give "
            "each part its own videos"
        )
    return replace(rising, left_out=sum(part.left_out for part in parts))


def _block(
    rows: np.ndarray,
    scores: np.ndarray,
    labels: TrueClasses,
    k: int,
    hits_at: Sequence[int],
    *,
    whole: bool,
) -> Predictions:
    if scores.ndim != 2 or not len(rows) == len(scores) == len(labels.offsets) - 1:
        raise ValueError(
            f"scores must be [b, C], with a row and the classes of each video, found "
            f"{list(scores.shape)} for {len(rows)} rows and {len(labels.offsets) - 1} videos"
        )
    if not (finite := np.isfinite(scores).all(axis=1)).all():
        raise ValueError(
            f"{int((~finite).sum())} of {len(rows)} videos have scores that are not finite, such "
            f"as row {rows[np.argmin(finite)]}"
        )
    if len(labels.values) and labels.values.max() >= scores.shape[1]:
        raise ValueError(f"class {labels.values.max()} has no score: there are {scores.shape[1]}")
    counts = np.diff(labels.offsets)
    labelled = np.flatnonzero(counts)
    left_out = len(rows) - len(labelled)
    if left_out:
        rows, scores, counts = rows[labelled], scores[labelled], counts[labelled]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    ranks = class_ranks(scores, offsets, labels.values)
    classes = top_classes(scores, k)
    inside = np.take_along_axis(scores, np.maximum(classes, 0).astype(np.int64), axis=1)
    hits = np.zeros(classes.shape, bool)
    video = np.repeat(np.arange(len(rows)), counts)
    hits[video[ranks <= k], ranks[ranks <= k] - 1] = True
    positive = scores[video, labels.values] > 0
    return Predictions(
        rows=rows,
        scores=np.where(classes < 0, np.float32(-np.inf), inside),
        classes=classes,
        hits=hits,
        offsets=offsets,
        labels=labels.values,
        values=dict(_per_video(ranks, offsets, positive, hits_at)),
        all_scores=scores.copy() if whole else None,
        left_out=left_out,
    )


def _per_video(
    ranks: np.ndarray, offsets: np.ndarray, positive: np.ndarray, hits_at: Sequence[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (metric, f64[V]) from the ranks i64[L] of the true classes; positive: bool[L]."""
    counts = np.diff(offsets)
    video = np.repeat(np.arange(len(counts)), counts)
    for k in hits_at:
        yield f"hit@{k}", (np.bincount(video[ranks <= k], minlength=len(counts)) > 0).astype(float)
    inside = (ranks <= counts[video]) & positive
    yield "perr", np.bincount(video[inside], minlength=len(counts)) / counts
    ranks = ranks[np.lexsort((ranks, video))]
    number = np.arange(1, len(ranks) + 1) - np.repeat(offsets[:-1], counts)
    yield "map_per_video", np.bincount(video, number / ranks, minlength=len(counts)) / counts
