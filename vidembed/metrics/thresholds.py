"""A threshold per class that reaches a wanted precision, chosen on labelled validation videos."""

from typing import NamedTuple

import numpy as np

LEAST = 5
"""Predictions of a class above its threshold, at least; with fewer its precision is chance."""


class Chosen(NamedTuple):
    """Thresholds f32[C]: a class is assigned from this score on; infinite if it never is. `own`:
    the number of classes with a threshold of their own; the others share one. positives i64[C]: the
    true predictions from the own threshold on; −1 for the others."""

    thresholds: np.ndarray
    own: int
    positives: np.ndarray


class Reached(NamedTuple):
    """What thresholds leave on some videos: over all (video, class) pairs."""

    precision: float
    """Share of the assigned labels that are true; NaN if none is assigned."""
    recall: float
    """Share of the true labels that are assigned."""


def class_thresholds(
    scores: np.ndarray, classes: np.ndarray, hits: np.ndarray, *, count: int, precision: float
) -> Chosen:
    """The lowest threshold of each class at which at least `precision` of its predictions are true.

    scores f32[V, k], classes i32[V, k] and hits bool[V, k]: the best classes of each video; -1 for
    no class. count: C. A class needs `LEAST` predictions above its threshold. Classes without such
    a threshold share the one at which all of their predictions together reach the precision: rare
    classes have too few videos to choose by. Thresholds are chosen on these videos, so their
    precision is lower on others: measure it with `reached`.
    """
    real = classes >= 0
    score, number, hit = scores[real], classes[real], hits[real]
    thresholds, positives = np.full(count, np.nan, np.float32), np.full(count, -1)
    order = np.argsort(number, kind="stable")
    starts = np.searchsorted(number[order], np.arange(count + 1))
    for label in np.flatnonzero(np.diff(starts) >= LEAST):
        some = order[starts[label] : starts[label + 1]]
        thresholds[label] = _threshold(score[some], hit[some], precision)
        if not np.isnan(thresholds[label]):
            positives[label] = int(hit[some][score[some] >= thresholds[label]].sum())
    own = ~np.isnan(thresholds)
    rest = ~own[number]
    shared = _threshold(score[rest], hit[rest], precision)
    thresholds[~own] = np.inf if np.isnan(shared) else shared
    return Chosen(thresholds, int(own.sum()), positives)


def reached(
    scores: np.ndarray,
    classes: np.ndarray,
    hits: np.ndarray,
    *,
    positives: int,
    thresholds: np.ndarray,
) -> Reached:
    """Precision and recall of thresholds f32[C] on videos with `positives` true labels."""
    assigned = (classes >= 0) & (scores >= thresholds[classes])
    true = int((hits & assigned).sum())
    share = true / int(assigned.sum()) if assigned.any() else float("nan")
    return Reached(share, true / positives if positives else float("nan"))


def _threshold(scores: np.ndarray, hits: np.ndarray, precision: float) -> float:
    """The lowest score from which on at least this share are hits; NaN if there is none."""
    order = np.argsort(-scores, kind="stable")
    ranked, true = scores[order], np.cumsum(hits[order])
    number = np.arange(1, len(order) + 1)
    last_of_equal = np.append(ranked[1:] < ranked[:-1], True)[: len(order)]
    enough = (number >= LEAST) & last_of_equal & (true >= precision * number)
    places = np.flatnonzero(enough)
    return float(ranked[places[-1]]) if len(places) else float("nan")
