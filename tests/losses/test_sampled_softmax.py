"""Softmax split over devices and sampled, against the formula and against JAX."""

from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.losses.softmax import (
    Candidates,
    Compared,
    FullSoftmax,
    SampledSoftmax,
    compare,
    cross_entropy,
)

pytestmark = pytest.mark.optimised

B, C, D = 12, 600, 32


@pytest.fixture(scope="module")
def scored():
    """queries f32[B, D], labels i32[B], vectors f32[C, D], as in mid-training: a video's own class
    has about half the probability, so the sum over the others matters."""
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(C, D)), rng.integers(0, C, B)
    queries = 0.22 * vectors[labels] + 0.05 * rng.normal(size=(B, D))
    scored = jnp.float32(queries), jnp.asarray(labels, jnp.int32), jnp.float32(vectors)
    assert 0.2 < np.exp(-plain(*scored)).mean() < 0.8
    return scored


@partial(jax.jit, static_argnames=("count", "block"))
def full(queries, labels, vectors, count=None, block=5):
    classes = jnp.arange(len(vectors), dtype=jnp.int32)
    candidates = FullSoftmax().candidates(classes, len(vectors) if count is None else count)
    compared = compare(queries, labels, vectors, candidates, block=block)
    return cross_entropy(compared.own, compared.others)


@partial(jax.jit, static_argnums=0)
def sampled(loss, queries, labels, vectors, key):
    drawn = loss.draw(jax.tree.map(jnp.asarray, loss.strata(len(vectors))), key)
    compared = compare(
        queries,
        labels,
        vectors[drawn.classes],
        drawn,
        block=loss.block,
        remove_hits=loss.remove_hits,
    )
    return cross_entropy(jnp.sum(queries * vectors[labels], axis=1), compared.others)


@lru_cache
def slopes_of(loss):
    return jax.jit(jax.grad(lambda q, v, y, *rest: jnp.mean(loss(q, y, v, *rest)), argnums=(0, 1)))


def gradients(loss, *arguments):
    """The gradient of the mean loss along queries and vectors, joined: f32[(B + C)·D]."""
    queries, labels, vectors, *rest = arguments
    both = slopes_of(loss)(queries, vectors, labels, *rest)
    return jnp.concatenate([part.reshape(-1) for part in both])


@jax.jit
def plain(queries, labels, vectors):
    scores = jnp.matmul(queries, vectors.T, precision="highest")
    return -jax.nn.log_softmax(scores)[jnp.arange(len(labels)), labels]


@pytest.mark.parametrize("block", [5, 100])
def test_full_softmax_is_the_formula(scored, block):
    queries, labels, vectors = scored
    scores = np.asarray(queries, np.float64) @ np.asarray(vectors, np.float64).T
    expected = np.log(np.exp(scores).sum(1)) - scores[np.arange(B), labels]
    np.testing.assert_allclose(full(*scored, block=block), expected, rtol=1e-5)
    np.testing.assert_allclose(
        gradients(partial(full, block=block), *scored), gradients(plain, *scored), atol=2e-7
    )


def test_scores_beyond_what_an_exponential_holds(scored):
    queries, labels, vectors = scored
    large = 100 * queries, labels, vectors
    np.testing.assert_allclose(full(*large), plain(*large), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(gradients(full, *large), gradients(plain, *large), atol=1e-5)
    # A loss of e^-30 is not rounded to zero, as log(1 + e^-30) would be.
    np.testing.assert_allclose(cross_entropy(jnp.float32(40), jnp.float32(10)), np.exp(-30.0))


def test_parts_of_the_classes_join_to_the_whole(scored):
    """Devices with 200 classes each, the last with padding only."""
    queries, labels, vectors = scored
    parts = jnp.pad(vectors, ((0, 200), (0, 0)), constant_values=9.0).reshape(4, 200, D)
    numbers = jnp.arange(800, dtype=jnp.int32).reshape(4, 200)

    def device(classes, rows, queries):
        candidates = FullSoftmax().candidates(classes, jnp.int32(C))
        part = compare(queries, labels, rows, candidates, block=5)
        whole = part.joined(
            lambda x: jax.lax.pmax(jax.lax.stop_gradient(x), "parts"),
            lambda x: jax.lax.psum(x, "parts"),
        )
        return cross_entropy(whole.own, whole.others), whole

    @jax.jit
    def on_four(queries, parts):
        over = jax.vmap(device, in_axes=(0, 0, None), axis_name="parts")
        return over(numbers, parts, queries)

    joined, whole = on_four(queries, parts)
    for row in joined:
        np.testing.assert_allclose(row, plain(*scored), rtol=1e-5)
    scores = np.array(queries @ vectors.T)
    scores[np.arange(B), labels] = -np.inf
    np.testing.assert_allclose(whole.best[0], scores.max(1), rtol=1e-5)
    np.testing.assert_array_equal(whole.hit, 1)
    slopes = jax.jit(jax.grad(lambda *both: jnp.mean(on_four(*both)[0]), argnums=(0, 1)))(
        queries, parts
    )
    gradient = jnp.concatenate([slopes[0], slopes[1].reshape(-1, D)])
    exact = gradients(plain, *scored).reshape(-1, D)
    np.testing.assert_allclose(gradient[: B + C], exact, atol=2e-7)
    np.testing.assert_array_equal(gradient[B + C :], 0)


def test_padded_classes_never_matter(scored):
    queries, labels, vectors = scored
    loss, values, slopes = partial(full, count=C), [], []
    for filler in (0.0, 1e3):
        padded = jnp.concatenate([vectors, jnp.full((56, D), filler)])
        values.append(loss(queries, labels, padded))
        slopes.append(gradients(loss, queries, labels, padded))
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(slopes[0], slopes[1])
    np.testing.assert_array_equal(slopes[0].reshape(-1, D)[B + C :], 0)
    np.testing.assert_allclose(values[0], plain(*scored), rtol=1e-5)


def test_nothing_to_compare_with_is_no_loss_and_no_gradient():
    queries, vectors = jnp.ones((2, D)), jnp.ones((1, D))
    labels = jnp.zeros(2, jnp.int32)
    np.testing.assert_array_equal(full(queries, labels, vectors), 0)
    np.testing.assert_array_equal(gradients(full, queries, labels, vectors), 0)


def test_a_broken_embedding_is_noticed(scored):
    queries, labels, vectors = scored
    broken = full(queries.at[3, 0].set(jnp.nan), labels, vectors)
    assert np.isnan(broken[3])
    assert np.isfinite(np.delete(broken, 3)).all()


# --- draws

SAMPLERS = ["uniform", "log_uniform"]


def many_draws(loss, classes, draws, seed=0):
    """(classes i32[draws, S], log counts f32[draws, S])."""
    strata = jax.tree.map(jnp.asarray, loss.strata(classes))
    keys = jax.random.split(jax.random.key(seed), draws)
    return jax.device_get(jax.jit(jax.vmap(partial(loss.draw, strata)))(keys))


def probabilities(sampler, classes):
    numbers = np.arange(classes, dtype=np.float64)
    if sampler == "uniform":
        return np.full(classes, 1 / classes)
    return np.log((numbers + 2) / (numbers + 1)) / np.log(classes + 1)


@pytest.mark.parametrize(("classes", "samples"), [(50, 7), (1000, 64)])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_classes_are_drawn_as_often_as_stated(sampler, classes, samples):
    draws = 5_000
    drawn, log_count = many_draws(SampledSoftmax(samples=samples, sampler=sampler), classes, draws)
    assert drawn.shape == (draws, samples)
    assert drawn.min() >= 0
    assert drawn.max() < classes
    stated = np.full(classes, np.nan)
    stated[drawn] = np.exp(log_count)
    assert np.isfinite(stated).all()
    observed = np.bincount(drawn.reshape(-1), minlength=classes) / draws
    # A count's variance is at most that of independent draws; five deviations.
    assert np.all(np.abs(observed - stated) < 5 * np.sqrt(stated / draws))
    expected = samples * probabilities(sampler, classes)
    # Parts of a number that does not divide C differ by one class.
    np.testing.assert_allclose(stated, expected, rtol=1e-5 if sampler == "log_uniform" else 0.5)
    assert stated.sum() == pytest.approx(samples, rel=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_million_classes_are_drawn_without_rounding(sampler):
    """Checks single classes in the tail, where float32 class numbers have steps of a sixteenth."""
    classes, samples, draws = 1_000_000, 1024, 1000
    loss = SampledSoftmax(samples=samples, sampler=sampler)
    drawn, _ = many_draws(loss, classes, draws)
    assert drawn.min() >= 0
    assert drawn.max() < classes
    edges = np.unique(np.geomspace(1, classes + 1, 60).astype(int)) - 1
    observed, _ = np.histogram(drawn, bins=edges)
    cumulative = np.concatenate([[0], np.cumsum(probabilities(sampler, classes))])
    expected = draws * samples * np.diff(cumulative[edges])
    assert np.all(np.abs(observed - expected) < 5 * np.sqrt(expected) + 1)
    tail = drawn[drawn >= classes - 4096]
    by_last_digits = np.bincount(tail % 16, minlength=16)
    assert np.all(np.abs(by_last_digits - len(tail) / 16) < 5 * np.sqrt(len(tail) / 16))


def test_uniform_draws_are_different_classes():
    drawn, _ = many_draws(SampledSoftmax(samples=40), 100, 200)
    assert all(len(np.unique(row)) == 40 for row in drawn)
    assert len(np.unique(drawn, axis=0)) == 200


@pytest.mark.parametrize("samples", [100, 1000])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_with_enough_samples_every_class_is_taken_once(sampler, samples):
    drawn, log_count = many_draws(SampledSoftmax(samples=samples, sampler=sampler), 100, 3)
    np.testing.assert_array_equal(drawn, np.broadcast_to(np.arange(100), (3, 100)))
    np.testing.assert_array_equal(log_count, 0)


def test_draws_depend_only_on_the_key():
    loss = SampledSoftmax(samples=16, sampler="log_uniform")
    strata = jax.tree.map(jnp.asarray, loss.strata(1000))
    first, again = (loss.draw(strata, jax.random.key(3)).classes for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, loss.draw(strata, jax.random.key(4)).classes)


# --- the sampled loss and the full one


def errors(loss, scored, keys):
    """Relative distance of each key's gradient, and of their mean, from the full gradient."""
    exact = gradients(plain, *scored)
    of_key = jax.jit(jax.vmap(lambda key: gradients(partial(sampled, loss), *scored, key)))
    of_keys = of_key(jax.random.split(jax.random.key(1), keys))
    length = jnp.linalg.norm(exact)
    singles = jnp.linalg.norm(of_keys - exact[None], axis=1) / length
    return np.asarray(singles), float(jnp.linalg.norm(of_keys.mean(0) - exact) / length)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_gradient_approaches_the_full_softmaxs(sampler, scored):
    loss = SampledSoftmax(sampler=sampler)
    singles, means = zip(
        *(errors(replace(loss, samples=samples), scored, 40) for samples in (8, 64, 512))
    )
    # Single gradients come closer by about √8 each time and their mean much more: the remaining
    # error of a single gradient is noise, not bias.
    assert np.median(singles[1]) < 0.6 * np.median(singles[0])
    assert np.median(singles[2]) < 0.6 * np.median(singles[1])
    assert max(singles[2]) < max(singles[0])
    assert means[0] > means[1] > means[2]
    assert means[1] < 0.3 * np.median(singles[1])
    assert means[2] < 0.06


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_gradient_equals_the_full_softmaxs_when_every_class_is_drawn(sampler, scored):
    loss = SampledSoftmax(samples=C, sampler=sampler)
    key = jax.random.key(0)
    np.testing.assert_allclose(sampled(loss, *scored, key), plain(*scored), rtol=1e-5)
    gradient = gradients(partial(sampled, loss), *scored, key)
    np.testing.assert_allclose(gradient, gradients(plain, *scored), atol=3e-7)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_without_correction_the_gradient_is_biased(sampler, scored):
    loss = SampledSoftmax(samples=64, sampler=sampler)
    _, corrected = errors(loss, scored, 40)
    _, wrong = errors(replace(loss, correct=False), scored, 40)
    assert wrong > 3 * corrected
    assert wrong > 0.1


def test_a_sampled_loss_by_hand(scored):
    queries, labels, vectors = scored
    loss = SampledSoftmax(samples=90, sampler="log_uniform")
    key = jax.random.key(5)
    drawn, log_count = loss.draw(jax.tree.map(jnp.asarray, loss.strata(C)), key)
    # Make hits certain, including a class that was drawn several times.
    labels = labels.at[0].set(0).at[1].set(drawn[40])
    assert np.sum(drawn == 0) > 1
    losses = sampled(loss, queries, labels, vectors, key)
    counted_twice = sampled(replace(loss, remove_hits=False), queries, labels, vectors, key)
    for video in range(B):
        scores = np.asarray(vectors, np.float64) @ np.asarray(queries[video], np.float64)
        own = np.exp(scores[labels[video]])
        total = again = own
        for label, weight in zip(np.asarray(drawn), np.exp(-np.float64(log_count))):
            again += weight * np.exp(scores[label])
            if label != labels[video]:
                total += weight * np.exp(scores[label])
        assert losses[video] == pytest.approx(-np.log(own / total), rel=1e-5)
        assert counted_twice[video] == pytest.approx(-np.log(own / again), rel=1e-5)
    assert np.all(counted_twice[:2] > losses[:2] + 1e-6)


def test_a_sample_of_only_the_own_class_has_zero_loss(scored):
    queries, _, vectors = scored
    drawn = Candidates(jnp.full(3, 7, jnp.int32), jnp.zeros(3))
    labels = jnp.full(B, 7, jnp.int32)
    compared = compare(queries, labels, vectors[drawn.classes], drawn, block=4)
    assert isinstance(compared, Compared)
    np.testing.assert_array_equal(compared.others, -np.inf)
    np.testing.assert_array_equal(compared.best, -np.inf)
    np.testing.assert_array_equal(compared.hit, 1)
    np.testing.assert_array_equal(cross_entropy(jnp.ones(B), compared.others), 0)


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="samples is 0"):
        SampledSoftmax(samples=0)
    with pytest.raises(ValueError, match="block is 0"):
        FullSoftmax(block=0)
