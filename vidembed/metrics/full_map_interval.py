"""The interval of MAP per class over all videos, by resampling videos.

Each class ranks all videos, so a resample needs, for each true video of a class, the number of
drawn videos before it: a product of a sparse table of 0 and 1 with the numbers of draws. The table
ends at the last true video of each class, so a better ranking is cheaper.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array, vstack

from vidembed.metrics.class_ranks import RankedClasses, ranked_by_class
from vidembed.metrics.intervals import Interval, interval_of_rankings, times_drawn
from vidembed.metrics.multilabel import Predictions

RESAMPLES_AT_ONCE = 128


class _Rankings(NamedTuple):
    """The true videos of all classes, class by class, best first."""

    video: np.ndarray
    """i64[L]"""
    begins: np.ndarray
    """i64[L]: the first of its class."""
    between: csr_array
    """f32[L, V]: 1 for the videos that rank before it, but not before its predecessor in the
    class."""
    over_all: np.ndarray
    """f64[c]: average precision of each class over all videos."""


def interval(
    predictions: Predictions, ids: np.ndarray, *, seed: int, resamples: int = 1000
) -> Interval | None:
    """MAP per class over all videos, with the draws of `multilabel_intervals` for ids S[V].

    Over the classes that a drawn video has, as there. None if not all scores were kept.
    """
    if predictions.all_scores is None:
        return None
    blocks = ranked_by_class(predictions.all_scores, predictions.offsets, predictions.labels)
    rankings = _rankings(blocks)
    place = np.unique(ids, return_inverse=True)[1]
    harmonic = np.concatenate([[0], np.cumsum(1 / np.arange(1, len(ids) + 1))])
    resampled = [
        _measured(rankings, drawn[start : start + RESAMPLES_AT_ONCE, place].T, harmonic)
        for drawn in times_drawn(len(ids), seed=seed, resamples=resamples)
        for start in range(0, len(drawn), RESAMPLES_AT_ONCE)
    ]
    value = float(rankings.over_all.mean())
    return interval_of_rankings([value], np.concatenate(resampled)[:, None])


def _rankings(blocks: Iterator[RankedClasses]) -> _Rankings:
    video, begins, between, over_all, size = [], [], [], [], 0
    for classes, ranked, row, place in blocks:
        first = np.searchsorted(row, row)
        number = np.arange(len(row)) - first
        sums = np.bincount(row, (number + 1) / (place + 1), minlength=len(classes))
        over_all.append(sums / np.bincount(row))
        video.append(ranked[row, place])
        begins.append(size + first)
        last = place[np.append(first[1:] != first[:-1], True)]
        before = ranked[np.arange(ranked.shape[1]) < last[:, None]].astype(np.int32)
        lengths = place - np.where(number > 0, np.roll(place, 1), 0)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        ones = np.ones(len(before), np.float32)
        between.append(csr_array((ones, before, ends), shape=(len(row), ranked.shape[1])))
        size += len(row)
    return _Rankings(
        np.concatenate(video),
        np.concatenate(begins),
        vstack(between, format="csr"),
        np.concatenate(over_all),
    )


def _measured(rankings: _Rankings, drawn: np.ndarray, harmonic: np.ndarray) -> np.ndarray:
    """f64[r]: MAP per class, if video v is there drawn[v] times, i64[V, r]."""
    own = drawn[rankings.video]
    steps = rankings.between @ drawn.astype(np.float32)  # exact below 2^24 videos
    before = _sums_before(steps.astype(np.int64), rankings.begins) + steps.astype(np.int64)
    misses = before - _sums_before(own, rankings.begins)
    # Copies of a video follow each other: see `multilabel_intervals`.
    sums = own - misses * (harmonic[before + own] - harmonic[before])
    firsts = np.unique(rankings.begins)
    positives = np.add.reduceat(own, firsts, axis=0)
    precision = np.add.reduceat(sums, firsts, axis=0) / np.maximum(positives, 1)
    return precision.sum(axis=0) / np.sum(positives > 0, axis=0)


def _sums_before(values: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """i64[L, r]: the sum of the preceding values [L, r] of the same class."""
    sums = np.cumsum(values, axis=0) - values
    return sums - sums[begins]
