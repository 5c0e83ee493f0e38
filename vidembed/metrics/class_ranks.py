"""Ranks in blocks of class scores, f32[b, C]: one row per video, one column per class.

Ties are broken, never left to the sort: within a video the smaller class number comes first, within
a class the earlier video. True classes are ragged and flat, as in `corpora.labels`: values i32[L],
with offsets i64[b + 1].
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

SCORES_AT_ONCE = 1 << 22
"""Scores that are compared or sorted at a time: 16 MB, and a few copies."""


def top_classes(scores: np.ndarray, k: int) -> np.ndarray:
    """i32[b, k]: the k classes with the highest scores, best first; -1 from column C on."""
    videos, classes = scores.shape
    size = min(k, classes)
    table = np.full((videos, k), -1, np.int32)
    for start in range(0, videos, max(1, SCORES_AT_ONCE // classes)):
        block = scores[start : start + max(1, SCORES_AT_ONCE // classes)]
        threshold = np.partition(block, classes - size, axis=1)[:, classes - size, None]
        inside = block >= threshold
        for row in np.flatnonzero(inside.sum(axis=1) > size):  # equal to the last score
            above = block[row] > threshold[row]
            equal = np.flatnonzero(block[row] == threshold[row])
            inside[row] = above
            inside[row, equal[: size - above.sum()]] = True
        columns = np.nonzero(inside)[1].reshape(len(block), size)  # ascending in each row
        picked = np.take_along_axis(block, columns, axis=1)
        order = np.argsort(-picked, axis=1, kind="stable")
        table[start : start + len(block), :size] = np.take_along_axis(columns, order, axis=1)
    return table


def class_ranks(scores: np.ndarray, offsets: np.ndarray, values: np.ndarray) -> np.ndarray:
    """i64[L]: the rank of each true class among all classes of its video, counted from 1."""
    classes = scores.shape[1]
    video = np.repeat(np.arange(len(scores)), np.diff(offsets))
    ranks = np.empty(len(values), np.int64)
    step = max(1, SCORES_AT_ONCE // classes)
    for start in range(0, len(values), step):
        some = slice(start, start + step)
        row = scores[video[some]]
        own = np.take_along_axis(row, values[some, None].astype(np.int64), axis=1)
        ranks[some] = 1 + (row > own).sum(axis=1)
        equal = row == own
        tied = np.flatnonzero(equal.sum(axis=1) > 1)
        before = np.arange(classes) < values[some][tied, None]
        ranks[start + tied] += (equal[tied] & before).sum(axis=1)
    return ranks


class RankedClasses(NamedTuple):
    """Some classes that have a true video, each with its ranking of all videos."""

    classes: np.ndarray
    """i64[c]"""
    videos: np.ndarray
    """i64[c, V]: best first."""
    row: np.ndarray
    """i64[h]: the row of each true video, class by class."""
    place: np.ndarray
    """i64[h]: its place in the ranking, from 0, ascending within a class."""


def ranked_by_class(
    scores: np.ndarray, offsets: np.ndarray, values: np.ndarray
) -> Iterator[RankedClasses]:
    """Yield all classes that have a true video, in blocks, for scores f32[V, C] of all videos."""
    videos = len(scores)
    video = np.repeat(np.arange(videos, dtype=np.int64), np.diff(offsets))
    positives = np.bincount(values, minlength=scores.shape[1])
    occurring = np.flatnonzero(positives)
    by_class = np.argsort(values, kind="stable")
    first = np.cumsum(positives) - positives
    step = max(1, SCORES_AT_ONCE // max(1, videos))
    for start in range(0, len(occurring), step):
        some = occurring[start : start + step]
        right = np.zeros((len(some), videos), bool)
        true = by_class[first[some[0]] : first[some[-1]] + positives[some[-1]]]
        right[np.repeat(np.arange(len(some)), positives[some]), video[true]] = True
        ranked = _best_first(scores[:, some].T)
        row, place = np.nonzero(np.take_along_axis(right, ranked, axis=1))
        yield RankedClasses(some, ranked, row, place)


def precision_by_class(scores: np.ndarray, offsets: np.ndarray, values: np.ndarray) -> np.ndarray:
    """f64[c]: average precision of each class that has a true video, for scores f32[V, C]."""
    each = []
    for classes, _, row, place in ranked_by_class(scores, offsets, values):
        number = np.arange(1, len(row) + 1) - np.searchsorted(row, row)
        sums = np.bincount(row, number / (place + 1), minlength=len(classes))
        each.append(sums / np.bincount(row))
    return np.concatenate(each)


def _best_first(scores: np.ndarray) -> np.ndarray:
    """i64[c, V]: the videos of each row of scores f32[c, V], best first, ties by video.

    Sorts the bits of the scores, turned so that they descend, before the video's number: four times
    as fast as a stable sort of floats.
    """
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    falling = np.where(bits >> 31, bits, ~bits & np.uint32(0x7FFFFFFF))
    keys = falling.astype(np.uint64) << np.uint64(32) | np.arange(scores.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
