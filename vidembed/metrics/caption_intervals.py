"""Recalls, mean and median ranks of a search by captions, with intervals over videos.

Each resample draws videos with all of their captions, the same for both directions and all metrics.
The gallery stays the same.
"""

from collections.abc import Sequence

import numpy as np

from vidembed.metrics.caption_ranks import BothRanks
from vidembed.metrics.intervals import Interval, interval_over_runs, times_drawn
from vidembed.metrics.tied_ranks import MEDIAN, Ranks, median_rank

SUM = "sum_of_recalls"
"""The sum of R@k over all k and both directions."""
WEIGHTS_AT_ONCE = 1 << 22
"""Weights of queries in a block of resamples: 32 MB."""


def bootstrap(
    ranks: BothRanks, owners: np.ndarray, *, at: Sequence[int], seed: int, resamples: int = 1000
) -> dict[str, Interval]:
    """`text_to_video/r@1`, ..., `video_to_text/median_rank` and `sum_of_recalls`.

    owners: i[M], the video of each caption. Equal seeds give equal draws of equally many videos.
    """
    videos = len(ranks.video_to_text.above)
    intervals: dict[str, Interval] = {}
    point, sums = 0.0, np.zeros(resamples)
    sides = zip(BothRanks._fields, ranks, (owners, np.arange(videos)), strict=True)
    for direction, side, of_video in sides:
        values = side.metrics(at)
        resampled = {name: np.empty(resamples) for name in (*values, MEDIAN)}
        totals = {name: np.bincount(of_video, v, minlength=videos) for name, v in values.items()}
        queries = np.bincount(of_video, minlength=videos)
        medians = _Medians(side, of_video)
        done = 0
        for drawn in times_drawn(videos, seed=seed, resamples=resamples):
            some = slice(done, done := done + len(drawn))
            weights = drawn.astype(np.float64)
            for name, total in totals.items():
                resampled[name][some] = (weights @ total) / (weights @ queries)
            resampled[MEDIAN][some] = medians(drawn)
        points = {name: float(v.mean()) for name, v in values.items()}
        points[MEDIAN] = median_rank(side.expected())
        for name, value in points.items():
            intervals[f"{direction}/{name}"] = interval_over_runs([value], resampled[name][:, None])
        point += sum(points[f"r@{k}"] for k in at)
        sums += np.sum([resampled[f"r@{k}"] for k in at], axis=0)
    return intervals | {SUM: interval_over_runs([point], sums[:, None])}


class _Medians:
    """The median rank of each resample, from how often each video is drawn."""

    def __init__(self, ranks: Ranks, of_video: np.ndarray) -> None:
        expected = ranks.expected()
        order = np.argsort(expected, kind="stable")
        self._sorted, self._of_video = expected[order], of_video[order]

    def __call__(self, drawn: np.ndarray) -> np.ndarray:
        """i64[r, V] → f64[r]."""
        block = max(1, WEIGHTS_AT_ONCE // len(self._sorted))
        starts = range(0, len(drawn), block)
        return np.concatenate([self._of_block(drawn[start : start + block]) for start in starts])

    def _of_block(self, drawn: np.ndarray) -> np.ndarray:
        ends = np.cumsum(drawn[:, self._of_video], axis=1)
        count = ends[:, -1:]
        middle = [(ends > place).argmax(axis=1) for place in ((count - 1) // 2, count // 2)]
        median = (self._sorted[middle[0]] + self._sorted[middle[1]]) / 2
        return np.floor(median - 1) + 1
