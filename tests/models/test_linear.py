"""The closed form against a dense problem in float64, and refusals."""

import numpy as np
import pytest
import scipy.linalg

from vidembed.models.linear import projection


@pytest.fixture(scope="module")
def data():
    """Rows f64[80, 6], symmetric relations f64[80, 80], and the two matrices."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 6)) @ rng.normal(size=(6, 6))
    near = np.exp(-((rows[:, None, 0] - rows[None, :, 0]) ** 2)) > 0.7
    np.fill_diagonal(near, False)
    return rows, near.astype(float), rows.T @ rows, rows.T @ near @ rows


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_it_is_the_generalised_eigenproblem(data, ridge, power):
    rows, _, square, edges = data
    regularised = square + ridge * np.linalg.eigvalsh(square).mean() * np.eye(6)
    values, vectors = scipy.linalg.eigh(edges, regularised)
    first = np.argsort(-values)[:3]
    expected = rows @ vectors[:, first] * values[first] ** power
    found = rows @ projection(square, edges, size=3, ridge=ridge, power=power)
    # Eigenvectors are unique up to their signs.
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-9)
    assert np.array_equal(projection(square, edges, size=3), projection(square, edges, size=3))


def test_signs_and_order_do_not_depend_on_the_solver(data):
    _, _, square, edges = data
    turned = np.diag([1.0, -1, 1, -1, 1, 1])
    one = projection(square, edges, size=4)
    other = turned @ projection(turned @ square @ turned, turned @ edges @ turned, size=4)
    np.testing.assert_allclose(np.abs(one), np.abs(other), atol=1e-12)
    largest = np.abs(one).argmax(axis=0)
    assert (one[largest, np.arange(4)] > 0).all()


def test_directions_in_which_related_videos_differ_are_zeros(data):
    _, _, square, edges = data
    values = scipy.linalg.eigh(edges, square + np.trace(square) / 6 * np.eye(6), eigvals_only=True)
    above = int((values > 0).sum())
    assert 0 < above < 6
    found = projection(square, edges, size=6)
    assert (np.abs(found).max(axis=0) > 0).tolist() == [True] * above + [False] * (6 - above)


@pytest.mark.fault(
    "Runs: a closed form of more directions than features, of values that are not finite, of "
    "constant or collinear features, without a relation between train videos, or an impossible "
    "ridge or power",
    "refused: which features, and what to do; with a ridge, collinear ones do no harm",
)
def test_unsolvable_problems_are_refused_by_name(data):
    rows, near, square, edges = data
    names = ["visual 0", "visual 1", "visual 2", "visual 3", "audio 0", "audio 1"]
    with pytest.raises(ValueError, match="size 7 is above the 6 features: choose 6 or less"):
        projection(square, edges, size=7)
    broken = rows.copy()
    broken[3, 5] = np.nan
    with pytest.raises(ValueError, match="not finite because of audio 1: look for NaN"):
        projection(broken.T @ broken, broken.T @ near @ broken, size=2, names=names)
    with pytest.raises(ValueError, match="all 6 features are constant"):
        projection(0 * square, 0 * edges, size=2)
    with pytest.raises(ValueError, match="no relation between train videos"):
        projection(square, 0 * edges, size=2)
    with pytest.raises(ValueError, match="not nearer than others in any direction"):
        projection(square, -square, size=2)
    twice = rows.copy()
    twice[:, 4], twice[:, 2] = twice[:, 1], 0
    sums = twice.T @ twice, twice.T @ near @ twice
    with pytest.raises(ValueError, match=r"2 of 6 .* collinear are visual 1, visual 2, audio 0"):
        projection(*sums, size=2, ridge=0, names=names)
    vectors = twice @ projection(*sums, size=2, ridge=0.1, names=names)
    assert np.isfinite(vectors).all()
    for options in ({"size": 0}, {"ridge": -1.0}, {"ridge": np.nan}, {"power": -0.5}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} "):
            projection(square, edges, **{"size": 2} | options)
