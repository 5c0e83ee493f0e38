"""A space in closed form: the linear map that puts videos watched together close to each other.

With rows X of standardised features, S = XᵀX + λI and M = XᵀÂX over the weighted relations Â, the
leading generalised eigenvectors of (M, S), each times a power of its eigenvalue, map a video's
features to its vector. This is linear spectral embedding of the relation graph: Locality Preserving
Projections (He and Niyogi, NeurIPS 2003) with the graph's affinity instead of its Laplacian (their
XLXᵀ is XDXᵀ − XAXᵀ, so its smallest eigenvectors are these, except for the weighting of videos by
degree). It is also canonical correlation analysis of co-watched pairs (Hotelling, 1936) with one
map for both views. λ is given as a share of the mean eigenvalue of XᵀX, so that it carries over to
more videos.
"""

from collections.abc import Sequence

import numpy as np
import scipy.linalg

SIZE, RIDGE, POWER = 256, 1.0, 0.5
"""Default values."""
SHOWN = 10
NEGLIGIBLE = 1e-10
"""Eigenvalues of XᵀX below this share of the largest count as zero, if λ is 0."""


def check_options(*, size: int, ridge: float, power: float) -> None:
    """Raise ValueError for values that are invalid for any data."""
    if size < 1:
        raise ValueError(f"size {size} must be 1 or more")
    if not 0 <= ridge < float("inf"):
        raise ValueError(f"ridge {ridge} must be 0 or more: a share of the mean eigenvalue")
    if not 0 <= power <= 4:
        raise ValueError(f"power {power} of the eigenvalues must lie in [0, 4]")


def projection(
    rows: np.ndarray,
    edges: np.ndarray,
    *,
    size: int = SIZE,
    ridge: float = RIDGE,
    power: float = POWER,
    names: Sequence[str] = (),
) -> np.ndarray:
    """The map f64[d, size] from standardised features to vectors (before these get unit length):
    `directions`, each times a power of its eigenvalue.

    If fewer than `size` eigenvalues are above zero, the last columns are zeros. Raises ValueError
    for invalid options, and as `directions` does.
    """
    check_options(size=size, ridge=ridge, power=power)
    values, vectors = directions(rows, edges, size=size, ridge=ridge, names=names)
    return scaled(values, vectors, power)


def scaled(values: np.ndarray, vectors: np.ndarray, power: float) -> np.ndarray:
    """Scale directions f64[d, k] by a power of their eigenvalues f64[k], or by zero for negative
    eigenvalues: there, related videos are further apart than others."""
    return vectors * np.where(values > 0, np.maximum(values, 0) ** power, 0)


def directions(
    rows: np.ndarray, edges: np.ndarray, *, size: int, ridge: float, names: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """(eigenvalues f64[size], descending; eigenvectors f64[d, size]) of (XᵀÂX, XᵀX + λI).

    rows: XᵀX f[d, d]. edges: XᵀÂX f[d, d]; only its symmetric part counts. names: of the features,
    for messages. Raises ValueError if there is no solution; the message names features that are not
    finite or, without a ridge, constant or collinear.
    """
    rows, edges = np.asarray(rows, np.float64), np.asarray(edges, np.float64)
    edges = (edges + edges.T) / 2
    if size > (width := len(rows)):
        raise ValueError(f"size {size} is above the {width} features: choose {width} or less")
    bad = ~(np.isfinite(np.diagonal(rows)) & np.isfinite(np.diagonal(edges)))
    if bad.any() or not np.isfinite(rows).all() or not np.isfinite(edges).all():
        raise ValueError(
            f"sums over the train videos are not finite because of {listed(bad, names)}: look for "
            "NaN with `python -m vidembed inspect`"
        )
    mean = np.trace(rows) / width
    if not mean > 0:
        raise ValueError(f"all {width} features are constant over the train videos")
    if not edges.any():
        raise ValueError(
            "no relation between train videos: the closed form has nothing to learn from"
        )
    if ridge == 0:
        refuse_singular(rows, names)
    # S = LLᵀ reduces it to a standard eigenproblem: C = L⁻¹ M L⁻ᵀ, and W = L⁻ᵀ V.
    factor = scipy.linalg.cholesky(rows + ridge * mean * np.eye(width), lower=True)
    half = scipy.linalg.solve_triangular(factor, edges, lower=True)
    inner = scipy.linalg.solve_triangular(factor, half.T, lower=True)
    values, vectors = scipy.linalg.eigh(
        (inner + inner.T) / 2, subset_by_index=(width - size, width - 1), driver="evr"
    )
    values, vectors = values[::-1], vectors[:, ::-1]
    if not values[0] > 0:
        raise ValueError(
            "related train videos are not nearer than others in any direction of the features: the "
            "closed form has no solution"
        )
    solved = scipy.linalg.solve_triangular(factor, vectors, lower=True, trans="T")
    return values, _signed(solved)


def _signed(matrix: np.ndarray) -> np.ndarray:
    """Make the largest entry of each column positive: the sign of an eigenvector is arbitrary, and
    differs between machines."""
    largest = np.take_along_axis(matrix, np.abs(matrix).argmax(axis=0)[None], axis=0)
    return matrix * np.where(largest < 0, -1.0, 1.0)


def refuse_singular(rows: np.ndarray, names: Sequence[str]) -> None:
    """Raise ValueError, by name, if features (XᵀX f64[d, d]) are constant or collinear."""
    values, vectors = scipy.linalg.eigh(rows)
    null = values < NEGLIGIBLE * values[-1]
    if null.any():
        involved = (np.square(vectors[:, null]).sum(axis=1)) > 1e-6
        raise ValueError(
            f"{int(null.sum())} of {len(rows)} directions of the features do not vary: constant or "
            f"collinear are {listed(involved, names)}. Give a ridge above zero (--task.ridge)"
        )


def listed(flags: np.ndarray, names: Sequence[str]) -> str:
    """The first of the flagged features, bool[d], by name or number."""
    which = np.flatnonzero(flags)
    shown = ", ".join(names[number] if names else str(number) for number in which[:SHOWN])
    return f"{shown} ... ({len(which)} in all)" if len(which) > SHOWN else shown or "none alone"
