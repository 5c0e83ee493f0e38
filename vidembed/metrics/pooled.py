"""Average precision of pooled predictions: the k best classes of V videos, ranked together.

scores: f32[V, k]; classes: i32[V, k], -1 where a video has fewer; hits: bool[V, k], whether the
class is true. Conventions: see `multilabel`.
"""

import numpy as np


def pooled_precision(
    scores: np.ndarray, classes: np.ndarray, hits: np.ndarray, positives: int
) -> float:
    """GAP: average precision of the pooled predictions, divided by this many true classes.

    Raises ValueError if there is no true class.
    """
    _refuse_none(positives)
    ranks = 1 + np.flatnonzero(hits.reshape(-1)[pooled_order(scores, classes)])
    return float((np.arange(1, len(ranks) + 1) / ranks).sum() / positives)


def pooled_by_class(
    scores: np.ndarray, classes: np.ndarray, hits: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """f64[c]: the pooled predictions' average precision of each class that has a true video.

    labels: i32[L], the true classes of all videos. The mean is MAP per class. Raises
    ValueError if there is no true class.
    """
    _refuse_none(len(labels))
    order = pooled_order(scores, classes, by_class=True)
    ranked = classes.reshape(-1)[order]
    places = np.flatnonzero(hits.reshape(-1)[order])
    own = ranked[places]
    number = np.arange(1, len(own) + 1) - np.searchsorted(own, own)
    ranks = places + 1 - np.searchsorted(ranked, own)
    positives = np.bincount(labels)
    sums = np.bincount(own, number / ranks, minlength=len(positives))
    return sums[positives > 0] / positives[positives > 0]


def pooled_order(scores: np.ndarray, classes: np.ndarray, *, by_class: bool = False) -> np.ndarray:
    """i64[E]: places of the predictions in flattened [V, k], by descending score.

    Ties go by class, then by video. by_class: class by class.
    """
    entries = np.flatnonzero(classes.reshape(-1) >= 0)
    own, falling = classes.reshape(-1)[entries], -scores.reshape(-1)[entries]
    return entries[np.lexsort((falling, own) if by_class else (own, falling))]


def _refuse_none(positives: int) -> None:
    if not positives:
        raise ValueError("no video has a true class, so there is no precision to average")
