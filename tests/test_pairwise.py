from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from vidembed import pairwise


def vectors(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_squared_distance_by_hand():
    x = jnp.array([[0.0, 0.0], [1.0, 2.0], [5.0, 5.0]])
    y = jnp.array([[3.0, 4.0], [1.0, 0.0], [5.0, 5.0]])
    np.testing.assert_array_equal(pairwise.squared_distance(x, y), [25.0, 4.0, 0.0])


def test_squared_distance_keeps_small_distances():
    x = vectors(0, 20, 64) / 8
    y = x + 1e-4 * vectors(1, 20, 64)
    exact = ((x.astype(np.float64) - y) ** 2).sum(1)
    np.testing.assert_allclose(pairwise.squared_distance(x, y), exact, rtol=1e-5)


def test_squared_distance_of_bfloat16_is_float32():
    x = jnp.ones((2, 3), jnp.bfloat16)
    assert pairwise.squared_distance(x, 1.5 * x).dtype == jnp.float32


def test_squared_distance_has_a_gradient_everywhere():
    x = vectors(0, 3, 5)
    gradient = jax.jit(jax.grad(lambda x, y: pairwise.squared_distance(x, y).sum()))
    np.testing.assert_array_equal(gradient(x, x), np.zeros((3, 5)))
    np.testing.assert_allclose(gradient(x, x + 1), np.full((3, 5), -2.0), rtol=1e-5)


def test_squared_distance_refuses_other_shapes():
    with pytest.raises(AssertionError):
        pairwise.squared_distance(jnp.ones((2, 3)), jnp.ones((1, 3)))


def test_normalise_gives_unit_length():
    x = vectors(0, 4, 5, 16) * 100
    expected = x / np.linalg.norm(x.astype(np.float64), axis=-1, keepdims=True)
    np.testing.assert_allclose(pairwise.normalise(x), expected, atol=1e-7)
    assert pairwise.normalise(jnp.ones((2, 4), jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("length", [0.0, 1e-7, 1e-30])
def test_normalise_at_zero_is_zero_with_a_finite_gradient(length):
    x = jnp.full((2, 4), length / 2).at[1].set(3.0)
    np.testing.assert_allclose(pairwise.normalise(x), [[0.0] * 4, [0.5] * 4], atol=1e-7)
    weight = np.arange(8.0, dtype=np.float32).reshape(2, 4)
    gradient = jax.jit(jax.grad(lambda x: (pairwise.normalise(x) * weight).sum()))(x)
    np.testing.assert_array_equal(gradient[0], np.zeros(4))
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient[1] != 0)


def test_normalise_gradient_by_finite_differences():
    check_grads(
        jax.jit(pairwise.normalise), (vectors(0, 3, 6),), order=1, eps=1e-2, rtol=2e-3, atol=2e-3
    )


def test_normalise_keeps_nan():
    x = jnp.ones((2, 4)).at[0, 1].set(jnp.nan)
    result = np.asarray(pairwise.normalise(x))
    assert np.isnan(result[0]).all()
    np.testing.assert_allclose(result[1], 0.5)


@pytest.mark.parametrize("margin", [-0.1, 4.1, float("nan"), float("inf")])
def test_margins_beyond_unit_vectors_are_refused(margin):
    with pytest.raises(ValueError, match=r"margin is .* \[0, 4\]"):
        pairwise.check_margin(margin)


def test_margins_of_the_paper_pass():
    for margin in (0, 0.1, 0.3, 0.5, 4):
        pairwise.check_margin(margin)


@pytest.mark.parametrize(("count", "block"), [(0, 3), (1, 3), (5, 1), (7, 3), (12, 4), (5, 100)])
def test_over_blocks_is_the_dense_product(count, block):
    queries, pool = vectors(0, count, 8), vectors(1, 11, 8)
    shift, pair = vectors(2, count), {"x": vectors(3, count, 2)}
    seen = []

    def reduce(scores, shift, pair):
        seen.append(scores.shape)
        return {"scores": scores + shift[:, None], "x": pair["x"] * 2}

    result = pairwise.over_blocks(reduce, queries, pool, shift, pair, block=block)
    np.testing.assert_allclose(result["scores"], queries @ pool.T + shift[:, None], atol=1e-5)
    np.testing.assert_array_equal(result["x"], pair["x"] * 2)
    assert all(rows <= block and columns == 11 for rows, columns in seen)


def test_over_blocks_pads_little():
    seen = []
    pairwise.over_blocks(
        lambda s: seen.append(s.shape) or s, jnp.ones((101, 2)), jnp.ones((3, 2)), block=100
    )
    assert seen[0] == (51, 3)


def test_over_blocks_has_the_dense_gradient():
    queries, pool, weight = vectors(0, 7, 8), vectors(1, 11, 8), vectors(2, 7)

    def blocked(queries, pool):
        reduce = lambda scores, weight: weight * jax.nn.logsumexp(scores, axis=1)  # noqa: E731
        return pairwise.over_blocks(reduce, queries, pool, weight, block=3).sum()

    def dense(queries, pool):
        return (weight * jax.nn.logsumexp(queries @ pool.T, axis=1)).sum()

    gradients = (jax.jit(jax.grad(f, (0, 1)))(queries, pool) for f in (blocked, dense))
    for ours, theirs in zip(*gradients):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_over_blocks_gradient_does_not_keep_the_scores():
    def loss(queries, pool):
        reduce = partial(jax.nn.logsumexp, axis=1)
        return pairwise.over_blocks(reduce, queries, pool, block=64).sum()

    shapes = [jax.ShapeDtypeStruct((count, 16), jnp.float32) for count in (4096, 8192)]
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(*shapes).compile()
    everything = 4 * 4096 * 8192
    assert compiled.memory_analysis().temp_size_in_bytes < everything / 10


def test_over_blocks_rounds_operands_and_not_sums():
    queries, pool = vectors(0, 5, 300), vectors(1, 6, 300)
    result = pairwise.over_blocks(lambda s: s, queries, pool, block=2, operands=jnp.bfloat16)
    rounded = [np.asarray(x.astype(jnp.bfloat16), np.float64) for x in (queries, pool)]
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, rounded[0] @ rounded[1].T, atol=1e-4)
    assert np.abs(result - queries @ pool.T).max() > 1e-3


def test_over_blocks_requests_full_precision():
    # On CPU every product is exact to float32; on GPUs and TPUs only if requested.
    def text(operands):
        x = jnp.ones((4, 8))
        run = lambda x: pairwise.over_blocks(lambda s: s, x, x, block=2, operands=operands)  # noqa: E731
        return jax.jit(run).lower(x).as_text()

    assert "HIGHEST" in text(jnp.float32)
    assert "HIGHEST" not in text(jnp.bfloat16)


def test_over_blocks_refuses_empty_blocks():
    with pytest.raises(ValueError, match="block is 0"):
        pairwise.over_blocks(lambda s: s, jnp.ones((2, 3)), jnp.ones((4, 3)), block=0)


def awkward_scores(seed, rows, width):
    """Few distinct values, so many ties; with NaN, ±0 and −inf; one row without finite values."""
    values = np.array([-np.inf, np.nan, -2, -0.0, 0.0, 1, 3], np.float32)
    scores = np.random.default_rng(seed).choice(values, (rows, width))
    scores[0] = np.random.default_rng(seed).choice(values[:2], width)
    return scores


WIDTHS = [1, 2, 5, 63, 64, 127, 128, 129, 240, 257, 509, 1000]


def order(row):
    """The slow and obvious sort: by score, then by index; NaN as −inf."""
    row = [-np.inf if np.isnan(score) else score for score in row]
    return sorted(range(len(row)), key=lambda i: (-row[i], i)), row


@pytest.mark.parametrize("width", WIDTHS)
def test_best_is_the_first_of_the_largest(width):
    scores = awkward_scores(width, 40, width)
    values, indices = map(np.asarray, jax.jit(pairwise.best)(scores))
    assert (values.dtype, indices.dtype) == (np.float32, np.int32)
    for row, value, index in zip(scores, values, indices):
        ranking, cleaned = order(row)
        assert value == cleaned[ranking[0]]
        assert index == (ranking[0] if value > -np.inf else 0)


def test_best_of_distinct_scores():
    scores = vectors(0, 50, 1201)
    values, indices = jax.jit(pairwise.best)(scores)
    np.testing.assert_array_equal(indices, scores.argmax(1))
    np.testing.assert_array_equal(values, scores.max(1))


def test_best_of_nothing():
    values, indices = pairwise.best(jnp.zeros((3, 0)))
    np.testing.assert_array_equal(values, [-np.inf] * 3)
    np.testing.assert_array_equal(indices, [0] * 3)


@pytest.mark.parametrize(
    ("k", "width"), [(1, 1), (1, 129), (2, 129), (7, 129), (1, 256), (7, 256), (3, 1009), (9, 9)]
)
def test_largest_is_a_stable_sort(k, width):
    for scores in (awkward_scores(k, 40, width), vectors(k, 40, width)):
        values, indices = map(np.asarray, jax.jit(partial(pairwise.largest, k=k, tile=8))(scores))
        assert indices.dtype == np.int32
        for row, value, index in zip(scores, values, indices):
            ranking, cleaned = order(row)
            np.testing.assert_array_equal(value, [cleaned[i] for i in ranking[:k]])
            known = int(np.isfinite(value).sum())
            np.testing.assert_array_equal(index[:known], ranking[:known])


def test_largest_default_tile_and_remainder():
    scores = np.random.default_rng(0).integers(0, 50, (5, 1409)).astype(np.float32)
    values, indices = jax.jit(partial(pairwise.largest, k=5))(scores)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(scores, expected, 1))


def test_largest_takes_its_border_ties_in_order():
    # Ten equal scores in ten tiles, and a larger one after them: the three largest are that score
    # and the first two of the ten.
    scores = np.zeros((1, 8 * 12), np.float32)
    scores[0, np.arange(10) * 8 + 3] = 1
    scores[0, 90] = 2
    scores[0, 91] = 1  # in the tile of the largest, but after the ten
    _, indices = jax.jit(partial(pairwise.largest, k=3, tile=8))(scores)
    np.testing.assert_array_equal(indices, [[90, 3, 11]])


def test_largest_takes_zeros_of_both_signs_for_equal_across_tiles():
    scores = np.full((1, 24), -1, np.float32)
    scores[0, 3], scores[0, 11] = -0.0, 0.0
    _, indices = pairwise.largest(scores, 1, tile=8)
    np.testing.assert_array_equal(indices, [[3]])


@pytest.mark.parametrize("k", [0, 6])
def test_largest_refuses_more_than_there_are(k):
    with pytest.raises(ValueError, match=f"the {k} largest of 5"):
        pairwise.largest(jnp.zeros((2, 5)), k)


def test_the_value_of_best_and_largest_carries_a_gradient():
    scores = vectors(0, 3, 300)
    gradient = jax.jit(jax.grad(lambda s: pairwise.best(s)[0].sum()))(scores)
    np.testing.assert_array_equal(gradient, scores == scores.max(1, keepdims=True))
    gradient = jax.jit(jax.grad(lambda s: pairwise.largest(s, 2, tile=8)[0].sum()))(scores)
    np.testing.assert_array_equal(gradient, scores >= np.sort(scores)[:, -2:-1])


def test_the_maxima_of_tiles_are_not_differentiated():
    # They only locate the result; the derivative of such a reduction is a tree of all its steps.
    scores = jnp.ones((3, 300))
    text = str(jax.make_jaxpr(lambda s: jax.jvp(pairwise.best, (s,), (s,)))(scores))
    assert text.count(" reduce[") == 1


@pytest.mark.parametrize("block", [None, 3])
def test_search_is_a_sort_of_the_pool(block):
    queries, pool = vectors(0, 7, 16), vectors(1, 301, 16)
    pool[200:220] = pool[:20]  # twice in the pool
    exclude = np.array([[i, 2 * i + 1, 301] for i in range(7)], np.int32)
    values, indices = pairwise.search(queries, pool, 9, exclude=exclude, block=block)
    scores = (queries.astype(np.float64) @ pool.T.astype(np.float64)).astype(np.float32)
    for i in range(7):
        scores[i, [i, 2 * i + 1]] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :9]
    np.testing.assert_allclose(values, np.take_along_axis(scores, expected, 1), atol=1e-5)
    np.testing.assert_array_equal(indices, expected)


def test_search_without_exclusion_finds_itself():
    pool = np.asarray(pairwise.normalise(vectors(0, 50, 16)))
    values, indices = pairwise.search(pool[:6], pool, 1)
    np.testing.assert_array_equal(indices[:, 0], np.arange(6))
    np.testing.assert_allclose(values, 1, atol=1e-6)


@pytest.mark.fault("Scores: rows or labels out of range, k above the corpus")
def test_search_marks_missing_results():
    exclude = jnp.array([[0, 1, 2]])
    values, _ = pairwise.search(jnp.ones((1, 2)), jnp.ones((4, 2)), 2, exclude=exclude)
    np.testing.assert_array_equal(values, [[2.0, -np.inf]])


def test_search_of_a_million_is_bounded_in_memory():
    shapes = [jax.ShapeDtypeStruct((count, 256), jnp.float32) for count in (1000, 1_000_000)]
    compiled = jax.jit(partial(pairwise.search, k=100)).lower(*shapes).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 300e6
