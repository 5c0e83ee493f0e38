"""Multinomial logistic regression on frozen features: what a linear classifier reads from them.

The objective is the mean cross-entropy plus l2/2 times the squared weights, without the biases. It
is convex; L-BFGS from zero runs until it converges, so that the result has no learning rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from scipy.special import logsumexp

MOST_ITERATIONS, TOLERANCE = 2000, 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearClassifier:
    """weights f64[D, C], biases f64[C]."""

    weights: np.ndarray
    biases: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Logits f64[N, C] of features f[N, D]."""
        return np.asarray(features @ self.weights + self.biases, np.float64)

    def loss(self, features: np.ndarray, labels: np.ndarray) -> float:
        """The mean cross-entropy of labels i[N]."""
        scores = self.scores(features)
        chosen = scores[np.arange(len(labels)), labels]
        return float((logsumexp(scores, axis=1) - chosen).mean())


def fit(features: np.ndarray, labels: np.ndarray, *, classes: int, l2: float) -> LinearClassifier:
    """The classifier of features f[N, D] into classes i[N] of 0..classes-1.

    Raises ValueError unless l2 is positive, and RuntimeError if it does not converge.
    """
    if not l2 > 0:
        raise ValueError(f"l2 must be positive, found {l2}: without it separable classes diverge")
    features = np.asarray(features, np.float64)
    basis = None
    if features.shape[1] > len(features):
        # The weights lie in the span of the rows: fit in its coordinates, N instead of D.
        basis, triangle = np.linalg.qr(features.T)
        features = triangle.T
    rows, width = features.shape
    expected = np.eye(classes)[labels]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, biases = np.split(flat.reshape(width + 1, classes), [width])
        scores = features @ weights + biases
        normaliser = logsumexp(scores, axis=1)
        loss = (normaliser - (scores * expected).sum(axis=1)).mean()
        residual = (np.exp(scores - normaliser[:, None]) - expected) / rows
        gradient = np.concatenate([features.T @ residual + l2 * weights, residual.sum(0)[None]])
        return loss + l2 / 2 * np.square(weights).sum(), gradient.ravel()

    options: dict[str, float] = {"maxiter": MOST_ITERATIONS, "maxfun": 10 * MOST_ITERATIONS}
    options |= {"maxcor": 20, "gtol": TOLERANCE, "ftol": 1e-13}
    start = np.zeros((width + 1) * classes)
    result = scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    if result.nit >= MOST_ITERATIONS:
        raise RuntimeError(
            f"the probe did not converge in {MOST_ITERATIONS} iterations (l2 {l2:g}): standardise "
            "the features, or choose a larger l2"
        )
    weights, biases = np.split(result.x.reshape(width + 1, classes), [width])
    return LinearClassifier(weights=weights if basis is None else basis @ weights, biases=biases[0])


def chosen_l2(
    features: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[np.ndarray],
    candidates: Sequence[float],
    *,
    classes: int,
) -> float:
    """The candidate with the smallest cross-entropy on held-out rows; of equals the largest.

    folds: bool[N], the rows that are held out each time while the others are fitted.
    """
    losses = []
    for l2 in candidates:
        each = [
            fit(features[~held], labels[~held], classes=classes, l2=l2).loss(
                features[held], labels[held]
            )
            * held.sum()
            for held in folds
        ]
        losses.append((sum(each), -l2))
    return -min(losses)[1]


def group_folds(groups: np.ndarray, folds: int, *, seed: int) -> list[np.ndarray]:
    """`folds` masks bool[N] of about equally many groups i[N]; each group is in exactly one.

    Raises ValueError if there are fewer than two groups.
    """
    distinct, place = np.unique(groups, return_inverse=True)
    count = min(folds, len(distinct))
    if count < 2:
        raise ValueError(
            f"{len(distinct)} group of train clips cannot be split to choose l2: give validation "
            "clips, or clips of several sources"
        )
    number = np.random.default_rng(seed).permutation(len(distinct)) % count
    return [number[place] == fold for fold in range(count)]
