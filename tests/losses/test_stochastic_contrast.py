"""ProViCo's loss against loops over pairs in float64, on 1 and 8 devices, and its extremes."""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from tests.losses import test_bhattacharyya as distances
from tests.losses import test_match_probability as probabilities
from tests.losses.made_mixtures import B, D, K, made, on
from vidembed.losses.bhattacharyya import Bhattacharyya
from vidembed.losses.closed_forms_of_gaussians import ExpectedDistance
from vidembed.losses.mixtures import Clips, Mixtures, as_distribution, moments
from vidembed.losses.of_clips import stochastic
from vidembed.losses.stochastic_contrast import StochasticContrast
from vidembed.losses.thresholds import Fixed, Quantile
from vidembed.losses.uncertainty import Uncertainty, measures, to_standard

LOSSES = {
    "default": StochasticContrast(threshold=Quantile(share=0.1), block=3),
    "as printed": StochasticContrast(
        distance=Bhattacharyya(over_dimensions="sum", sampled=True),
        threshold=Fixed(distance=20.0),
        uncertainty=Uncertainty(variance="per_dimension", weight="deviations"),
        average="together",
    ),
    "printed, squared": StochasticContrast(
        threshold=Fixed(distance=0.0),
        uncertainty=Uncertainty(variance="per_dimension", regulariser=0.3),
    ),
    "closed form": StochasticContrast(
        threshold=Quantile(share=0.2),
        match=ExpectedDistance(),
        uncertainty=Uncertainty(weight="none", regulariser=0.0),
    ),
}


def batch(seed=0):
    mixtures = made(seed=seed)
    return mixtures._replace(valid=jnp.arange(B) != 3)


def by_loops(loss, mixtures):
    """(loss, measures) in float64, one pair at a time."""
    m = jax.tree.map(np.asarray, mixtures)
    valid = np.flatnonzero(m.valid)
    apart = distances.by_loops(mixtures, loss.distance.mean_weight, loss.distance.sampled)
    if loss.distance.over_dimensions == "mean":
        apart /= D
    log_p, log_other = probabilities.by_loops(loss.match, mixtures)
    different = [(i, j) for i in valid for j in valid if m.video[i] != m.video[j]]
    if isinstance(loss.threshold, Fixed):
        threshold = loss.threshold.distance
    else:
        known = sorted(apart[pair] for pair in different)
        threshold = known[2 * round(loss.threshold.share * len(known) / 2)]
    switches = loss.uncertainty
    sides, plain = {True: [], False: []}, {True: [], False: []}
    for i in valid:
        for j in valid:
            v, w = (m.variance[k].astype(np.float64) for k in (i, j))
            if switches.variance == "total":
                v, w = v.sum(keepdims=True), w.sum(keepdims=True)
            weight = {"none": 1, "variances": 1 / (v * w), "deviations": 1 / np.sqrt(v * w)}
            held = switches.regulariser * 0.5 * (np.log(v) + np.log(w)).mean()
            positive = bool(m.video[i] == m.video[j] or apart[i, j] < threshold * (1 - 1e-6))
            term = -(log_p if positive else log_other)[i, j]
            plain[positive].append(term)
            sides[positive].append(np.mean(weight[switches.weight]) * term + held)
    if loss.average == "together":
        total = lambda s: np.mean(s[True] + s[False])  # noqa: E731
    else:
        total = lambda s: 0.5 * np.mean(s[True]) + 0.5 * np.mean(s[False])  # noqa: E731
    mined = len(plain[True]) - sum(m.video[i] == m.video[j] for i in valid for j in valid)
    scale = D if loss.distance.over_dimensions == "sum" else 1
    return total(sides), {
        "match_loss": total(plain),
        "match_loss/positive": np.mean(plain[True]),
        "match_loss/negative": np.mean(plain[False]),
        "pairs": len(valid) ** 2,
        "positives": len(plain[True]),
        "mined": mined / len(different),
        "threshold": threshold / scale,
        "distance": np.mean([apart[pair] for pair in different]) / scale,
    }


@lru_cache
def compiled(loss):
    def total(mixtures, learned):
        return loss(mixtures, parameters=learned, batches=jnp.int32(0))

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True, allow_int=True))


def run(loss, mixtures, devices=1):
    """(loss, measures) and the gradients of mixtures and learned parameters."""
    learned = {name: jnp.float32(value) for name, value in loss.learned.items()}
    with on(devices):
        value, (of_mixtures, of_learned) = compiled(loss)(mixtures, learned)
    gradients = {n: getattr(of_mixtures, n) for n in ("mean", "variance", "samples")}
    return jax.tree.map(np.asarray, (value, gradients | of_learned))


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients(name):
    loss, mixtures = LOSSES[name], batch()
    (value, found), gradients = run(loss, mixtures)
    expected, measured = by_loops(loss, mixtures)
    assert value == pytest.approx(expected, rel=1e-4)
    for key, number in measured.items():
        assert found[key] == pytest.approx(number, rel=1e-4, abs=1e-5), key
    assert found["mined"] > 0 or name == "printed, squared"
    rng = np.random.default_rng(5)
    for key in ("mean", "variance", "samples"):
        array = np.asarray(getattr(mixtures, key), np.float64)
        direction = rng.normal(size=array.shape) * (array if key == "variance" else 1)
        # The distance has no gradient: pairs stay as they are while the arrays move.
        high, low = (
            by_loops(loss, mixtures._replace(**{key: array + step * direction}))[0]
            for step in (1e-6, -1e-6)
        )
        slope = np.sum(gradients[key] * direction)
        np.testing.assert_allclose(slope, (high - low) / 2e-6, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["default", pytest.param("as printed", marks=pytest.mark.long)])
def test_devices_agree(name):
    ((value, found), gradients), eight = (run(LOSSES[name], batch(), n) for n in (1, 8))
    (many, of_many), gradients_of_many = eight
    assert many == pytest.approx(value, rel=1e-5)
    for key, number in found.items():
        assert of_many[key] == pytest.approx(number, rel=1e-4, abs=1e-6), key
    for key, array in gradients.items():
        scale = np.abs(array).max() + 1e-6
        np.testing.assert_allclose(gradients_of_many[key] / scale, array / scale, atol=2e-5)


def test_a_video_is_positive_with_itself_and_invalid_ones_are_in_no_pair():
    """At τ = 0 only pairs of one video are positive: 7 with themselves, 2 mixtures of one video."""
    (_, found), gradients = run(LOSSES["printed, squared"], batch())
    assert (found["positives"], found["pairs"], found["mined"]) == (7 + 2, 49, 0)
    for name in ("mean", "variance", "samples"):
        assert not np.any(gradients[name][3]), name
    # Without any valid mixture: no loss, no gradient, no NaN.
    (value, found), gradients = run(LOSSES["default"], batch()._replace(valid=jnp.zeros(B, bool)))
    assert value == 0
    assert found["pairs"] == 0
    assert all(not np.any(array) for array in gradients.values())


@pytest.mark.parametrize("deviation", [1e-6, 1e-3, 1e3, "both"])
def test_extreme_deviations_stay_finite(deviation):
    some = np.where(np.arange(B) % 2, 1e-6, 1e3) if deviation == "both" else np.full(B, deviation)
    mixtures = batch()
    noise = (mixtures.samples - mixtures.mean[:, None]) / jnp.sqrt(mixtures.variance)[:, None]
    mixtures = mixtures._replace(
        variance=jnp.asarray(np.repeat(some[:, None] ** 2, D, 1), jnp.float32),
        samples=mixtures.mean[:, None] + jnp.asarray(some, jnp.float32)[:, None, None] * noise,
    )
    (value, found), gradients = run(LOSSES["default"], mixtures)
    assert np.isfinite(value)
    assert all(np.isfinite(number) for number in found.values())
    for name, array in gradients.items():
        assert np.isfinite(array).all(), name


def test_the_weight_of_total_variances_is_least_at_twice_the_loss():
    """L / s² + log s with s² = σ_i² σ_j², as Kendall and Gal have it."""
    switches, match_loss = Uncertainty(), 0.8
    of = lambda s: float(  # noqa: E731
        match_loss * (switches.factors(s) ** 2).sum() + 2 * switches.logarithms(s).sum()
    )
    least = np.sqrt(2 * match_loss)  # the total variance of each of two equal videos
    best = of(jnp.full((1, D), least / D))
    assert all(of(jnp.full((1, D), least * x / D)) > best for x in (0.8, 0.95, 1.05, 1.25))


@pytest.mark.parametrize("kl", ["clip", "mixture", "none"])
def test_the_divergence_is_that_of_loops(kl):
    rng = np.random.default_rng(0)
    present = np.array([[True, True, False], [False] * 3, [True, False, False]])
    mean, log_variance = (rng.normal(size=(3, 3, D)).astype(np.float32) for _ in range(2))
    clips = Clips(jnp.asarray(mean), jnp.asarray(log_variance), jnp.asarray(present))
    whole = jax.jit(moments)(clips)
    pairs = [(mean[n], np.exp(log_variance[n])) for n in zip(*np.nonzero(present))]
    if kl == "mixture":
        pairs = [(np.asarray(whole.mean[n]), np.asarray(whole.variance[n])) for n in (0, 2)]
    each = [0.5 * sum(v + m * m - 1 - np.log(v)) for m, v in pairs]
    run = jax.jit(Uncertainty(kl=kl).divergence)
    found = run(clips, whole, jnp.array([True, False, True]))
    assert float(found) == pytest.approx(0 if kl == "none" else np.mean(each), rel=1e-5)
    assert float(to_standard(*(jnp.array([x]) for x in (0.0, 1.0, 0.0)))) == 0


def test_measures_of_variances():
    mean, log_variance = np.zeros((2, 2, D), np.float32), np.full((2, 2, D), -12, np.float32)
    mean[0, 0, 1], log_variance[0, 0, 0], log_variance[1, 1] = 1, 0, 2
    clips = Clips(mean, log_variance, np.array([[True, True], [True, False]]))
    found = jax.jit(lambda clips: measures(clips, moments(clips), (-12.0, 2.0)))(clips)
    low = np.exp(-6)
    assert found["at_lowest"] == pytest.approx(1 - 1 / (3 * D))
    assert found["at_highest"] == 0
    assert found["deviation"] == pytest.approx((1 + (3 * D - 1) * low) / (3 * D), rel=1e-5)
    assert found["between"] == pytest.approx(0.25 / 2)
    assert found["within"] == pytest.approx(0.25, abs=1e-4)


def test_memory_is_bounded_by_blocks():
    """No array of B·B·K², nor of B·B·D, in the forward or the backward pass."""
    count, width, samples, block = 64, 32, 4, 4
    loss = StochasticContrast(block=block, distance=Bhattacharyya(sampled=True, block=block))
    mixtures = made(count, width, samples)

    def total(samples):
        given = mixtures._replace(samples=samples)
        learned = {name: jnp.float32(value) for name, value in loss.learned.items()}
        return loss(given, parameters=learned, batches=jnp.int32(0))[0]

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (np.prod(out.aval.shape) for out in equation.outvars)
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                yield from sizes(inner)

    with on(1):
        largest = max(sizes(jax.make_jaxpr(jax.grad(total))(mixtures.samples).jaxpr))
    assert largest <= max(block * count * width, block * count * samples**2, count * count)


def test_what_nothing_reads_is_not_drawn():
    closed = StochasticContrast(match=ExpectedDistance(), samples=K)
    assert (closed.draws, StochasticContrast(samples=K).draws) == (1, K)
    assert replace(closed, distance=Bhattacharyya(sampled=True)).draws == K


@pytest.mark.fault("Runs: a batch of clips does not divide over the devices", "refused")
def test_an_uneven_batch_is_refused():
    with pytest.raises(ValueError, match="8 mixtures are not divisible by 3 devices"):
        run(LOSSES["default"], batch(), devices=3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (lambda: StochasticContrast(samples=0), "samples 0 and block 32 must be 1 or more"),
        (lambda: StochasticContrast(views="thirds"), "views must be whole or halves"),
        (lambda: StochasticContrast(distribution="line"), "distribution must be mixture or"),
        (
            lambda: StochasticContrast(distribution="gaussian", draw="components"),
            "components needs distribution mixture",
        ),
        (
            lambda: StochasticContrast(distribution="point", match=ExpectedDistance()),
            "point needs task.loss.match:sampled",
        ),
        (lambda: Uncertainty(weight="inverse"), "weight must be one of variances, deviations"),
        (lambda: Uncertainty(kl_weight=-1.0), "kl_weight is -1.0"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        options()


def test_a_gaussian_and_a_point_are_parts_of_the_mixture():
    rng = np.random.default_rng(1)
    means = rng.normal(size=(B, 3, D)).astype(np.float32)
    clips = Clips(
        jnp.asarray(means), jnp.asarray(rng.normal(size=(B, 3, D)) - 3), jnp.ones((B, 3)) > 0
    )
    whole = moments(clips)
    gaussian, point = (as_distribution(whole, name) for name in ("gaussian", "point"))
    np.testing.assert_array_equal(as_distribution(whole, "mixture").variance, whole.variance)
    variances = np.exp(np.asarray(clips.log_variance, np.float64))
    np.testing.assert_allclose(gaussian.variance, variances.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(point.variance, np.full((B, D), 1 / D))
    for moved in (gaussian, point):
        np.testing.assert_allclose(moved.mean, means.mean(axis=1), atol=1e-6)


def test_the_loss_of_points_is_that_of_their_means_and_learns_no_variance():
    rng, loss = np.random.default_rng(2), StochasticContrast(distribution="point", samples=K)
    means = jnp.asarray(rng.normal(size=(B, 3, D)), jnp.float32)
    rows, learned = jnp.arange(B), {n: jnp.float32(v) for n, v in loss.learned.items()}

    def total(means, logarithms):
        clips = Clips(means, logarithms, jnp.ones((B, 3), bool))
        return stochastic(
            loss, clips, rows,
            parameters=learned, batches=jnp.int32(0), key=jax.random.key(0),
        )  # fmt: skip

    with on(1):
        run = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
        (value, found), (of_means, of_variances) = run(means, jnp.full((B, 3, D), -4.0))
    middle = means.mean(axis=1)
    points = Mixtures(
        number=rows, video=rows, valid=jnp.ones(B, bool), mean=middle,
        variance=jnp.full((B, D), 1 / D), samples=jnp.repeat(middle[:, None], K, axis=1),
    )  # fmt: skip
    expected, measured = by_loops(loss, points)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(found["match_loss"], measured["match_loss"], rtol=1e-4)
    assert np.abs(of_means).max() > 1e-4
    assert not np.any(of_variances)
    assert found["kl"] == 0
