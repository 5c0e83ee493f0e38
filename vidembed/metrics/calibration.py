"""Calibration of predicted probabilities: how often is a class true that is predicted with p?

Predictions are counted in bins, so memory does not grow with them and counts of several parts add
up.
"""

from dataclasses import dataclass

import numpy as np

BINS = 20
"""Bins of equal width in [0, 1]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """The reliability curve: one point per bin that has predictions."""

    predicted: np.ndarray
    """f64[n]: the mean predicted probability."""
    positive: np.ndarray
    """f64[n]: the share that is true."""
    count: np.ndarray
    """i64[n]: the number of predictions."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """Counts of predictions by predicted probability.

    Of thousands of classes nearly all are predicted with about 0, and these dominate the error over
    all classes. Look at the error over the k best classes of each video too (`of` their scores).
    """

    count: np.ndarray
    """i64[n]: predictions in each bin."""
    predicted: np.ndarray
    """f64[n]: the sum of their probabilities."""
    positive: np.ndarray
    """i64[n]: how many are true."""

    @classmethod
    def of(cls, scores: np.ndarray, positive: np.ndarray, *, bins: int = BINS) -> "Reliability":
        """From probabilities f32[...] and whether each is true, bool[...]; -inf is left out.

        Raises ValueError for values that are no probabilities.
        """
        there = scores > -np.inf
        scores, place = _binned(scores[there], bins)
        return cls(
            count=np.bincount(place, minlength=bins),
            predicted=np.bincount(place, scores, minlength=bins),
            positive=np.bincount(place[positive[there]], minlength=bins),
        )

    @classmethod
    def of_block(
        cls, scores: np.ndarray, offsets: np.ndarray, values: np.ndarray, *, bins: int = BINS
    ) -> "Reliability":
        """From probabilities f32[b, C] and the true classes, as ragged rows; see `class_ranks`."""
        positive = np.zeros(scores.shape, bool)
        positive[np.repeat(np.arange(len(scores)), np.diff(offsets)), values] = True
        return cls.of(scores, positive, bins=bins)

    def __add__(self, other: "Reliability") -> "Reliability":
        """The counts of both; they need equal bins."""
        if len(self.count) != len(other.count):
            raise ValueError(f"bins differ: {len(self.count)} and {len(other.count)}")
        return Reliability(
            count=self.count + other.count,
            predicted=self.predicted + other.predicted,
            positive=self.positive + other.positive,
        )

    @property
    def curve(self) -> Curve:
        """The points of the reliability curve, by rising probability."""
        some = np.flatnonzero(self.count)
        count = self.count[some]
        predicted, positive = self.predicted[some] / count, self.positive[some] / count
        return Curve(predicted=predicted, positive=positive, count=count)

    @property
    def expected_error(self) -> float:
        """Expected calibration error: |share that is true − mean predicted|, averaged over
        predictions (Guo et al., ICML 2017). Raises ValueError without predictions."""
        if not self.count.any():
            raise ValueError("no predictions, so no calibration error")
        return float(np.abs(self.positive - self.predicted).sum() / self.count.sum())


def _binned(scores: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities f64[n] and the bin of each, i64[n]; 1 is in the last bin."""
    if not ((scores >= 0) & (scores <= 1)).all():
        bad = scores[~((scores >= 0) & (scores <= 1))]
        raise ValueError(
            f"{len(bad):,} of {len(scores):,} values are not probabilities in [0, 1], such as "
            f"{bad[0]}"
        )
    scores = scores.astype(np.float64)
    return scores, np.minimum((scores * bins).astype(np.int64), bins - 1)
