import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vidembed.engine.optimiser import Adagrad, Adam, Optimiser, Rprop, Sgd, average_share

PARAMETERS = {"a/kernel": jnp.array([1.0, -2.0]), "a/bias": jnp.array([0.5])}
GRADIENT = {"a/kernel": jnp.array([0.3, 4.0]), "a/bias": jnp.array([-1.0])}


def updates(optimiser, count=3, steps=None):
    rule, parameters = optimiser.transformation(steps), PARAMETERS
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


@pytest.mark.parametrize(("warmup", "accumulate"), [(0, 1), (4, 1), (3, 2), (0, 5)])
def test_a_cosine_is_the_closed_formula(warmup, accumulate):
    optimiser = Optimiser(
        learning_rate=0.3, schedule="cosine", warmup_steps=warmup, accumulate=accumulate, decay=0.5
    )
    steps = 30
    updates = steps // accumulate
    for step in range(steps + 1):
        done = step // accumulate
        share = min(max(done - warmup, 0) / (updates - warmup), 1)
        slow = 0.3 * (1 + math.cos(math.pi * share)) / 2 * min(1, (done + 1) / max(warmup, 1))
        assert float(optimiser.rate(step, steps)) == pytest.approx(slow, abs=1e-7), step
    assert float(optimiser.rate(steps, steps)) == 0


def test_updates_by_a_cosine_equal_optax():
    got = updates(Optimiser(learning_rate=0.1, schedule="cosine"), count=5, steps=8)
    reference = optax.adam(optax.cosine_decay_schedule(0.1, 8))
    state, parameters = reference.init(PARAMETERS), PARAMETERS
    for _ in range(5):
        direction, state = reference.update(GRADIENT, state, parameters)
        parameters = optax.apply_updates(parameters, direction)
    for name in got:
        np.testing.assert_allclose(got[name], parameters[name], rtol=1e-6)


def test_a_cosine_without_an_end_is_refused():
    cosine = Optimiser(schedule="cosine", warmup_steps=10)
    with pytest.raises(ValueError, match="needs the number of steps"):
        cosine.rate(0)
    with pytest.raises(ValueError, match="found 10 updates and warmup_steps 10: train longer"):
        cosine.rate(0, 10)


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


def slow_rprop(gradients, *, rate, initial, minus, plus, least, most):
    """iRprop−, number by number: the moves of all updates."""
    size, last, moves = np.full(gradients.shape[1], initial), np.zeros(gradients.shape[1]), []
    for gradient in gradients:
        move = np.zeros_like(size)
        for n, slope in enumerate(gradient):
            if slope * last[n] < 0:
                size[n], last[n] = max(size[n] * minus, least), 0
                continue
            if slope * last[n] > 0:
                size[n] = min(size[n] * plus, most)
            move[n], last[n] = -np.sign(slope) * size[n] * rate, slope
        moves.append(move)
    return np.array(moves)


def test_rprop_equals_a_loop():
    gradients = np.random.default_rng(0).normal(0.3, 1, (60, 20)).astype(np.float32)
    gradients[5:8, :4] = 0
    gradients[:, 0] = np.abs(gradients[:, 0])  # to the largest step
    gradients[:, 1] *= np.where(np.arange(60) % 3, 1, -1) * np.sign(gradients[:, 1])
    rprop = Rprop(initial_step=0.5, eta_minus=0.4, eta_plus=1.5, min_step=0.1, max_step=4.0)
    optimiser = Optimiser(rule=rprop, learning_rate=0.2)
    rule = optimiser.transformation()
    state, moves = rule.init({"kernel": jnp.zeros(20)}), []
    for gradient in gradients:
        move, state = rule.update({"kernel": jnp.asarray(gradient)}, state)
        moves.append(move["kernel"])
    slow = slow_rprop(gradients, rate=0.2, initial=0.5, minus=0.4, plus=1.5, least=0.1, most=4.0)
    np.testing.assert_allclose(moves, slow, rtol=1e-5)
    np.testing.assert_allclose(np.abs(moves[0]), 0.1, rtol=1e-6)  # initial step times rate
    sizes = np.abs(slow[slow != 0])
    assert sizes.max() == pytest.approx(0.8)
    assert sizes.min() == pytest.approx(0.02)


def test_rprop_descends_where_scales_differ():
    """A bowl whose axes differ a millionfold in curvature: signs alone do not see it."""
    curvature = jnp.array([1e-3, 1.0, 1e3])
    rule = Optimiser(rule=Rprop(), learning_rate=0.1).transformation()
    place = {"kernel": jnp.array([3.0, -5.0, 0.7])}
    state = rule.init(place)
    for _ in range(100):
        move, state = rule.update({"kernel": curvature * place["kernel"]}, state)
        place = optax.apply_updates(place, move)
    assert np.max(np.abs(place["kernel"])) < 1e-3


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
    for options in ({"eta_minus": 1.0}, {"eta_plus": 1.0}, {"eta_plus": float("nan")}):
        with pytest.raises(ValueError, match="eta_minus"):
            Rprop(**options)
    for options in ({"initial_step": 60.0}, {"min_step": 0.0}, {"max_step": float("inf")}):
        with pytest.raises(ValueError, match="initial_step"):
            Rprop(**options)
