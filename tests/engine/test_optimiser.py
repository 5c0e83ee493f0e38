import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vidembed.engine.optimiser import Adagrad, Adam, Optimiser, Sgd, average_share

PARAMETERS = {"a/kernel": jnp.array([1.0, -2.0]), "a/bias": jnp.array([0.5])}
GRADIENT = {"a/kernel": jnp.array([0.3, 4.0]), "a/bias": jnp.array([-1.0])}


def updates(optimiser, count=3):
    rule, parameters = optimiser.transformation(), PARAMETERS
    state = rule.init(parameters)
    for _ in range(count):
        direction, state = rule.update(GRADIENT, state, parameters)
        parameters = optax.apply_updates(parameters, direction)
    return parameters


def test_stepwise_decay_is_the_papers():
    optimiser = Optimiser(learning_rate=0.1, decay=0.002, decay_steps=100_000)
    for step, times in ((0, 0), (99_999, 0), (100_000, 1), (350_000, 3)):
        assert optimiser.rate(step) == pytest.approx(0.1 * 0.998**times, rel=1e-6)


def test_warmup_rises_to_the_rate():
    optimiser = Optimiser(learning_rate=1.0, warmup_steps=4)
    assert [float(optimiser.rate(s)) for s in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


@pytest.mark.parametrize(
    ("rule", "reference"),
    [
        (Adam(), optax.adam(0.1)),
        (Sgd(momentum=0.9), optax.sgd(0.1, momentum=0.9)),
        (Sgd(momentum=0.9, nesterov=True), optax.sgd(0.1, momentum=0.9, nesterov=True)),
        (Adagrad(), optax.adagrad(0.1)),
    ],
)
def test_rules_equal_optax(rule, reference):
    got = updates(Optimiser(rule=rule, learning_rate=0.1))
    state, parameters = reference.init(PARAMETERS), PARAMETERS
    for _ in range(3):
        direction, state = reference.update(GRADIENT, state, parameters)
        parameters = optax.apply_updates(parameters, direction)
    for name in got:
        np.testing.assert_allclose(got[name], parameters[name], rtol=1e-5)


def test_clipping_bounds_the_global_norm():
    sgd = Optimiser(rule=Sgd(momentum=0.0), learning_rate=1.0, clip_norm=1.0)
    moved = updates(sgd, 1)
    norm = np.sqrt(sum(np.sum((moved[n] - PARAMETERS[n]) ** 2) for n in moved))
    assert norm == pytest.approx(1.0, rel=1e-5)


def test_weight_decay_shrinks_kernels_and_spares_biases():
    plain = Optimiser(rule=Sgd(momentum=0.0), learning_rate=0.1)
    decayed = Optimiser(rule=Sgd(momentum=0.0), learning_rate=0.1, weight_decay=0.5)
    one, other = updates(plain, 1), updates(decayed, 1)
    np.testing.assert_allclose(
        other["a/kernel"], one["a/kernel"] - 0.1 * 0.5 * PARAMETERS["a/kernel"], rtol=1e-6
    )
    np.testing.assert_array_equal(other["a/bias"], one["a/bias"])


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
def test_an_average_is_the_mean_of_all_updates_weighted_by_age(decay):
    values = np.random.default_rng(0).normal(size=200)
    average = np.float32(9.0)  # what was there before the first update counts for nothing
    for step, value in enumerate(values):
        share = np.float32(average_share(decay, step))
        average = share * np.float32(value) + (1 - share) * average
        weights = decay ** np.arange(step, -1, -1)
        slow = np.average(values[: step + 1], weights=weights)
        assert average == pytest.approx(slow, abs=1e-5), step
    assert float(average_share(decay, 10**6)) == pytest.approx(1 - decay, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"decay": 1.0}, "decay"),
        ({"decay_steps": 0}, "decay"),
        ({"average_decay": 1.0}, "average_decay"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"clip_norm": -1.0}, "clip_norm"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"warmup_steps": -1}, "warmup_steps"),
    ],
)
def test_values_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Optimiser(**options)


def test_rules_refuse_values_out_of_range():
    with pytest.raises(ValueError, match=r"b1 1\.5"):
        Adam(b1=1.5)
    with pytest.raises(ValueError, match="momentum"):
        Sgd(momentum=1.0)
