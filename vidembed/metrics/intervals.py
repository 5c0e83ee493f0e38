"""How sure a mean over queries is: 95 % percentile bootstrap (Efron and Tibshirani 1993, ch. 13).

Queries are drawn again with replacement; the videos and the trained network stay as they are. So
an interval says how far another sample of queries would move the mean, not another training run:
that is what several seeds are for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# About 32 MB of drawn values at a time.
DRAWS_AT_ONCE = 1 << 22


class Interval(NamedTuple):
    """A mean with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(values: np.ndarray, *, seed: int, resamples: int = 1000) -> Interval:
    """The mean of values f64[Q], one a query, with its interval; equal seeds give equal ends."""
    return bootstrap_mean_of([values], seed=seed, resamples=resamples)


def bootstrap_mean_of(runs: Sequence[np.ndarray], *, seed: int, resamples: int = 1000) -> Interval:
    """The mean over runs of each run's mean, values f64[Q_r] per run, with its interval.

    Each run's queries are drawn again on their own (a stratified bootstrap), as fits runs of
    different queries: other sessions, other splits. For runs that share their queries, average
    over the runs first and bootstrap that: drawing apart would make shared luck look like
    independent luck, and the interval too narrow.
    """
    if not runs:
        raise ValueError("a mean over no runs: give at least one array of values")
    if resamples < 40:
        raise ValueError(f"{resamples} resamples cannot show the outer 2.5 %: take 1,000")
    rng = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for values in runs:
        values = np.asarray(values, np.float64)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
            raise ValueError(
                f"a run needs one finite value a query, found shape {values.shape} with "
                f"{int((~np.isfinite(values)).sum())} not finite; leave out queries without a value"
            )
        means += _resampled_means(values, rng, resamples) / len(runs)
    low, high = np.quantile(means, [0.025, 0.975])
    value = float(np.mean([np.mean(values) for values in runs]))
    return Interval(value=value, low=float(low), high=float(high))


def paired(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], *, seed: int, resamples: int = 1000
) -> Interval:
    """The mean difference first − second over the same queries, a pair f64[Q_r] twice per run.

    A query is drawn with both of its values, so what makes it easy or hard for both falls out.
    """
    for first, second in pairs:
        if np.shape(first) != np.shape(second):
            raise ValueError(
                f"a paired difference needs the same queries on both sides, found "
                f"{np.shape(first)} and {np.shape(second)} values"
            )
    differences = [np.asarray(a, np.float64) - np.asarray(b, np.float64) for a, b in pairs]
    return bootstrap_mean_of(differences, seed=seed, resamples=resamples)


def _resampled_means(values: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    rows = max(1, DRAWS_AT_ONCE // len(values))
    means = []
    for start in range(0, resamples, rows):
        shape = (min(rows, resamples - start), len(values))
        means.append(values[rng.integers(0, len(values), shape)].mean(axis=1))
    return np.concatenate(means)
