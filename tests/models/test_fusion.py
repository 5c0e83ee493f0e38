from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vidembed.distributed import mesh as meshes
from vidembed.models.fusion import EarlyFusion, LateFusion, Layers, SingleModality
from vidembed.models.parameters import apply, initialise, parts, split_axes

pytestmark = pytest.mark.optimised

WIDTHS = {"visual": 6, "audio": 3}
LAYERS = Layers(hidden=(7,), size=4)


def features(rows=5):
    rng = np.random.default_rng(0)
    return {m: jnp.asarray(rng.normal(size=(rows, w)), jnp.float32) for m, w in WIDTHS.items()}


def tower(parameters, number, x, last="none"):
    """A tower in NumPy."""
    x, layer = np.asarray(x), 0
    while f"towers/{number}/layers/{layer}/kernel" in parameters:
        name = f"towers/{number}/layers/{layer}"
        x = x @ np.asarray(parameters[f"{name}/kernel"]) + np.asarray(parameters[f"{name}/bias"])
        layer += 1
        final = f"towers/{number}/layers/{layer}/kernel" not in parameters
        if not final or last == "relu":
            x = np.maximum(x, 0)
    return x


def unit(x):
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(length > 0, length, 1)


@pytest.mark.parametrize("hidden", [(), (7,), (7, 5)])
@pytest.mark.parametrize("last", ["none", "relu"])
def test_networks_equal_numpy(hidden, last):
    layers = Layers(hidden=hidden, size=4, last_activation=last)
    x = features()
    for network in (
        LateFusion(layers=layers),
        EarlyFusion(layers=layers),
        SingleModality(layers=layers),
    ):
        parameters = initialise(network, WIDTHS, jax.random.key(1))
        # Biases of zero would hide a missing bias.
        parameters = {n: v + 0.1 if n.endswith("bias") else v for n, v in parameters.items()}
        got = apply(network, parameters, x)
        if isinstance(network, LateFusion):
            want = tower(parameters, 0, x["visual"], last) * tower(parameters, 1, x["audio"], last)
        elif isinstance(network, EarlyFusion):
            joined = np.concatenate([x["visual"], x["audio"]], axis=-1)
            want = tower(parameters, 0, joined, last)
        else:
            want = tower(parameters, 0, x["visual"], last)
        np.testing.assert_allclose(got, unit(want), rtol=2e-5, atol=1e-6)


def test_the_papers_network_has_its_parameters():
    parameters = jax.eval_shape(
        lambda: initialise(LateFusion(), {"visual": 1500, "audio": 128}, jax.random.key(0))
    )
    # Two towers, each with 4000 hidden and 256 outputs, kernels and biases.
    count = (1500 + 128) * 4000 + 2 * 4000 + 2 * (4000 * 256 + 256)
    assert sum(leaf.size for leaf in parameters.values()) == count


def test_dropout_only_with_a_key_and_scales_what_stays():
    network = SingleModality(layers=Layers(hidden=(), size=4, input_dropout=0.5))
    parameters = initialise(network, {"visual": 400}, jax.random.key(0))
    x = {"visual": jnp.ones((1, 400))}
    still = [apply(network, parameters, x) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    one, other = (apply(network, parameters, x, jax.random.key(k)) for k in (1, 2))
    assert not np.allclose(one, other)
    assert not np.allclose(one, still[0])


def test_towers_drop_different_inputs():
    network = LateFusion(
        layers=Layers(hidden=(), size=64, input_dropout=0.5), modalities=("a", "b")
    )
    parameters = initialise(network, {"a": 64, "b": 64}, jax.random.key(0))
    eye, zero = jnp.eye(64), jnp.zeros(64)
    for t in (0, 1):
        parameters |= {f"towers/{t}/layers/0/kernel": eye, f"towers/{t}/layers/0/bias": zero}
    x = {m: jnp.ones((1, 64)) for m in ("a", "b")}
    kept = np.asarray(apply(network, parameters, x, jax.random.key(3)) > 0)
    # Both kept: a quarter; with equal masks it would be a half.
    assert 6 <= kept.sum() <= 26


@pytest.mark.parametrize("kind", [LateFusion, EarlyFusion])
def test_modality_dropout_is_as_if_some_videos_lacked_a_modality(kind):
    """Each row equals its output with both modalities or with one marked as missing; each is
    dropped in p - p^2/2 of the rows, and a video with one modality keeps it."""
    probability, rows = 0.4, 600
    network = kind(layers=Layers(hidden=(), size=4), modality_dropout=probability)
    parameters = initialise(network, WIDTHS, jax.random.key(0))
    x = features(rows)
    silent = np.arange(rows) >= 500
    stated = {"audio": jnp.asarray(~silent)}
    dropped = apply(network, parameters, x, jax.random.key(5), present=stated)

    def without(*names):
        # A network gets zeros, the mean, for a missing modality.
        given = {m: v * (m not in names) for m, v in x.items()}
        lack = {name: jnp.zeros(rows, bool) for name in names}
        return apply(network, parameters, given, present=lack)

    cases = np.stack([without(), without("visual"), without("audio")])
    equal = np.abs(cases - np.asarray(dropped)).max(axis=-1) < 1e-5
    np.testing.assert_array_equal(equal.sum(axis=0), 1)
    assert equal[2, silent].all()
    expected = probability - probability**2 / 2
    assert equal[1:, ~silent].mean(axis=1) == pytest.approx([expected] * 2, abs=0.07)
    # Without a key nothing is dropped, and another key drops others.
    np.testing.assert_array_equal(apply(network, parameters, x), cases[0])
    other = apply(network, parameters, x, jax.random.key(6), present=stated)
    assert not np.allclose(other, dropped)


def test_bfloat16_is_close_and_its_gradient_too():
    x = features(64)
    exact = LateFusion(layers=Layers(hidden=(32,), size=16))
    rounded = LateFusion(layers=Layers(hidden=(32,), size=16, compute="bfloat16"))
    parameters = initialise(exact, WIDTHS, jax.random.key(0))
    weight = jnp.asarray(np.random.default_rng(1).normal(size=(64, 16)), jnp.float32)

    def score(parameters, network):
        return jnp.sum(apply(network, parameters, x) * weight)

    one, other = (jax.grad(score)(parameters, n) for n in (exact, rounded))
    for name in one:
        error = np.linalg.norm(one[name] - other[name]) / np.linalg.norm(one[name])
        assert 0 < error < 0.03, name
        assert other[name].dtype == jnp.float32


def test_bfloat16_products_have_bfloat16_operands_forward_and_backward():
    network = SingleModality(layers=Layers(hidden=(32,), size=16, compute="bfloat16"))
    parameters = initialise(network, {"visual": 6}, jax.random.key(0))
    x = {"visual": features()["visual"]}
    traced = jax.make_jaxpr(jax.grad(lambda p: apply(network, p, x).sum()))(parameters)
    products = list(products_in(traced.jaxpr))
    # Two layers forward and back, without the gradient of the inputs.
    assert len(products) >= 5
    for product in products:
        assert {str(v.aval.dtype) for v in product.invars} == {"bfloat16"}
        assert product.params["preferred_element_type"] == jnp.float32


def products_in(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from products_in(inner)


def test_zero_input_gives_no_nan():
    network = LateFusion(layers=LAYERS)
    parameters = initialise(network, WIDTHS, jax.random.key(0))
    zero = {m: jnp.zeros((2, w)) for m, w in WIDTHS.items()}
    gradient = jax.grad(lambda p: apply(network, p, zero).sum())(parameters)
    assert all(np.isfinite(g).all() for g in gradient.values())


SPLIT = {
    # Hidden layers → the axes of kernel and bias, layer by layer.
    0: [(None, None)],
    1: [(1, 0), (0, None)],
    2: [(1, 0), (0, None), (None, None)],
    3: [(1, 0), (0, None), (1, 0), (0, None)],
    4: [(1, 0), (0, None), (1, 0), (0, None), (None, None)],
}


@pytest.mark.parametrize("hidden", SPLIT)
@pytest.mark.parametrize("kind", [LateFusion, EarlyFusion, SingleModality])
def test_layers_are_split_alternately_by_outputs_and_inputs(kind, hidden):
    network = kind(layers=Layers(hidden=(8,) * hidden, size=4))
    expected = {}
    for tower in range(2 if kind is LateFusion else 1):
        for layer, (kernel, bias) in enumerate(SPLIT[hidden]):
            name = f"towers/{tower}/layers/{layer}"
            expected |= {f"{name}/kernel": kernel, f"{name}/bias": bias}
    assert split_axes(network, WIDTHS) == expected
    assert set(initialise(network, WIDTHS, jax.random.key(0))) == set(expected)


class Scaled(nnx.Module):
    """A user's network, whose parameters declare no split."""

    def __init__(self, inputs, rngs):
        self.deep = nnx.Dict(kernel=nnx.Param(rngs.params.normal((inputs, 3))))
        self.scale = nnx.Param(jnp.ones(3))

    def __call__(self, features, key, present):
        return features["visual"] @ self.deep["kernel"][...] * self.scale[...][None]


@dataclass(frozen=True)
class Stranger:
    modalities: tuple[str, ...] = ("visual",)
    size: int = 3

    def module(self, widths, rngs):
        return Scaled(widths["visual"], rngs)


def test_a_users_network_is_not_split_unless_declared():
    network = Stranger()
    assert split_axes(network, WIDTHS) == {"deep/kernel": None, "scale": None}
    assert parts(network) == ("deep", "scale")


@pytest.mark.parametrize("network", [LateFusion(layers=LAYERS), EarlyFusion(layers=LAYERS)])
def test_the_modalities_and_size_of_a_network(network):
    assert parts(network) == ("towers",)
    parameters = initialise(network, WIDTHS, jax.random.key(0))
    assert apply(network, parameters, features()).shape[-1] == network.size == 4


def test_a_mesh_does_not_turn_a_split_into_a_constraint():
    """The engine requests the layout; a module does not move its arrays itself."""
    network, x = LateFusion(layers=LAYERS), features()
    parameters = initialise(network, WIDTHS, jax.random.key(0))
    with jax.set_mesh(meshes.make_mesh(meshes.MeshShape(data=4, model=2))):
        traced = str(jax.make_jaxpr(lambda p: apply(network, p, x))(parameters))
    assert "sharding_constraint" not in traced


def test_a_modality_that_the_data_lacks_is_refused():
    with pytest.raises(ValueError, match=r"\['visual', 'audio'\].*\['visual'\].*no 'audio'"):
        initialise(LateFusion(), {"visual": 6}, jax.random.key(0))


def test_impossible_shapes_are_refused():
    with pytest.raises(ValueError, match="1 or more"):
        Layers(hidden=(0,))
    with pytest.raises(ValueError, match="outside"):
        Layers(input_dropout=1.0)
    with pytest.raises(ValueError, match=r"modality_dropout 1\.0 is outside"):
        EarlyFusion(modality_dropout=1.0)
