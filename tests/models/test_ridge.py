"""Ridge regression from sums of products against scikit-learn's, and refusals."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from vidembed.models.ridge import centred, ridge_map

NAMES = ["visual 0", "visual 1", "visual 2", "audio 0"]


@pytest.fixture(scope="module")
def data():
    """Rows f64[50, 4] and targets f64[50, 3], both far from zero."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)) + 3
    return rows, rows[:, :3] @ rng.normal(size=(3, 3)) + rng.normal(size=(50, 3)) - 7


@pytest.mark.parametrize("penalty", [0.0, 5.0])
def test_it_equals_scikit_learns(data, penalty):
    rows, targets = data
    behind = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    known = centred(behind.T @ behind, behind.T @ targets)
    np.testing.assert_allclose(known.mean, rows.mean(axis=0))
    solved = ridge_map(known.square, known.cross, penalty=penalty)
    expected = Ridge(alpha=penalty).fit(rows, targets)
    np.testing.assert_allclose(solved, expected.coef_.T, atol=1e-9)
    bias = targets.mean(axis=0) - known.mean @ solved
    np.testing.assert_allclose(bias, expected.intercept_, atol=1e-9)


@pytest.mark.fault(
    "Runs: a ridge of which no video has a target, of values that are not finite, or, without a "
    "penalty, of features that are constant or collinear",
    "refused: which features, and what to do",
)
def test_unsolvable_problems_are_refused_by_name(data):
    rows, targets = data
    square, cross = rows.T @ rows, rows.T @ targets
    with pytest.raises(ValueError, match="no train video has a target"):
        centred(np.zeros((5, 5)), np.zeros((5, 3)))
    broken = cross.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite because of audio 0: look for NaN"):
        ridge_map(square, broken, penalty=1.0, names=NAMES)
    with pytest.raises(ValueError, match="all 4 features are constant"):
        ridge_map(0 * square, cross, penalty=0.0)
    assert not ridge_map(0 * square, 0 * cross, penalty=1.0).any()
    with pytest.raises(ValueError, match=r"penalty -1\.0"):
        ridge_map(square, cross, penalty=-1.0)
    twice = rows.copy()
    twice[:, 2] = twice[:, 1]
    with pytest.raises(ValueError, match=r"collinear are visual 1, visual 2\. Give a ridge"):
        ridge_map(twice.T @ twice, twice.T @ targets, penalty=0.0, names=NAMES)
