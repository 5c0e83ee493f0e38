"""Ranks of the first right answer among several, with ties in random order, in expectation.

So a constant similarity scores exactly chance. (The published code of VSE++ and JEMC puts the right
answer first among equals, so that a constant similarity would score perfectly.)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MEAN, MEDIAN = "mean_rank", "median_rank"


class Ranks(NamedTuple):
    """Where the right answers of each query stand."""

    above: np.ndarray
    """i64[Q]: wrong answers that score above the best right one."""
    tied: np.ndarray
    """i64[Q]: wrong answers that score the same."""
    right: np.ndarray
    """i64[Q]: right answers that score the same, the best one included: 1 or more."""

    def expected(self) -> np.ndarray:
        """f64[Q]: the mean 1-based rank of the first right answer over all orders of the ties.

        For one right answer, this is the average rank of the tied ones.
        """
        return 1 + self.above + self.tied / (self.right + 1)

    def recall(self, k: int) -> np.ndarray:
        """f64[Q]: the probability that a right answer is among the first k; 0 or 1 without ties.

        j = k − above places are left. Without a right answer they hold wrong ones alone, which has
        probability Π (tied − i) / (tied + right − i), i < j.
        """
        places = k - self.above
        missed = np.ones(len(self.above))
        for i in range(min(k, int((self.tied + self.right).max(initial=0)))):
            wrong = np.maximum(self.tied - i, 0) / np.maximum(self.tied + self.right - i, 1)
            missed *= np.where(i < places, wrong, 1.0)
        return 1 - missed

    def metrics(self, at: Sequence[int]) -> dict[str, np.ndarray]:
        """f64[Q] by name: `r@1`, ... and `mean_rank`, whose mean over queries is the mean rank."""
        return {f"r@{k}": self.recall(k) for k in at} | {MEAN: self.expected()}


def median_rank(ranks: np.ndarray) -> float:
    """floor(median of 0-based ranks) + 1, the convention of VSE++ and those who followed."""
    return float(np.floor(np.median(ranks - 1)) + 1)


def summary(ranks: Ranks, at: Sequence[int]) -> dict[str, float]:
    """R@k, mean rank and median rank of all queries."""
    means = {name: float(values.mean()) for name, values in ranks.metrics(at).items()}
    return means | {MEDIAN: median_rank(ranks.expected())}
