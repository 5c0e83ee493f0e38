"""What the variances of videos tell, measured on arrays: intervals, quantiles, shuffles, joints.

A statistic is a function of the weights of n queries, so that one function gives its value (all
weights 1) and its resamples (how often the source of each query is drawn).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from vidembed.metrics.intervals import Interval, interval_over_runs, times_drawn
from vidembed.metrics.nearest_hit import unit

Statistic = Callable[[np.ndarray], np.ndarray]
"""Weights f64[R, n] of n queries → values f64[R]; NaN where the weights leave nothing."""
Points = Sequence[float] | np.ndarray
KINDS = ("same video", "same source", "same class", "another class")
"""Where the second half of a joined video comes from."""
LENGTHS_APART = 1.25
"""Joined videos differ in length by this factor at most."""


def interval(
    statistics: Sequence[Statistic],
    sources: Sequence[np.ndarray],
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> Interval:
    """The mean of a statistic over runs, with a 95 % interval that resamples sources.

    sources: of each run, the source of each query, i[n]. All runs share the drawn sources. NaN if
    the statistic has no value.
    """
    distinct, place = np.unique(np.concatenate(sources), return_inverse=True)
    places = np.split(place, np.cumsum([len(of) for of in sources])[:-1])
    points = [float(of(np.ones((1, len(p))))[0]) for of, p in zip(statistics, places)]
    if not np.isfinite(points).all():
        return Interval(np.nan, np.nan, np.nan)
    draws = np.concatenate([*times_drawn(len(distinct), seed=seed, resamples=resamples)])
    drawn = [of(draws[:, p].astype(np.float64)) for of, p in zip(statistics, places)]
    return interval_over_runs(points, np.stack(drawn, axis=1))


def ratio(ones: np.ndarray, others: np.ndarray) -> Statistic:
    """The sum of ones f[n] divided by the sum of others f[n]."""

    def of(weights: np.ndarray) -> np.ndarray:
        above, below = weights @ ones, weights @ others
        return np.divide(above, below, where=below > 0, out=np.full(len(weights), np.nan))

    return of


def mean_of(values: np.ndarray, chosen: np.ndarray | None = None) -> Statistic:
    """The mean of values f[n], or of the chosen ones, bool[n]."""
    counted = np.ones(len(values)) if chosen is None else chosen.astype(np.float64)
    return ratio(values * counted, counted)


def difference(values: np.ndarray, ones: np.ndarray, others: np.ndarray) -> Statistic:
    """The mean of values f[n] over ones bool[n], minus that over others bool[n]."""
    first, second = mean_of(values, ones), mean_of(values, others)
    return lambda weights: first(weights) - second(weights)


def area(values: np.ndarray, positive: np.ndarray) -> Statistic:
    """The area under the ROC curve: the probability that a positive query, bool[n], has a higher
    value than another one; equal values count half."""
    one, other = np.flatnonzero(positive), np.flatnonzero(~positive)
    above = values[one][:, None] - values[other][None]
    wins = (above > 0) + 0.5 * (above == 0)

    def of(weights: np.ndarray) -> np.ndarray:
        first, second = weights[:, one], weights[:, other]
        won = ((first @ wins) * second).sum(axis=1)
        pairs = first.sum(axis=1) * second.sum(axis=1)
        return np.divide(won, pairs, where=pairs > 0, out=np.full(len(weights), np.nan))

    return of


def quantiles(values: np.ndarray, strata: np.ndarray, count: int) -> np.ndarray:
    """i64[n]: which of `count` equal parts, from the lowest, each value is in among its stratum.

    Equal values are in the same part.
    """
    parts = np.zeros(len(values), np.int64)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        ranks = stats.rankdata(values[rows]) - 0.5
        parts[rows] = (ranks * count / len(rows)).astype(np.int64)
    return parts


def of_length(lengths: np.ndarray, windows: np.ndarray, count: int) -> np.ndarray:
    """i64[n]: strata of videos of similar length and the same number of windows; i64[n] each."""
    edges = np.unique(np.quantile(lengths, np.arange(1, count) / count))
    bins = np.searchsorted(edges, lengths, side="right")
    return np.unique(np.stack([bins, windows]), axis=1, return_inverse=True)[1].reshape(-1)


def shuffled(
    values: np.ndarray, sources: np.ndarray, strata: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Values [n] given to other queries of the same stratum, source by source.

    Sources are put in two random orders, and the values of one order are given to the queries of
    the other: videos of one source, which are alike, mostly stay together.
    """
    given = np.array(values)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        places = np.unique(sources[rows], return_inverse=True)[1]
        to, by = (
            rows[np.lexsort((random.random(len(rows)), random.permutation(len(rows))[places]))]
            for _ in range(2)
        )
        given[to] = values[by]
    return given


def against_chance(value: float, by_chance: np.ndarray) -> tuple[Interval, float | None]:
    """The mean and 95 % range of the values by chance f64[S], and p: how many of them are at least
    as far from 0 as the value, which counts as one of them. NaN and None if S is 0."""
    if not len(by_chance):
        return Interval(np.nan, np.nan, np.nan), None
    further = int((np.abs(by_chance) >= abs(value) - 1e-12).sum())
    low, high = np.quantile(by_chance, [0.025, 0.975])
    range_ = Interval(float(by_chance.mean()), float(low), float(high))
    return range_, (1 + further) / (1 + len(by_chance))


def correlations(x: Points, y: Points) -> dict[str, float | None]:
    """Pearson's and Spearman's correlation; None if there are fewer than three points, or if one
    side is constant."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return {"pearson": None, "spearman": None}
    return {
        "pearson": float(stats.pearsonr(x, y).statistic),
        "spearman": float(stats.spearmanr(x, y).statistic),
    }


def pairs_by_video(
    near: np.ndarray, others: np.ndarray, labels: np.ndarray, sources: np.ndarray
) -> dict[str, np.ndarray]:
    """How many pairs each video of a batch has, f64[B], of each kind.

    near, others: bool[B, B], mined pairs and all pairs of two different videos; labels and sources:
    i[B]. `mined` and `all` pairs; `.../class` and `.../source`: those of one class or source;
    `.../apart`: those of different sources, and `.../apart/class` those of one class among them.
    """
    class_, source = (of[:, None] == of[None] for of in (labels, sources))
    counts = {}
    for name, pairs in (("mined", near & others), ("all", others)):
        for kind, inside in (
            ("", pairs),
            ("/class", pairs & class_),
            ("/source", pairs & source),
            ("/apart", pairs & ~source),
            ("/apart/class", pairs & ~source & class_),
        ):
            counts[name + kind] = inside.sum(axis=1).astype(np.float64)
    return counts


class Videos(NamedTuple):
    """What is known of n videos: class, source, frames and windows, i64[n] each."""

    labels: np.ndarray
    sources: np.ndarray
    lengths: np.ndarray
    windows: np.ndarray


def partners(videos: Videos, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Kind of joint → the video whose half each video is joined with, i64[n]; -1 for none.

    A partner has the same number of windows, and a length within a factor of `LENGTHS_APART`.
    """
    count = len(videos.labels)
    longer = np.maximum(videos.lengths[:, None], videos.lengths[None])
    shorter = np.minimum(videos.lengths[:, None], videos.lengths[None])
    fits = (longer <= LENGTHS_APART * shorter) & ~np.eye(count, dtype=bool)
    fits &= videos.windows[:, None] == videos.windows[None]
    class_, source = (of[:, None] == of[None] for of in (videos.labels, videos.sources))
    allowed = (fits & class_ & source, fits & class_ & ~source, fits & ~class_ & ~source)
    chosen = {KINDS[0]: np.arange(count)}
    for kind, inside in zip(KINDS[1:], allowed):
        best = np.where(inside, random.random((count, count)), -1.0).argmax(axis=1)
        chosen[kind] = np.where(inside.any(axis=1), best, -1)
    return chosen


def halves_of_windows(first: np.ndarray, second: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Clips [n, N, T, ...]: the first half of each video's windows, and the second half of the
    other's; windows i64[n]: how many both have."""
    early = np.arange(first.shape[1])[None] < (windows[:, None] + 1) // 2
    return np.where(early.reshape(early.shape + (1,) * (first.ndim - 2)), first, second)


def halves_of_frames(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Clips [n, N, T, ...]: every window begins as the first video's and ends as the second's."""
    middle = (first.shape[2] + 1) // 2
    return np.concatenate([first[:, :, :middle], second[:, :, middle:]], axis=2)


def spread(
    clips: np.ndarray, present: np.ndarray, mean: np.ndarray, deviation: np.ndarray
) -> np.ndarray:
    """f64[n]: the total variance of the frames of a video's windows, standardised by the train
    videos and of length 1: what the inputs tell without a trained model.

    clips [n, N, T, ..., F], present bool[n, N], mean and deviation f64[F].
    """
    scale = np.where(deviation > 0, 1 / np.where(deviation > 0, deviation, 1), 0)

    def one(windows: np.ndarray) -> float:
        frames = ((windows - mean) * scale).reshape(-1, np.prod(windows.shape[2:], dtype=int))
        vectors = unit(frames)
        return float(np.square(vectors - vectors.mean(axis=0)).sum(axis=1).mean())

    return np.array([one(of[here]) for of, here in zip(clips, present)])


def moments_of_channels(clips: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation f64[F] of the last axis over all arrays [..., F]."""
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for of in clips:
        values = of.reshape(-1, of.shape[-1]).astype(np.float64)
        count += len(values)
        total, squares = total + values.sum(axis=0), squares + np.square(values).sum(axis=0)
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - np.square(mean), 0))


def with_noise(
    frames: np.ndarray, size: float, deviation: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Frames [T, ..., F] with Gaussian noise of `size` deviations f64[F]; pixels stay u8."""
    noisy = frames + size * deviation * random.normal(size=frames.shape)
    if frames.dtype == np.uint8:
        noisy = np.rint(np.clip(noisy, 0, 255))
    return np.asarray(noisy, frames.dtype)


def as_json(value: Interval) -> Mapping[str, float | None]:
    """An interval as JSON values; NaN becomes None."""
    return {k: v if np.isfinite(v) else None for k, v in value._asdict().items()}
