"""Confidence intervals of means over queries: the 95 % percentile bootstrap over videos.

Efron and Tibshirani 1993, chapter 13. Videos are resampled with replacement, each with all of its
queries; the trained network stays the same. So an interval says how far another sample of videos
would move the mean, not how far another training run would: use several seeds for that. Seeds share
videos, and a query that is easy for one seed is easy for another, so all seeds share each sample of
videos: independent samples per seed would treat shared luck as independent, and the interval would
be too narrow.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from vidembed.records.scores_file import PerQuery

# About 32 MB of drawn videos per block.
DRAWS_AT_ONCE = 1 << 22

Name = TypeVar("Name")
Runs = Sequence[Mapping[Name, np.ndarray]]
"""Per run (seed), metrics by name, f64[Q_r]: one value per query."""
Videos = Sequence[np.ndarray]
"""Per run, the ids of the query videos, [Q_r]."""


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(
    runs: Runs[Name], *, videos: Videos | None = None, seed: int, resamples: int = 1000
) -> dict[Name, Interval]:
    """For each metric, the mean over runs of each run's mean, with its interval.

    videos: required for several runs; a single run without them has one query per video. Each
    resample draws as many videos as there are distinct ones, the same for all runs and metrics. A
    run without a query in a resample is left out of that resample's mean over runs. Equal seeds
    give equal intervals.
    """
    runs, videos = _checked(runs, videos)
    means = _resampled_means(runs, videos, seed=seed, resamples=resamples)
    return {
        name: interval_over_runs([run[name].mean() for run in runs], means[:, :, place])
        for place, name in enumerate(runs[0])
    }


def differences(
    ones: Runs[Name], others: Runs[Name], *, videos: Videos, seed: int, resamples: int = 1000
) -> dict[Name, Interval]:
    """Like `bootstrap`, for the differences `ones` − `others` over the same queries.

    A query is drawn with both of its values, so whatever makes it easy or hard for both cancels.
    """
    ones, others = _paired(ones, others, videos)
    pairs = [
        {name: run[name] - other_run[name] for name in run} for run, other_run in zip(ones, others)
    ]
    return bootstrap(pairs, videos=videos, seed=seed, resamples=resamples)


def ratios(
    ones: Runs[Name], others: Runs[Name], *, videos: Videos, seed: int, resamples: int = 1000
) -> dict[Name, Interval]:
    """For each metric, the mean over runs of mean(ones) / mean(others) over the same queries.

    A resample with a mean of zero in `others` is ignored for that run. Raises ValueError if the
    mean over all queries of a run in `others` is zero.
    """
    ones, others = _paired(ones, others, videos)
    names = list(ones[0])
    zero = [name for name in names if any(not run[name].mean() for run in others)]
    if zero:
        raise ValueError(f"no ratio to a mean of zero: {', '.join(map(str, zero))}")
    pairs = [
        {("one", n): run[n] for n in run} | {("other", n): other_run[n] for n in run}
        for run, other_run in zip(ones, others)
    ]
    means = _resampled_means(pairs, videos, seed=seed, resamples=resamples)
    above, below = means[:, :, : len(names)], means[:, :, len(names) :]
    quotients = np.divide(above, below, where=below > 0, out=np.full_like(above, np.nan))
    return {
        name: interval_over_runs(
            [run[name].mean() / other_run[name].mean() for run, other_run in zip(ones, others)],
            quotients[:, :, place],
        )
        for place, name in enumerate(names)
    }


def times_drawn(videos: int, *, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield blocks of resamples, i64[r, V]: how often each video is drawn.

    Equal arguments give equal draws, so that metrics and systems share them.
    """
    if resamples < 40:
        raise ValueError(f"{resamples} resamples cannot show the outer 2.5 %: use 1,000")
    rng = np.random.default_rng(seed)
    block = max(1, DRAWS_AT_ONCE // videos)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(0, videos, (size, videos)) + videos * np.arange(size)[:, None]
        yield np.bincount(drawn.reshape(-1), minlength=size * videos).reshape(size, videos)


def interval_over_runs(points: Sequence[float], resampled: np.ndarray) -> Interval:
    """The mean of one point per run, with the interval from resampled f64[resamples, runs]."""
    defined = ~np.isnan(resampled)
    usable = defined.any(axis=1)
    means = np.where(defined, resampled, 0)[usable].sum(axis=1) / defined[usable].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(value=float(np.mean(points)), low=float(low), high=float(high))


def interval_of_rankings(points: Sequence[float], resampled: np.ndarray) -> Interval:
    """Like `interval_over_runs`, for metrics of one ranking of all videos, without their bias.

    Copies of a drawn video follow each other in the ranking. That raises the precision of rare
    classes, and a value may lie below all resamples. So the bootstrap's estimate of the bias, the
    mean of a run's resamples minus its point, is subtracted (Efron and Tibshirani 1993, 10.2).
    """
    return interval_over_runs(points, resampled - np.nanmean(resampled, axis=0) + points)


def _resampled_means(runs: Runs[Name], videos: Videos, *, seed: int, resamples: int) -> np.ndarray:
    """Mean of each run's queries, f64[resamples, runs, metrics]; NaN if it has none.

    Sums are products of counts [resamples, V] with the values of each video [V, runs × metrics], in
    blocks of resamples to bound memory.
    """
    distinct, place = np.unique(np.concatenate(videos), return_inverse=True)
    count = len(distinct)
    places = np.split(place, np.cumsum([len(ids) for ids in videos])[:-1])
    sums = np.zeros((count, len(runs), len(runs[0]) + 1))
    for number, (run, rows) in enumerate(zip(runs, places)):
        columns = [np.ones(len(rows)), *run.values()]
        np.add.at(sums[:, number], rows, np.stack(columns, axis=1))
    flat = sums.reshape(count, -1)
    draws = times_drawn(count, seed=seed, resamples=resamples)
    totals = [drawn.astype(np.float64) @ flat for drawn in draws]
    summed = np.concatenate(totals).reshape(resamples, len(runs), -1)
    queries = summed[:, :, :1]
    means = np.full_like(summed[:, :, 1:], np.nan)
    return np.divide(summed[:, :, 1:], queries, where=queries > 0, out=means)


def _checked(runs: Runs[Name], videos: Videos | None) -> tuple[Runs[Name], Videos]:
    if not runs:
        raise ValueError("no runs to average: give the values of at least one")
    if videos is None:
        if len(runs) > 1:
            raise ValueError(f"{len(runs)} runs may share videos: give the videos of each")
        videos = [np.arange(np.size(next(iter(runs[0].values()))))]
    runs = [{name: np.asarray(v, np.float64) for name, v in run.items()} for run in runs]
    for run, ids in zip(runs, videos, strict=True):
        if run.keys() != runs[0].keys():
            raise ValueError(f"runs differ in their metrics: {list(runs[0])} and {list(run)}")
        for name, values in run.items():
            if values.shape != (len(ids),) or not len(values) or not np.isfinite(values).all():
                raise ValueError(
                    f"{name}: a run needs one finite value per query and a video for each, found "
                    f"shape {values.shape} for {len(ids)} videos with "
                    f"{int((~np.isfinite(values)).sum())} not finite; leave out queries without a "
                    "value"
                )
    return runs, videos


def _paired(ones: Runs[Name], others: Runs[Name], videos: Videos) -> tuple[Runs[Name], Runs[Name]]:
    ones, others = _checked(ones, videos)[0], _checked(others, videos)[0]
    if len(ones) != len(others) or ones[0].keys() != others[0].keys():
        raise ValueError(
            f"pairs need the same runs and metrics on both sides, found {len(ones)} and "
            f"{len(others)} runs with {list(ones[0])} and {list(others[0])}"
        )
    return ones, others


class Result(NamedTuple):
    """The scores of one system, such as one checkpoint."""

    scores: Mapping[str, Interval]
    """By name, such as `eval_to_train/ndcg@10`."""
    per_query: Mapping[str, PerQuery]
    """By direction. The means of metrics of single queries are the values of `scores`; others, such
    as GAP, are no means over queries."""


class Selection(NamedTuple):
    """The score by which checkpoints are compared; higher is better."""

    name: str
    value: float
