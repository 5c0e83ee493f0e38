"""Ridge regression from sums of products: the linear map onto target vectors, in closed form.

W = (XᵀX + λI)⁻¹ XᵀY, solved in float64, with rows X and targets Y centred on the rows that have a
target (Hoerl and Kennard, 1970). The intercept follows from this centring.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg

from vidembed.models.linear import listed, refuse_singular


class Centred(NamedTuple):
    """Centred sums of products of n rows with targets: `square` f64[d, d] and `cross` f64[d, k],
    and the `mean` f64[d] of the rows."""

    square: np.ndarray
    cross: np.ndarray
    mean: np.ndarray


def centred(square: np.ndarray, cross: np.ndarray) -> Centred:
    """Centre sums of products of rows with a 1 appended: f[d + 1, d + 1] and f[d + 1, k].

    Because of the ones, the last row of `square` holds the sum of the rows and their number, and
    the last row of `cross` the sum of the targets. Raises ValueError if there are no rows.
    """
    square, cross = np.asarray(square, np.float64), np.asarray(cross, np.float64)
    count = square[-1, -1]
    if not count > 0:
        raise ValueError("no train video has a target: there is nothing to learn from")
    mean, target_mean = square[-1, :-1] / count, cross[-1] / count
    return Centred(
        square=square[:-1, :-1] - count * np.outer(mean, mean),
        cross=cross[:-1] - count * np.outer(mean, target_mean),
        mean=mean,
    )


def ridge_map(
    square: np.ndarray, cross: np.ndarray, *, penalty: float, names: Sequence[str] = ()
) -> np.ndarray:
    """W f64[d, k] = (square f[d, d] + penalty I)⁻¹ cross f[d, k].

    names: of the features, for messages. Raises ValueError if there is no solution; the message
    names features that are not finite or, without a penalty, constant or collinear.
    """
    square, cross = np.asarray(square, np.float64), np.asarray(cross, np.float64)
    if not 0 <= penalty < float("inf"):
        raise ValueError(f"penalty {penalty} must be 0 or more")
    bad = ~(np.isfinite(square).all(axis=1) & np.isfinite(cross).all(axis=1))
    if bad.any():
        raise ValueError(
            f"sums over the videos with targets are not finite because of {listed(bad, names)}: "
            "look for NaN with `python -m vidembed inspect`, and in the targets"
        )
    if penalty == 0:
        if not np.trace(square) > 0:
            raise ValueError(
                f"all {len(square)} features are constant over the videos with targets"
            )
        refuse_singular(square, names)
    solved: np.ndarray = scipy.linalg.solve(
        square + penalty * np.eye(len(square)), cross, assume_a="pos"
    )
    return solved
