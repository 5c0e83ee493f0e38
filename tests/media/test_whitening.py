"""Components equal those of scikit-learn, are stored, and are refused for other features."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from vidembed.media.whitening import Whitening, fitted


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(0)
    return (random.normal(size=(60, 6)) * [5, 3, 2, 1, 0.5, 0.1] + 7).astype(np.float32)


@pytest.mark.parametrize("whiten", [True, False])
def test_components_equal_scikit_learn(rows, whiten):
    ours = fitted([rows[:7], rows[7:]], 3, space="s", whiten=whiten)
    theirs = PCA(3, whiten=whiten, svd_solver="full").fit(rows.astype(np.float64))
    expected = theirs.transform(rows.astype(np.float64))
    if whiten:
        expected *= np.sqrt(60 / 59)  # the covariance here divides by the number of rows
    made = ours(rows)
    signs = np.sign((made * expected).sum(0))
    np.testing.assert_allclose(made * signs, expected, rtol=1e-3, atol=1e-4)
    assert ours.variance_share == pytest.approx(theirs.explained_variance_ratio_.sum())


def test_components_are_stored(rows, tmp_path):
    made = fitted([rows], 2, space="net/features")
    made.write(tmp_path / "c.npz")
    again = Whitening.read(tmp_path / "c.npz")
    np.testing.assert_array_equal(again(rows), made(rows))
    assert (again.space, again.digest) == ("net/features", made.digest)


@pytest.mark.fault("Video files: a file of components holds something else", "it is refused")
def test_other_files_are_refused(tmp_path, rows):
    np.savez(tmp_path / "other.npz", a=rows)
    (tmp_path / "text.npz").write_text("no")
    for name in ("other.npz", "text.npz"):
        with pytest.raises(ValueError, match="does not hold"):
            Whitening.read(tmp_path / name)
    with pytest.raises(ValueError, match="at most 6 components"):
        fitted([rows], 7, space="s")
