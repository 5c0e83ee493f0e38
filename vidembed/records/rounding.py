"""Measure the rounding error of a dtype relative to the spread of the features.

Eight bits over [-2, 2] suffice for features that fill that range. Vectors of unit length get only a
handful of levels, and values below half a step are lost: all videos become identical. Measured on
unit vectors in clusters, a rounding of 5 % of the spread changes 7 to 12 % of the ten nearest
videos, one of 10 % changes 12 to 22 %, and one of 20 % changes 22 to 38 %.
"""

import numpy as np

from vidembed.records.bytecode import STEP

WARN_ABOVE = 0.03
"""The largest share of the spread without a warning; YouTube-8M's own features are at 0.01."""
FEW = 20
_COARSE = 0.3  # of a dimension's own spread, which leaves hardly more than two levels
_SAMPLE_ROWS = 256  # per chunk, and fewer in later chunks, so that the cost is negligible


class Rounding:
    """Running statistics of one modality: the spread of its rows, and the rounding by dtypes."""

    def __init__(self, width: int, *, step: float = STEP) -> None:
        """step: the distance of two levels of uint8."""
        self.step = step
        self._rows, self._weight = 0, 0.0
        self._mean, self._squares, self._bfloat16 = np.zeros((3, width))

    def add(self, rows: np.ndarray) -> None:
        """Add finite rows f32[n, F]; later calls sample fewer of their rows."""
        every = max(self._rows, len(rows) - 1) // _SAMPLE_ROWS + 1
        sample = rows[::every].astype(np.float64)
        self._rows += len(rows)
        if not len(sample):
            return
        weight, each = float(len(rows)), len(rows) / len(sample)
        mean = sample.mean(0)
        apart, self._weight = mean - self._mean, self._weight + weight
        self._mean += apart * weight / self._weight
        self._squares += each * np.square(sample - mean).sum(0)
        self._squares += np.square(apart) * weight * (1 - weight / self._weight)
        self._bfloat16 += each * _rounded_squares(sample)

    @property
    def alike(self) -> bool:
        """Whether there were several rows, all of them identical."""
        return self._rows > 1 and not self._variance().any()

    def share(self, dtype: str) -> float:
        """The rounding to a dtype as a share of the spread, both as root mean squares over all
        values; 0 if all rows are identical."""
        spread = self._variance()
        return float(np.sqrt(self._error(dtype).sum() / spread.sum())) if spread.any() else 0.0

    def share_of_few(self, dtype: str, among: "Rounding | None" = None) -> float:
        """As `share`, but for at most `FEW` rows, which may be near one another, as a share of the
        smaller of the values themselves and the spread of the rows in `among`."""
        if self._rows > FEW:
            return self.share(dtype)
        sizes = [(self._variance() + np.square(self._mean)).sum()]
        if among is not None and among.spread:
            sizes.append(among.spread)
        return float(np.sqrt(self._error(dtype).sum() / min(sizes))) if all(sizes) else 0.0

    @property
    def spread(self) -> float:
        """Sum over dimensions of the variance; 0 for too few rows."""
        return float(self._variance().sum()) if self._rows > FEW else 0.0

    def distance(self, among: "Rounding") -> float:
        """Root mean square distance of the rows from the mean of the rows in `among`, relative to
        the spread of those; 1 if that is unknown."""
        if not self._rows or not among.spread:
            return 1.0
        squares = (self._variance() + np.square(self._mean - among._mean)).sum()
        return float(np.sqrt(squares / among.spread))

    def coarse(self, dtype: str) -> int:
        """Number of dimensions that vary, but by hardly more than a step of the dtype."""
        spread = self._variance()
        return int(((spread > 0) & (self._error(dtype) > _COARSE**2 * spread)).sum())

    def fitting(self, *, clipped: bool = False) -> str:
        """The smallest dtype with negligible rounding. clipped: whether uint8, whose range ends at
        2, would clip values and is excluded."""
        small = ("bfloat16",) if clipped else ("uint8", "bfloat16")
        few = len(self._mean) / 10
        fit = (d for d in small if self.share(d) <= WARN_ABOVE and self.coarse(d) <= few)
        return next(fit, "float32")

    def _variance(self) -> np.ndarray:
        variance = self._squares / max(1.0, self._weight)
        return np.where(variance > 1e-14 * np.square(self._mean), variance, 0)

    def _error(self, dtype: str) -> np.ndarray:
        """Mean square of the rounding of each dimension, f64[F]."""
        if dtype == "uint8":
            return np.full_like(self._mean, self.step**2 / 12)
        if dtype == "bfloat16":
            return self._bfloat16 / max(1.0, self._weight)
        return np.zeros_like(self._mean)


def _rounded_squares(sample: np.ndarray) -> np.ndarray:
    """Sum over rows f64[n, F] of the squared rounding to the 8 bits of a bfloat16, f64[F]."""
    parts, powers = np.frexp(sample)
    return np.square(np.ldexp(np.rint(parts * 256) / 256, powers) - sample).sum(0)
