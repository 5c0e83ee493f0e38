"""The GRU against a plain scan with JAX's own gradient, and against a slow loop in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vidembed.models.gru import GruWeights, embedded, last_state, looked_up, scanned
from vidembed.models.text import Gru, Sentences

B, L, H, E, W = 5, 6, 4, 3, 9
LENGTHS = np.array([6, 1, 3, 0, 5], np.int32)


@pytest.fixture(scope="module")
def arguments():
    rng = np.random.default_rng(0)
    shapes = [(L, B, 3 * H), (H, 3 * H), (H,)]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def plain(inputs, kernel, bias, lengths):
    """The same as a scan without a gradient of its own."""

    def step(state, given):
        number, x = given
        product = jnp.matmul(state, kernel, precision="highest")
        r, z = (jax.nn.sigmoid(x[:, g] + product[:, g]) for g in (slice(H), slice(H, 2 * H)))
        n = jnp.tanh(x[:, 2 * H :] + r * (product[:, 2 * H :] + bias[None]))
        new = (1 - z) * n + z * state
        return jnp.where((number < lengths)[:, None], new, state), None

    start = jnp.zeros((inputs.shape[1], H))
    return jax.lax.scan(step, start, (jnp.arange(len(inputs)), inputs))[0]


def slow(tokens, lengths, p):
    """A GRU caption by caption and word by word, in float64, with gates as in PyTorch."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    p = {name: np.asarray(value, np.float64) for name, value in p.items()}
    states = []
    for line, length in zip(tokens, lengths):
        h = np.zeros(H)
        for token in line[:length]:
            a = p["embedding"][token] @ p["input_kernel"] + p["bias"]
            b = h @ p["recurrent_kernel"]
            r, z = sigmoid(a[:H] + b[:H]), sigmoid(a[H : 2 * H] + b[H : 2 * H])
            n = np.tanh(a[2 * H :] + r * (b[2 * H :] + p["candidate_bias"]))
            h = (1 - z) * n + z * h
        states.append(h / max(np.linalg.norm(h), 1e-30))
    return np.array(states)


def test_states_and_gradients_equal_those_of_a_plain_scan(arguments):
    towards = np.random.default_rng(1).normal(size=(B, H)).astype(np.float32)

    def scalar(run):
        return lambda *given: jnp.sum(towards * run(*given, LENGTHS))

    ours, theirs = (
        jax.jit(jax.value_and_grad(scalar(run), argnums=(0, 1, 2)))(*arguments)
        for run in (last_state, plain)
    )
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)
    for one, other in zip(ours[1], theirs[1]):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    padding = np.arange(L)[:, None] >= LENGTHS
    assert not np.asarray(ours[1][0])[padding].any()


def test_no_weight_gradient_is_summed_in_the_scan(arguments):
    def largest_carries(run):
        gradient = jax.grad(lambda *given: jnp.sum(run(*given, LENGTHS)), argnums=(0, 1, 2))
        jaxpr = jax.make_jaxpr(gradient)(*arguments).jaxpr
        scans = [e for e in jaxpr.eqns if e.primitive.name == "scan"]
        return [
            variable.aval.shape
            for scan in scans
            for variable in scan.outvars[: scan.params["num_carry"]]
        ]

    assert (H, 3 * H) in largest_carries(plain)
    assert set(largest_carries(last_state)) == {(B, H)}


def test_a_trained_gru_reads_no_padding_and_has_the_same_gradient():
    rng = np.random.default_rng(5)
    shapes = [(W, E), (E, 3 * H), (3 * H,), (H, 3 * H), (H,)]
    weights = GruWeights(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))
    tokens = rng.integers(0, W, (B, L)).astype(np.int32)
    lengths = np.minimum(LENGTHS, 3)

    def at_once(weights):
        return scanned(weights, looked_up(weights.embedding, tokens.T), lengths)

    def one_by_one(weights):
        return embedded(weights, tokens, lengths)

    towards = rng.normal(size=(B, H)).astype(np.float32)

    def with_gradient(run):
        along = jax.grad(lambda weights: jnp.sum(towards * run(weights)))
        return jax.jit(lambda weights: (run(weights), along(weights)))(weights)

    results = map(with_gradient, (one_by_one, at_once))
    ours, theirs = map(jax.tree.leaves, results)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_trained_gru_takes_as_many_steps_as_the_longest_caption_has_words(monkeypatch):
    shapes = [(W, E), (E, 3 * H), (3 * H,), (H, 3 * H), (H,)]
    steps = []

    def counted(state, *rest):
        steps.append(rest)
        return state, ()

    monkeypatch.setattr("vidembed.models.gru._step", counted)
    with jax.disable_jit():
        lengths = np.minimum(LENGTHS, 3)
        embedded(GruWeights(*map(np.zeros, shapes)), np.zeros((B, L), np.int32), lengths)
    assert len(steps) == 3


@pytest.fixture(scope="module")
def gru():
    """(the module, its call as one compiled program)."""
    module = Gru(units=H, embedding=E).module({"tokens": W, "words": 1}, nnx.Rngs(0))
    rng = np.random.default_rng(4)
    module.bias[...] = np.asarray(rng.normal(size=3 * H), np.float32)
    module.candidate_bias[...] = np.asarray(rng.normal(size=H), np.float32)
    return module, jax.jit(lambda tokens, words: module({"tokens": tokens, "words": words}, None))


def test_a_caption_is_that_of_a_slow_gru(gru):
    module, encode = gru
    rng = np.random.default_rng(2)
    names = ("embedding", "input_kernel", "recurrent_kernel", "bias", "candidate_bias")
    p = {name: np.asarray(getattr(module, name)[...]) for name in names}
    assert np.abs(p["embedding"]).max() <= 0.1
    tokens = rng.integers(0, W, (B, L)).astype(np.int32)
    vectors = encode(tokens, LENGTHS)
    np.testing.assert_allclose(vectors, slow(tokens, LENGTHS, p), atol=1e-5)
    assert not np.asarray(vectors)[3].any()  # no words: no direction
    # What lies behind the last word changes nothing.
    tokens[np.arange(L) >= LENGTHS[:, None]] = 0
    np.testing.assert_array_equal(encode(tokens, LENGTHS), vectors)


@pytest.mark.fault(
    "Captions: a word number outside the vocabulary of the model",
    "the caption's vector is NaN, not that of another word",
)
def test_a_word_that_is_not_in_the_vocabulary_is_not_another_word(gru):
    tokens = np.ones((B, L), np.int32)
    tokens[0, 1] = W
    vectors = np.asarray(gru[1](tokens, LENGTHS))
    assert np.isnan(vectors[0]).all()
    assert np.isfinite(vectors[1:]).all()


def test_sentence_vectors_pass_dense_layers():
    encoder = Sentences(hidden=(6,), size=4, dropout=0.5)
    module = encoder.module({"sentences": 5}, nnx.Rngs(0))
    x = np.random.default_rng(3).normal(size=(B, 5)).astype(np.float32)
    first, second = (
        (np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])) for layer in module.layers
    )
    expected = np.maximum(x @ first[0] + first[1], 0) @ second[0] + second[1]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    plain, dropped = jax.jit(
        lambda x: [module({"sentences": x}, key) for key in (None, jax.random.key(0))]
    )(x)
    np.testing.assert_allclose(plain, expected, atol=1e-5)
    assert np.abs(np.asarray(dropped) - expected).max() > 0.01


def test_invalid_options_are_refused():
    for make, message in [
        (lambda: Gru(units=0), "units 0"),
        (lambda: Gru(dropout=1.0), "dropout 1.0 is outside"),
        (lambda: Sentences(hidden=(0,)), "1 or more"),
        (lambda: Sentences(dropout=-0.1), "outside"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
