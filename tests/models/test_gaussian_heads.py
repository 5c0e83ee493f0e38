"""The heads against numpy in float64, where they start, and the gradient at their bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.models.gaussian_heads import GaussianHeads, bounded
from vidembed.models.parameters import apply, initialise, parts

B, N, F, D = 3, 2, 7, 5
HEADS = GaussianHeads(size=D)


@pytest.fixture(scope="module")
def clips():
    return np.random.default_rng(0).normal(2, 3, (B, N, F)).astype(np.float32)


def test_means_and_variances_are_those_of_the_paper(clips):
    parameters = jax.jit(lambda key: initialise(HEADS, {"clips": F}, key))(jax.random.key(0))
    assert parts(HEADS) == ("log_variance", "mean", "norm")
    rng = np.random.default_rng(1)
    moved = {n: p + rng.normal(0, 0.2, p.shape).astype(np.float32) for n, p in parameters.items()}
    run = jax.jit(lambda p: apply(HEADS, p, {"clips": clips}))
    p = {name: np.asarray(value, np.float64) for name, value in moved.items()}
    hidden = clips @ p["mean/kernel"] + p["mean/bias"]
    hidden -= hidden.mean(axis=-1, keepdims=True)
    hidden /= np.sqrt(hidden.var(axis=-1, keepdims=True) + 1e-6)
    hidden = hidden * p["norm/scale"] + p["norm/bias"]
    mean, log_variance = run(moved)
    expected = hidden / np.linalg.norm(hidden, axis=-1, keepdims=True)
    np.testing.assert_allclose(mean, expected, atol=1e-5)
    expected = clips @ p["log_variance/kernel"] + p["log_variance/bias"]
    np.testing.assert_allclose(log_variance, np.clip(expected, -12, 2), rtol=1e-4, atol=1e-4)
    # Before training, every clip has the same total variance, e^-3 beside a mean of length 1.
    begin = np.exp(np.asarray(run(parameters)[1], np.float64)).sum(axis=-1)
    np.testing.assert_allclose(begin, np.exp(-3), rtol=1e-5)


def test_a_value_outside_the_bounds_can_come_back():
    x = jnp.array([-13.0, -13.0, 0.0, 0.0, 3.0, 3.0])
    towards = jnp.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    value, back = jax.vjp(lambda x: bounded(x, -12.0, 2.0), x)
    np.testing.assert_array_equal(value, [-12, -12, 0, 0, 2, 2])
    # Descent subtracts the gradient: a negative one raises x.
    np.testing.assert_array_equal(back(towards)[0], [0, -1, 1, -1, 1, 0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 0}, "size is 0"),
        ({"start": 5.0}, "starts at 5, but must lie between lowest -12 and highest 2"),
        ({"size": 20_000}, "starts at -12.9"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        GaussianHeads(**options)
