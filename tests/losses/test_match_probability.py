"""Match probabilities, sampled and in closed form, against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.losses.made_mixtures import B, D, K, made
from vidembed.losses.closed_forms_of_gaussians import ExpectedDistance, ExpectedSimilarity
from vidembed.losses.match_probability import Sampled

MATCHES = [Sampled(), Sampled(scale=3.0, shift=1.0, sigmoid="symmetric"), ExpectedDistance()]
MATCHES += [ExpectedSimilarity()]


def parameters(match):
    return {name: jnp.float32(value) for name, value in match.learned.items()}


def by_loops(match, mixtures):
    """(log p, log(1 − p)) f64[B, B], one pair of samples at a time."""
    m = jax.tree.map(lambda x: np.asarray(x, np.float64), mixtures)
    result = np.zeros((2, B, B))
    for i, j in np.ndindex(B, B):
        total = m.variance[i].sum() + m.variance[j].sum()
        if isinstance(match, ExpectedDistance):
            apart = sum((m.mean[i, d] - m.mean[j, d]) ** 2 for d in range(D)) + total
            logits = [match.shift - match.scale * apart]
        elif isinstance(match, ExpectedSimilarity):
            logits = [match.scale * (m.mean[i] @ m.mean[j] - total / 2) + match.shift]
        else:
            double = 2 if match.sigmoid == "symmetric" else 1
            logits = [
                double * (match.shift - match.scale * np.sqrt(((z - y) ** 2).sum()))
                for z in m.samples[i]
                for y in m.samples[j]
            ]
        p = sum(1 / (1 + np.exp(-x)) for x in logits) / len(logits)
        other = sum(1 / (1 + np.exp(x)) for x in logits) / len(logits)
        result[:, i, j] = np.log(p), np.log(other)
    return result


def towards():
    return np.random.default_rng(3).normal(size=(2, B, B)).astype(np.float32)


@pytest.mark.parametrize("match", MATCHES)
def test_values_and_gradients(match):
    mixtures, along = made(), towards()

    @jax.jit
    def run(mixtures, start):
        def total(mixtures, start):
            found = jnp.stack(match(mixtures, mixtures, parameters=start, block=3))
            return jnp.sum(along * found), found

        return jax.grad(total, argnums=(0, 1), has_aux=True, allow_int=True)(mixtures, start)

    (of_mixtures, of_learned), found = run(mixtures, parameters(match))
    np.testing.assert_allclose(found, by_loops(match, mixtures), rtol=2e-5, atol=2e-5)
    names = ("samples",) if match.sampled else ("mean", "variance")
    rng = np.random.default_rng(4)
    for name in names:
        array = np.asarray(getattr(mixtures, name), np.float64)
        direction = rng.normal(size=array.shape)
        moved = (
            mixtures._replace(**{name: array + step * direction}) for step in (1e-5, -1e-5)
        )  # fmt: skip
        high, low = ((along * by_loops(match, m)).sum() for m in moved)
        slope = (np.asarray(getattr(of_mixtures, name)) * direction).sum()
        np.testing.assert_allclose(slope, (high - low) / 2e-5, rtol=1e-3, atol=1e-3)
    for name, value in match.learned.items():
        high, low = (
            (along * by_loops(type(match)(**{**vars(match), name: value + step}), mixtures)).sum()
            for step in (1e-5, -1e-5)
        )
        np.testing.assert_allclose(of_learned[name], (high - low) / 2e-5, rtol=1e-3, atol=1e-3)


def test_logarithms_where_probabilities_underflow():
    """All samples are 60 apart: p is about e^-590, 0 in float32."""
    one = made(1)._replace(samples=jnp.zeros((1, K, D)))
    far = one._replace(number=jnp.array([1]), samples=jnp.full((1, K, D), 30.0))
    match = Sampled()
    for pool in (far, one):
        found = match(one, pool, parameters=parameters(match), block=8)
        assert all(np.isfinite(part).all() for part in found)
    log_p, log_other = match(one, far, parameters=parameters(match), block=8)
    np.testing.assert_allclose(log_p, 10 - 10 * 60, rtol=1e-6)
    np.testing.assert_allclose(log_other, 0, atol=1e-6)


def test_a_sample_and_itself_are_at_distance_zero_without_a_gradient():
    """Also far from the origin, where squares round by much; other samples that are equal too."""
    mixtures = made(2, samples=1)
    samples = jnp.full((2, 1, D), 0.123456) + 7
    match, start = Sampled(scale=50.0, shift=0.0), {"scale": 50.0, "shift": 0.0}

    def total(samples):
        given = mixtures._replace(samples=samples)
        return match(given, given, parameters=start, block=8)[0].sum(), None

    (value, _), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(samples)
    assert float(value) == pytest.approx(4 * np.log(0.5), abs=0.2)
    assert np.all(np.asarray(gradient) == 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (lambda: Sampled(scale=0.0), "scale is 0.0"),
        (lambda: Sampled(sigmoid="hard"), "must be plain or symmetric, found 'hard'"),
        (lambda: ExpectedDistance(scale=-1.0), "scale is -1.0"),
        (lambda: ExpectedSimilarity(scale=float("inf")), "scale is inf"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        options()
