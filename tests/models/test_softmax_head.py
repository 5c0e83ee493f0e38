"""The softmax over classes against the formula in float64, and on eight devices against one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.test_mixture_of_experts import LABELS, SHAPES, WEIGHTS, B, C, D, Z, on_mesh
from vidembed.models.softmax_head import BIAS, KERNEL, SoftmaxHead

HEAD = SoftmaxHead()
PARAMETERS = {
    KERNEL: np.random.default_rng(3).normal(size=(512, D)).astype(np.float32),
    BIAS: np.random.default_rng(4).normal(size=512).astype(np.float32),
}


def descend(parameters, z, labels, weights):
    def total(parameters, z):
        return HEAD.weighted_loss(parameters, z, labels, C, weights)

    return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(parameters, z)


def slow_losses(parameters, z):
    logits = z @ np.asarray(parameters[KERNEL][:C], float).T + parameters[BIAS][:C]
    logarithms = logits - np.logaddexp.reduce(logits, axis=1)[:, None]
    losses = np.zeros(B)
    for video, labels in enumerate(LABELS):
        own = {label for label in labels if label >= 0}
        if own:
            losses[video] = -np.mean([logarithms[video, label] for label in own])
    return losses, logarithms


def test_losses_scores_and_gradients_are_the_formula():
    losses, logarithms = slow_losses(PARAMETERS, Z.astype(float))
    assert losses[0] == 0  # without labels
    (total, ours), (gradient, by_z) = on_mesh(descend, PARAMETERS, Z, LABELS, WEIGHTS)
    np.testing.assert_allclose(ours, losses, rtol=1e-5)
    assert total == pytest.approx(WEIGHTS @ losses, rel=1e-5)
    scores = HEAD.scores(PARAMETERS, Z, C)
    np.testing.assert_allclose(scores[:, :C], np.exp(logarithms), rtol=1e-4)
    assert not np.any(scores[:, C:])
    direction = np.random.default_rng(5).normal(size=PARAMETERS[KERNEL].shape)
    moved = [
        WEIGHTS @ slow_losses(PARAMETERS | {KERNEL: PARAMETERS[KERNEL] + s * direction}, Z)[0]
        for s in (1e-5, -1e-5)
    ]
    assert np.sum(gradient[KERNEL] * direction) == pytest.approx(
        -np.diff(moved)[0] / 2e-5, rel=1e-4
    )
    side = np.random.default_rng(6).normal(size=Z.shape)
    moved = [WEIGHTS @ slow_losses(PARAMETERS, Z + s * side)[0] for s in (1e-5, -1e-5)]
    assert np.sum(by_z * side) == pytest.approx(-np.diff(moved)[0] / 2e-5, rel=1e-4)
    assert all(not np.any(part[C:]) for part in gradient.values())


@pytest.mark.parametrize("shape", SHAPES)
def test_devices_agree(shape):
    arguments = PARAMETERS, Z, LABELS, WEIGHTS
    sharded, single = on_mesh(descend, *arguments, shape=shape), on_mesh(descend, *arguments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-5), sharded, single)
    part = sharded[1][0][KERNEL].addressable_shards[0].data
    assert len(part) == 512 // shape[1]


def test_extreme_parameters_have_finite_losses_and_gradients():
    extreme = {name: np.sign(p) * 1e4 for name, p in PARAMETERS.items()}
    (_, losses), gradient = on_mesh(descend, extreme, Z, LABELS, WEIGHTS)
    assert np.all(np.isfinite(losses))
    assert np.max(losses) > 1e4
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_classes_start_at_their_priors():
    prior = np.linspace(1, 3, C) / 2 / C
    biases = jnp.asarray(np.log(prior / (1 - prior)), jnp.float32)
    start = HEAD.initialise(jax.random.key(0), size=D, biases=biases)
    assert start.keys() == HEAD.split_axes.keys()
    np.testing.assert_allclose(HEAD.scores(start, Z, C)[0, :C], prior, rtol=1e-4)


def test_a_label_outside_the_classes_makes_the_loss_nan():
    labels = LABELS.copy()
    labels[3, 0] = C
    (_, losses), _ = on_mesh(descend, PARAMETERS, Z, labels, WEIGHTS)
    assert list(np.flatnonzero(np.isnan(losses))) == [3]
