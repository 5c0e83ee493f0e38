"""The mixture of experts against Eq. 8 in float64, and on eight devices against one."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.distributed import mesh as meshes
from vidembed.engine.compiled_text import read_program
from vidembed.models.mixture_blocks import BIASES, EXPERTS, GATE_BIASES, GATES
from vidembed.models.mixture_of_experts import MixtureOfExperts
from vidembed.models.mixture_terms import SMALLEST, log_loss, log_odds

B, C, D = 16, 260, 6
SHAPES = [(8, 1), (4, 2), (1, 8)]
TWO = MixtureOfExperts(block_bytes=4 * 5 * B * 40)
MODELS = [
    TWO,
    MixtureOfExperts(mixtures=1),
    MixtureOfExperts(mixtures=5, block_bytes=1),
    MixtureOfExperts(mixtures=3, gate_bias=True),
]
RANDOM = np.random.default_rng(0)
Z = RANDOM.normal(size=(B, D)).astype(np.float32)
WEIGHTS = RANDOM.uniform(0.5, 2, B).astype(np.float32)
LABELS = np.full((B, 4), -1, np.int32)
for row in range(1, B):
    LABELS[row, : row % 4 + 1] = RANDOM.choice(C, row % 4 + 1, replace=False)
LABELS[1, :3] = [C - 1, -1, C - 1]  # repeated, and padded in between


@lru_cache
def parameters_of(model):
    """Random, the padding classes too: nothing relies on zeros there."""
    start = model.initialise(jax.random.key(0), size=D, biases=jnp.zeros(C))
    return {n: RANDOM.normal(size=p.shape).astype(np.float32) for n, p in start.items()}


def on_mesh(function, parameters, *videos, shape=(1, 1)):
    """The function's results with everything laid out on a data × model mesh."""
    mesh = meshes.make_mesh(
        meshes.MeshShape(data=shape[0], model=shape[1]), jax.devices()[: shape[0] * shape[1]]
    )
    by_class = meshes.shardings(mesh, dict.fromkeys(parameters, meshes.model_spec(0)))
    split = meshes.shardings(mesh, tuple(meshes.batch_spec(0) for _ in videos))
    with jax.set_mesh(mesh):
        placed = jax.device_put(parameters, by_class), *jax.device_put(videos, split)
        return jax.jit(function)(*placed)


def weighted(model):
    """(parameters, z, labels, weights) → ((total, losses), gradient by parameters and z)."""

    def total(parameters, z, labels, weights):
        return model.weighted_loss(parameters, z, labels, C, weights)

    return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)


def unweighted(model):
    def total(parameters, z, labels, weights):
        losses = model.loss(parameters, z, labels, C)
        return jnp.sum(losses * weights), losses

    return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)


@lru_cache
def scores_and_logits(model):
    """Compiled, without a mesh."""
    return jax.jit(lambda p, z: (model.scores(p, z, C), model.logits(p, z)))


@lru_cache
def on_one(model):
    return on_mesh(weighted(model), parameters_of(model), Z, LABELS, WEIGHTS)


def probabilities(parameters, z):
    """p(e|z) by Eq. 8, f64[B, C], a class at a time."""
    columns = []
    for label in range(C):
        part = {n: np.asarray(p[label], np.float64) for n, p in parameters.items()}
        experts = 1 / (1 + np.exp(-(z @ part[EXPERTS].T + part[BIASES])))
        if GATES in part:
            gates = np.exp(z @ part[GATES].T + part.get(GATE_BIASES, 0.0))
            experts = experts * gates[:, 1:] / gates.sum(axis=1, keepdims=True)
        columns.append(experts.sum(axis=1))
    return np.stack(columns, axis=1)


TRUTH = np.array([[label in LABELS[video] for label in range(C)] for video in range(B)])


def slow_losses(parameters, z):
    p = probabilities(parameters, z.astype(np.float64))
    return -np.sum(np.log(np.where(TRUTH, p, 1 - p)), axis=1)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_scores_and_losses_are_the_formula(model):
    parameters = parameters_of(model)
    slow = probabilities(parameters, Z.astype(np.float64))
    scores, logits = scores_and_logits(model)(parameters, Z)
    np.testing.assert_allclose(scores[:, :C], slow, rtol=2e-5)
    np.testing.assert_allclose(logits[:, :C], np.log(slow / (1 - slow)), rtol=1e-4, atol=1e-5)
    losses = on_one(model)[0][1]
    np.testing.assert_allclose(losses, slow_losses(parameters, Z), rtol=1e-5)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_gradients_are_differences_of_the_formula(model):
    """By a random direction in all parameters and vectors, in float64."""
    parameters = parameters_of(model)
    (_, _), (by_parameters, by_z) = on_one(model)
    random = np.random.default_rng(1)
    for name in [*parameters, "z"]:
        begin = Z if name == "z" else parameters[name]
        direction = random.normal(size=begin.shape)

        def moved(step, name=name, begin=begin, direction=direction):
            value = begin + step * direction
            part = parameters if name == "z" else parameters | {name: value}
            return WEIGHTS @ slow_losses(part, value if name == "z" else Z)

        slope = (moved(1e-5) - moved(-1e-5)) / 2e-5
        gradient = by_z if name == "z" else by_parameters[name]
        assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-4), name


@pytest.mark.parametrize("model", [TWO, MODELS[1]], ids=repr)
def test_both_losses_have_one_gradient_and_blocks_change_nothing(model):
    parameters = parameters_of(model)
    whole = MixtureOfExperts(mixtures=model.mixtures, gate_bias=model.gate_bias)
    for other in (unweighted(model), weighted(whole)):
        result = on_mesh(other, parameters, Z, LABELS, WEIGHTS)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=5e-5),
            result,
            on_one(model),
        )


@pytest.mark.parametrize(
    ("model", "shape"), [*((TWO, shape) for shape in SHAPES), (MODELS[3], (4, 2))], ids=repr
)
def test_devices_agree(model, shape):
    arguments = parameters_of(model), Z, LABELS, WEIGHTS
    result = on_mesh(weighted(model), *arguments, shape=shape)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=5e-5), result, on_one(model)
    )
    gradient, _ = result[1]
    for name, part in gradient.items():
        assert part.addressable_shards[0].data.shape[0] == part.shape[0] // shape[1], name


def test_devices_agree_on_scores():
    def logits(parameters, z):
        return TWO.logits(parameters, z, C)

    arguments = parameters_of(TWO), Z
    results = [on_mesh(logits, *arguments, shape=shape) for shape in ((2, 4), (1, 1))]
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)


def test_padding_classes_count_for_nothing():
    _, (gradient, _) = on_one(TWO)
    for name, part in gradient.items():
        assert len(part) == 512
        assert not np.any(part[C:]), name
        assert np.all(np.any(part[:C].reshape(C, -1), axis=1)), name
    scores, _ = scores_and_logits(TWO)(parameters_of(TWO), Z)
    assert np.all(scores[:, :C] > 0)
    assert not np.any(scores[:, C:])
    assert np.max(jax.lax.top_k(scores, C)[1]) == C - 1


def slow_terms(e, g, label):
    """Loss and slopes of one class from logarithms, in float64: e [H], g [H + 1]."""
    sign = -1 if label else 1
    log_right = -np.logaddexp(0, sign * e)
    joint = np.concatenate([[-np.inf if label else g[0]], g[1:] + log_right])
    gates, share = (np.exp(x - np.logaddexp.reduce(x)) for x in (g, joint))
    wrong = np.exp(-np.logaddexp(0, -sign * e))
    loss = np.logaddexp.reduce(g) - np.logaddexp.reduce(joint)
    return loss, sign * share[1:] * wrong, gates - share


@pytest.mark.parametrize("size", [1.0, 30.0, 100.0, 1e4])
def test_terms_of_any_logits_are_exact(size):
    random = np.random.default_rng(2)
    e = random.uniform(-size, size, (7, 3, 20)).astype(np.float32)
    g = random.uniform(-size, size, (7, 4, 20)).astype(np.float32)
    label = random.random((7, 20)) < 0.5
    if size == 1e4:
        e[0], g[0] = np.sign(e[0]) * size, np.sign(g[0]) * size
    terms = jax.jit(log_loss)(e, g, label, jnp.ones(7, bool))
    odds = np.asarray(jax.jit(log_odds)(e, g))
    for c, video in np.ndindex(label.shape):
        logits = e[c, :, video].astype(float), g[c, :, video].astype(float)
        loss, by_experts, by_gates = slow_terms(*logits, label[c, video])
        assert terms.loss[c, video] == pytest.approx(loss, rel=1e-5, abs=1e-6)
        np.testing.assert_allclose(terms.by_experts[c, :, video], by_experts, 1e-3, 1e-5)
        np.testing.assert_allclose(terms.by_gates[c, :, video], by_gates, 1e-3, 1e-5)
        sure = slow_terms(*logits, False)[0] - slow_terms(*logits, True)[0]
        assert odds[c, video] == pytest.approx(sure, rel=1e-5, abs=1e-5)


def test_the_slopes_of_an_improbable_class_keep_their_digits():
    """p is 1e-8, and 1 − p rounds to 1."""
    e, g = np.array([-18.0, -20.0]), np.array([0.3, 0.0, 0.5])
    expected = slow_terms(e, g, False)
    arguments = e[None, :, None], g[None, :, None], np.zeros((1, 1), bool), np.ones(1, bool)
    terms = jax.jit(log_loss)(*arguments)
    for value, slow in zip(terms, expected):
        np.testing.assert_allclose(np.ravel(value), np.ravel(slow), rtol=1e-5)


def test_logarithms_are_used_only_where_sums_would_underflow():
    assert SMALLEST**2 < np.finfo(np.float32).tiny < SMALLEST * 1e-7


@pytest.mark.parametrize("mixtures", [1, 2])
def test_losses_and_gradients_of_extreme_parameters_are_finite(mixtures):
    model = MixtureOfExperts(mixtures=mixtures)
    extreme = {n: np.sign(p) * 1e4 for n, p in parameters_of(model).items()}
    (_, losses), gradient = on_mesh(weighted(model), extreme, Z, LABELS, WEIGHTS)
    assert np.all(np.isfinite(losses))
    assert np.max(losses) > 1e5
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_one_expert_is_logistic_regression():
    model = MODELS[1]
    parameters = parameters_of(model)
    logits = (
        Z.astype(float) @ parameters[EXPERTS][:C, 0].T.astype(float) + parameters[BIASES][:C, 0]
    )
    by_logits = WEIGHTS[:, None] * (1 / (1 + np.exp(-logits)) - TRUTH)
    _, (gradient, _) = on_one(model)
    np.testing.assert_allclose(gradient[EXPERTS][:C, 0], by_logits.T @ Z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient[BIASES][:C, 0], by_logits.sum(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_classes_start_at_their_priors(model):
    prior = np.linspace(1e-6, 0.6, C)
    biases = jnp.asarray(np.log(prior / (1 - prior)), jnp.float32)
    parameters = model.initialise(jax.random.key(0), size=D, biases=biases)
    assert parameters.keys() == model.split_axes.keys()
    assert set(model.split_axes.values()) == {0}
    scores, _ = scores_and_logits(model)(parameters, jnp.zeros((B, D)))
    np.testing.assert_allclose(scores[0, :C], prior, rtol=1e-4)
    assert all(not np.any(p[C:]) for p in parameters.values())
    if model.mixtures > 1:
        assert len(np.unique(parameters[EXPERTS][:C])) > 0.9 * C * D * model.mixtures
        certain = model.initialise(jax.random.key(0), size=D, biases=jnp.full(3, 20.0))
        assert np.all(np.isfinite(certain[BIASES]))


def test_a_label_outside_the_classes_makes_the_loss_nan():
    labels = LABELS.copy()
    labels[3, 0] = C
    (total, losses), _ = on_mesh(weighted(TWO), parameters_of(TWO), Z, labels, WEIGHTS)
    assert np.isnan(total)
    assert list(np.flatnonzero(np.isnan(losses))) == [3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mixtures": 0}, "mixtures is 0"),
        ({"block_bytes": 0}, "block_bytes 0"),
        ({"mixtures": 1, "gate_bias": True}, "gate_bias"),
    ],
)
def test_invalid_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        MixtureOfExperts(**options)


def compiled(classes, mixtures, size, videos, shape):
    """The gradient's program for one device, from shapes alone."""
    model = MixtureOfExperts(mixtures=mixtures)
    devices = jax.devices()[: shape[0] * shape[1]]
    mesh = meshes.make_mesh(meshes.MeshShape(data=shape[0], model=shape[1]), devices)
    start = jax.eval_shape(
        lambda: model.initialise(jax.random.key(0), size=size, biases=jnp.zeros(classes))
    )
    arrays = (
        jax.ShapeDtypeStruct((videos, size), jnp.float32),
        jax.ShapeDtypeStruct((videos, 20), jnp.int32),
        jax.ShapeDtypeStruct((videos,), jnp.float32),
    )

    def laid_out(array, spec):
        sharding = meshes.shardings(mesh, spec)
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    parameters = {n: laid_out(p, meshes.model_spec(0)) for n, p in start.items()}
    batch = [laid_out(a, meshes.batch_spec(0)) for a in arrays]

    def total(parameters, z, labels, weights):
        return model.weighted_loss(parameters, z, labels, classes, weights)

    with jax.set_mesh(mesh):
        run = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
        return run.lower(parameters, *batch).compile()


@pytest.mark.optimised
def test_gradients_of_classes_stay_where_the_classes_are():
    program = read_program(compiled(500, 2, 32, 64, (2, 4)).as_text())
    kinds = {collective.kind for collective in program.collectives}
    assert kinds == {"all-reduce"}
    own_share = 4 * 512 * (5 * 32 + 2) // 4
    total = 4
    assert max(collective.put for collective in program.collectives) <= own_share + total
    alone = read_program(compiled(500, 2, 32, 64, (1, 4)).as_text())
    videos = 4 * 64 * 33  # their losses, and the gradient by their vectors
    assert max(collective.put for collective in alone.collectives) <= videos


@pytest.mark.optimised
@pytest.mark.parametrize("models", [(8,), pytest.param((2, 4, 8), marks=pytest.mark.long)])
def test_memory_of_a_device_falls_with_devices(models):
    """4,716 classes with 100 experts on 768 inputs: 3 GB of parameters, and as much of gradient."""
    sizes = {}
    for model in (1, *models):
        memory = compiled(4716, 100, 768, 512, (1, model)).memory_analysis()
        sizes[model] = memory.argument_size_in_bytes + memory.output_size_in_bytes
        sizes[model] += memory.temp_size_in_bytes
        assert memory.temp_size_in_bytes < 20e6, model
    for model in models:
        assert sizes[model] < sizes[1] / model * 1.1
