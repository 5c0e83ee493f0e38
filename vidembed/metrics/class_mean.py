"""The mean of a metric over classes, in which rare classes count as much as common ones."""

import numpy as np

from vidembed.metrics.intervals import Interval, interval_over_runs, times_drawn


def class_mean(
    values: np.ndarray,
    classes: np.ndarray,
    groups: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> Interval:
    """The mean over classes of their mean value, with the 95 % bootstrap interval over groups.

    values f64[Q]: one of each query, of class i64[Q] and group [Q]. A resample draws as many groups
    as there are, each with all of its queries; classes without a query in it are left out of its
    mean.
    """
    _, by_class = np.unique(classes, return_inverse=True)
    distinct, by_group = np.unique(groups, return_inverse=True)
    sums = np.zeros((2, len(distinct), int(by_class.max()) + 1))
    for part, each in zip(sums, (values, np.ones(len(values)))):
        np.add.at(part, (by_group, by_class), each)
    draws = times_drawn(len(distinct), seed=seed, resamples=resamples)
    means = np.concatenate([_mean(*(drawn @ part for part in sums)) for drawn in draws])
    point = _mean(*(part.sum(axis=0)[None] for part in sums))
    return interval_over_runs([float(point[0])], means[:, None])


def _mean(totals: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """f64[r] of sums and numbers of queries [r, C]."""
    each = np.divide(totals, counts, where=counts > 0, out=np.zeros_like(totals))
    return np.asarray(each.sum(axis=1) / (counts > 0).sum(axis=1))
