"""Intervals of multi-label metrics by resampling videos, from stored results.

GAP and MAP per class are not means over videos: in each resample the pooled predictions are ranked
anew, each as often as its video was drawn, and the metric is computed exactly, not linearised. MAP
is over the classes that a drawn video has, which moves it towards the common classes; this bias is
subtracted, see `interval_of_rankings`. (With absent classes at their precision over all videos,
intervals were a third as wide as they should be: most classes have one video.)

Metrics of single videos go through `intervals.bootstrap`. All share their draws, so several runs
(seeds) and paired differences are treated as in `intervals`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vidembed.metrics import intervals
from vidembed.metrics.intervals import Interval, interval_of_rankings, times_drawn
from vidembed.metrics.multilabel import Predictions
from vidembed.metrics.pooled import pooled_by_class, pooled_order, pooled_precision
from vidembed.records.scores_file import PerQuery


def stored(predictions: Predictions, ids: np.ndarray, *, width: int) -> PerQuery:
    """The results of videos with ids S[V], for the intervals here and for `scores_file`.

    Lists: `scores`, `classes`, `hits` of the k best, and `labels`, the true classes i32[V, width],
    padded with -1. Raises ValueError if a video has more.
    """
    counts = np.diff(predictions.offsets)
    if len(counts) and counts.max() > width:
        raise ValueError(f"a video has {counts.max()} classes, above the width of {width}")
    labels = np.full((len(ids), width), -1, np.int32)
    labels[np.arange(width) < counts[:, None]] = predictions.labels
    lists = {name: getattr(predictions, name) for name in ("scores", "classes", "hits")}
    return PerQuery(ids=ids, values=predictions.values, lists=lists | {"labels": labels})


def bootstrap(runs: Sequence[PerQuery], *, seed: int, resamples: int = 1000) -> dict[str, Interval]:
    """`gap@k`, `map_per_class@k` and the metrics of single videos: means over runs, with intervals.

    A run without a true class in a resample is left out of that resample's mean. Raises ValueError
    for results without lists.
    """
    videos = [run.ids for run in runs]
    resampled = _resampled(runs, seed=seed, resamples=resamples)
    points = [_points(run) for run in runs]
    pooled = {
        name: interval_of_rankings([point[place] for point in points], resampled[:, :, place])
        for place, name in enumerate(_names(runs))
    }
    values = [run.values for run in runs]
    return pooled | intervals.bootstrap(values, videos=videos, seed=seed, resamples=resamples)


def differences(
    ones: Sequence[PerQuery], others: Sequence[PerQuery], *, seed: int, resamples: int = 1000
) -> dict[str, Interval]:
    """Like `bootstrap`, for the differences `ones` − `others`, run by run on the same videos.

    Raises ValueError if runs, videos or metrics differ.
    """
    if len(ones) != len(others) or _names(ones) != _names(others):
        raise ValueError(
            f"pairs need the same runs and k on both sides, found {len(ones)} and {len(others)} "
            f"runs with {', '.join(_names(ones))} and {', '.join(_names(others))}"
        )
    for one, other in zip(ones, others):
        if not np.array_equal(one.ids, other.ids):
            raise ValueError(
                f"pairs need the same videos in the same order, found {len(one.ids):,} and "
                f"{len(other.ids):,}: were they measured on different data?"
            )
    drawn = [_resampled(side, seed=seed, resamples=resamples) for side in (ones, others)]
    points = [_points(one) - _points(other) for one, other in zip(ones, others)]
    pooled = {
        name: interval_of_rankings([p[place] for p in points], (drawn[0] - drawn[1])[:, :, place])
        for place, name in enumerate(_names(ones))
    }
    return pooled | intervals.differences(
        [run.values for run in ones],
        [run.values for run in others],
        videos=[run.ids for run in ones],
        seed=seed,
        resamples=resamples,
    )


class _Pool(NamedTuple):
    """Pooled predictions in ranked order, in groups: one of all, or one per class."""

    videos: np.ndarray
    """i64[E]: the video of each prediction."""
    hits: np.ndarray
    """i64[H]: the places of the hits, ascending."""
    group: np.ndarray
    """i64[H]: the group of each hit."""
    begins: np.ndarray
    """i64[H]: the place where its group begins."""
    first: np.ndarray
    """i64[H]: the first hit of its group."""

    def precision(self, drawn: np.ndarray, harmonic: np.ndarray, groups: int) -> np.ndarray:
        """f64[groups]: sums of precisions at the hits, if video v is there drawn[v] times.

        Copies of a prediction follow each other: m copies of a hit after n predictions with h hits
        have precisions (h + j) / (n + j), j = 1..m. Their sum is m - (n - h)(H(n + m) - H(n)),
        with the harmonic numbers H.
        """
        copies = drawn[self.videos]
        before = np.concatenate([[0], np.cumsum(copies)])
        own = copies[self.hits]
        hits_before = np.concatenate([[0], np.cumsum(own)])
        n = before[self.hits] - before[self.begins]
        h = hits_before[:-1] - hits_before[self.first]
        sums = own - (n - h) * (harmonic[n + own] - harmonic[n])
        return np.bincount(self.group, sums, minlength=groups)


def _pool(run: PerQuery, *, by_class: bool) -> _Pool:
    classes, marks = run.lists["classes"], run.lists["hits"]
    order = pooled_order(run.lists["scores"], classes, by_class=by_class)
    hits = np.flatnonzero(marks.reshape(-1)[order])
    ranked = classes.reshape(-1)[order]
    group = ranked[hits].astype(np.int64) if by_class else np.zeros(len(hits), np.int64)
    begins = np.searchsorted(ranked, group) if by_class else group
    first = np.searchsorted(group, group)
    return _Pool(order // classes.shape[1], hits, group, begins, first)


def _resampler(run: PerQuery) -> Callable[[np.ndarray, np.ndarray], tuple[float, float]]:
    """(drawn i64[V], harmonic numbers) → GAP and MAP per class; NaN without a true class."""
    whole, by_class = _pool(run, by_class=False), _pool(run, by_class=True)
    labels = run.lists["labels"]
    video, place = np.nonzero(labels >= 0)
    classes = labels[video, place]
    number = int(classes.max(initial=-1)) + 1

    def measure(drawn: np.ndarray, harmonic: np.ndarray) -> tuple[float, float]:
        positives = np.bincount(classes, drawn[video], minlength=number)
        if not positives.any():
            return np.nan, np.nan
        gap = whole.precision(drawn, harmonic, 1)[0] / positives.sum()
        occurring = positives > 0
        sums = by_class.precision(drawn, harmonic, number)[occurring]
        return gap, (sums / positives[occurring]).mean()

    return measure


def _resampled(runs: Sequence[PerQuery], *, seed: int, resamples: int) -> np.ndarray:
    """f64[resamples, runs, 2]: GAP and MAP per class of each."""
    _names(runs)
    distinct, place = np.unique(np.concatenate([run.ids for run in runs]), return_inverse=True)
    places = np.split(place, np.cumsum([len(run.ids) for run in runs])[:-1])
    depth = runs[0].lists["classes"].shape[1]
    harmonic = np.zeros(len(distinct) * depth + 1)
    harmonic[1:] = np.cumsum(1 / np.arange(1, len(harmonic)))
    measures = [_resampler(run) for run in runs]
    return np.array(
        [
            [measure(drawn[rows], harmonic) for measure, rows in zip(measures, places)]
            for block in times_drawn(len(distinct), seed=seed, resamples=resamples)
            for drawn in block
        ]
    )


def _points(run: PerQuery) -> np.ndarray:
    """f64[2]: GAP and MAP per class."""
    scores, classes, hits = (run.lists[name] for name in ("scores", "classes", "hits"))
    gap = pooled_precision(scores, classes, hits, int((run.lists["labels"] >= 0).sum()))
    return np.array([gap, _precision_by_class(run).mean()])


def _precision_by_class(run: PerQuery) -> np.ndarray:
    scores, classes, hits = (run.lists[name] for name in ("scores", "classes", "hits"))
    return pooled_by_class(scores, classes, hits, run.lists["labels"][run.lists["labels"] >= 0])


def _names(runs: Sequence[PerQuery]) -> tuple[str, ...]:
    """The names of the two metrics; ValueError for other results, or of different k."""
    depths = {r.lists["classes"].shape[1] if "classes" in r.lists else None for r in runs}
    if len(depths) != 1 or None in depths:
        raise ValueError(
            "multi-label intervals need results with lists of the k best classes, of one k, found "
            f"{', '.join(map(str, depths)) or 'no runs'}: evaluate again with this version"
        )
    k = depths.pop()
    return f"gap@{k}", f"map_per_class@{k}"
