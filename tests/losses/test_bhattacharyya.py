"""Distances of all pairs against loops in float64, and τ against a sort."""

from math import log, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.losses.made_mixtures import B, D, made, on
from vidembed.distributed import mesh as meshes
from vidembed.losses.bhattacharyya import Bhattacharyya, shapes_apart
from vidembed.losses.thresholds import Fixed, Quantile


def of_pair(z, y, v, w, weight):
    """The paper's distance of two samples, summed over the dimensions."""
    total = 0.0
    for d in range(D):
        total += 0.25 * log(0.25 * (v[d] / w[d] + w[d] / v[d] + 2))
        total += weight * (z[d] - y[d]) ** 2 / (v[d] + w[d])
    return total


def by_loops(mixtures, weight, sampled):
    m = jax.tree.map(lambda x: np.asarray(x, np.float64), mixtures)
    result = np.zeros((B, B))
    for i, j in np.ndindex(B, B):
        points = [(m.mean[i], m.mean[j])]
        if sampled:
            points = [(z, y) for z in m.samples[i] for y in m.samples[j]]
        each = [of_pair(z, y, m.variance[i], m.variance[j], weight) for z, y in points]
        result[i, j] = sum(each) / len(each)
    return result


@pytest.mark.parametrize("sampled", [False, True])
def test_distances_of_all_pairs(sampled):
    mixtures = made()
    options = {"mean_weight": 0.7, "sampled": sampled, "block": 3}
    summed = Bhattacharyya(over_dimensions="sum", **options)
    expected = by_loops(mixtures, 0.7, sampled)
    np.testing.assert_allclose(jax.jit(summed)(mixtures, mixtures), expected, rtol=2e-5, atol=1e-5)
    mean = Bhattacharyya(**options)(mixtures, mixtures)
    np.testing.assert_allclose(mean, expected / D, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(summed.per_dimension(expected, D), expected / D)
    np.testing.assert_array_equal(mean, np.asarray(mean).T)


def test_gradients_are_those_of_differences():
    mixtures = made()
    run = jax.jit(
        jax.grad(lambda m: jnp.sum(jnp.sin(Bhattacharyya(sampled=True, block=3)(m, m))),
                 allow_int=True)
    )  # fmt: skip
    gradient = run(mixtures)
    total = lambda m: np.sin(by_loops(m, 0.25, sampled=True) / D).sum()  # noqa: E731
    for name in ("variance", "samples"):
        array = np.asarray(getattr(mixtures, name), np.float64)
        for place in [(0, 1), (4, 0), (7, 2)]:
            moved = []
            for step in (-1e-5, 1e-5):
                other = array.copy()
                other[place] += step
                moved.append(total(mixtures._replace(**{name: other})))
            slope = (moved[1] - moved[0]) / 2e-5
            found = np.asarray(getattr(gradient, name))[place]
            np.testing.assert_allclose(found.sum(), slope, rtol=2e-3, atol=1e-4)


def test_a_quarter_makes_it_the_textbooks_distance():
    """−log ∫ √(p q), integrated numerically."""
    x = np.linspace(-30, 30, 200_001)
    density = lambda m, v: np.exp(-((x - m) ** 2) / (2 * v)) / sqrt(2 * np.pi * v)  # noqa: E731
    overlap = np.sqrt(density(0.3, 0.5) * density(1.5, 2.0)).sum() * (x[1] - x[0])
    one = made(1, 1)._replace(mean=jnp.array([[0.3]]), variance=jnp.array([[0.5]]))
    other = one._replace(mean=jnp.array([[1.5]]), variance=jnp.array([[2.0]]))
    assert float(Bhattacharyya()(one, other)[0, 0]) == pytest.approx(-log(overlap), rel=1e-5)


def test_samples_add_a_constant_on_average():
    """So that mining needs none: the expectation is λ per dimension more, for every pair."""
    mixtures = made(samples=4000)
    exact, sampled = (
        np.asarray(jax.jit(Bhattacharyya(sampled=s))(mixtures, mixtures)) for s in (False, True)
    )
    np.testing.assert_allclose(sampled - exact, 0.25, atol=0.1)


def test_extreme_variances_stay_finite_and_small_differences_count():
    v, w = np.float32([1e-12, 1e6, 1e-12, 0.5]), np.float32([1e6, 1e-12, 1e-12, 0.5001])
    exact = 0.25 * np.log(0.25 * (v.astype(float) / w + w.astype(float) / v + 2))
    np.testing.assert_allclose(shapes_apart(jnp.array(v), jnp.array(w)), exact, rtol=1e-3)


@pytest.mark.parametrize("devices", [1, 8])
def test_a_quantile_is_that_of_the_whole_batch(devices):
    rng = np.random.default_rng(0)
    values = np.float32(rng.gamma(2.0, size=(B, 12)))
    values[0, :3] = values[1, 0]  # ties
    counted = rng.random((B, 12)) < 0.7
    known = np.sort(values[counted])
    mesh = meshes.make_mesh(meshes.MeshShape(), jax.devices()[:devices])

    def of(threshold, batches=0):
        with jax.set_mesh(mesh):
            run = jax.jit(meshes.on_all_devices(threshold, (0, 0, None)))
            return np.asarray(run(values, counted, jnp.int32(batches)))

    for share in (0.0, 0.03, 0.5):
        rank = 2 * round(share * len(known) / 2)
        assert of(Quantile(share=share)) == known[rank]
        assert (known < known[rank]).sum() <= rank
    ramp = Quantile(share=0.4, start=0.1, ramp_batches=100)
    for batches, share in ((0, 0.1), (50, 0.25), (1000, 0.4)):
        assert of(ramp, batches) == known[2 * round(share * len(known) / 2)]
    assert of(Fixed(distance=0.25)) == 0.25


def test_a_quantile_of_no_pair_is_zero():
    none = np.zeros((8, 8), bool)
    with on(8):
        run = jax.jit(meshes.on_all_devices(Quantile(), (0, 0, None)))
        assert run(np.ones((8, 8), np.float32), none, jnp.int32(0)) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (lambda: Bhattacharyya(mean_weight=0.0), "mean_weight is 0.0"),
        (lambda: Bhattacharyya(over_dimensions="max"), "must be mean or sum, found 'max'"),
        (lambda: Bhattacharyya(block=0), "block is 0"),
        (lambda: Quantile(share=0.6), "share is 0.6, but must be a share of pairs"),
        (lambda: Quantile(ramp_batches=-1), "ramp_batches is -1"),
        (lambda: Fixed(distance=-1.0), "distance is -1.0"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        options()
