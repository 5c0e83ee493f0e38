import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.models.cluster_classifier import (
    KERNEL,
    LOG_SCALE,
    CosineClassifier,
    DotClassifier,
    padded,
)

KEY = jax.random.key(0)


@pytest.mark.parametrize(("classes", "rows"), [(2, 256), (256, 256), (257, 512), (10**6, 1000192)])
def test_the_table_is_padded_independently_of_the_mesh(classes, rows):
    assert padded(classes) == rows
    shapes = jax.eval_shape(lambda: CosineClassifier().initialise(KEY, classes, 8))
    assert shapes[KERNEL].shape == (rows, 8)
    assert shapes[LOG_SCALE].shape == ()


def test_rows_start_at_about_unit_length_and_padding_at_zero():
    table = CosineClassifier().initialise(KEY, 300, 64)[KERNEL]
    lengths = np.linalg.norm(table, axis=1)
    assert np.all(lengths[300:] == 0)
    assert np.all((lengths[:300] > 0.6) & (lengths[:300] < 1.4))
    assert np.mean(np.square(lengths[:300])) == pytest.approx(1, abs=0.05)
    assert len(np.unique(np.round(table[:300, 0], 6))) > 290


def test_cosines_ignore_the_length_of_a_row_and_accept_zeros():
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(5, 8)), jnp.float32)
    classifier = CosineClassifier()
    np.testing.assert_allclose(classifier.vectors(rows * 7.0), classifier.vectors(rows), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(classifier.vectors(rows), axis=1), 1, rtol=1e-5)
    slope = jax.grad(lambda r: jnp.sum(classifier.vectors(r)))(jnp.zeros((3, 8)))
    np.testing.assert_array_equal(slope, 0)
    np.testing.assert_array_equal(DotClassifier().vectors(rows), rows)


def test_the_scale_is_learnt_or_constant():
    learnt, fixed = CosineClassifier(scale=20.0), CosineClassifier(scale=20.0, learn_scale=False)
    parameters = learnt.initialise(KEY, 10, 8)
    assert float(learnt.scale_of(parameters)) == pytest.approx(20)
    slope = jax.grad(lambda p: learnt.scale_of(p))(parameters)
    assert float(slope[LOG_SCALE]) == pytest.approx(20)
    assert set(fixed.initialise(KEY, 10, 8)) == {KERNEL}
    assert float(fixed.scale_of({})) == 20
    assert set(DotClassifier().initialise(KEY, 10, 8)) == {KERNEL}
    assert float(DotClassifier().scale_of({})) == 1


def test_the_largest_probability_with_the_default_scale_and_a_million_classes():
    """A perfect match, with all other cosines zero: the documented nine tenths."""
    sure = np.exp(CosineClassifier().scale)
    assert sure / (sure + 10**6 - 1) == pytest.approx(0.9, abs=0.005)


def test_only_the_table_is_split():
    fixed = CosineClassifier(learn_scale=False)
    assert CosineClassifier().split_axes == {KERNEL: 0, LOG_SCALE: None}
    assert fixed.split_axes == DotClassifier().split_axes == {KERNEL: 0}
    for classifier in (CosineClassifier(), fixed, DotClassifier()):
        assert classifier.split_axes.keys() == classifier.initialise(KEY, 10, 8).keys()


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_scale_is_refused(scale):
    with pytest.raises(ValueError, match="scale"):
        CosineClassifier(scale=scale)
