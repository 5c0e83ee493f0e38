"""Losses of pairs against loops over rows and columns, written from the papers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.distributed import mesh as meshes
from vidembed.losses.both_directions import both
from vidembed.losses.info_nce import InfoNCE
from vidembed.losses.ranking import HardestHinge, SumOfHinges, WeightedRanking
from vidembed.losses.sigmoid import Sigmoid

HINGES = [SumOfHinges(), HardestHinge(margin=0.3), WeightedRanking(weight=2.0)]
LOSSES = [*HINGES, InfoNCE(temperature=0.5), Sigmoid(bias=1.0)]
IDS = [f"{type(loss).__name__}{number}" for number, loss in enumerate(LOSSES)]


def parameters(loss):
    return {name: jnp.float32(value) for name, value in loss.learned.items()}


def by_loops(loss, scores, own, forbidden):
    """Losses f64[b], one row and one column at a time."""
    scores = np.asarray(scores, np.float64)
    result = []
    for row, positive in enumerate(own):
        others = [
            scores[row, column]
            for column in range(scores.shape[1])
            if column != positive and not forbidden[row, column]
        ]
        s = scores[row, positive]
        if isinstance(loss, InfoNCE):
            total = np.exp(s / loss.temperature)
            total += sum(np.exp(other / loss.temperature) for other in others)
            result.append(-np.log(np.exp(s / loss.temperature) / total))
        elif isinstance(loss, Sigmoid):
            term = np.log1p(np.exp(-(s / loss.temperature + loss.bias)))
            for other in others:
                term += np.log1p(np.exp(other / loss.temperature + loss.bias))
            result.append(term)
        else:
            hinges = [max(0.0, loss.margin - s + other) for other in others]
            if isinstance(loss, SumOfHinges):
                result.append(sum(hinges))
            else:
                hardest = max(hinges, default=0.0)
                if isinstance(loss, WeightedRanking):
                    rank = 1 + sum(other > s for other in others)
                    hardest *= 1 + loss.weight / (scores.shape[1] - rank + 1)
                result.append(hardest)
    return np.array(result)


@pytest.fixture(scope="module")
def block():
    rng = np.random.default_rng(0)
    scores = rng.uniform(-1, 1, (6, 9)).astype(np.float32)
    own = np.array([3, 0, 8, 4, 4, 2], np.int32)
    forbidden = rng.random((6, 9)) < 0.3
    forbidden[5] = True
    return scores, own, forbidden


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_values_and_gradients(loss, block):
    scores, own, forbidden = block

    @jax.jit
    def run(scores, start):
        value, back = jax.vjp(lambda s: loss(s, own, forbidden, parameters=start), scores)
        return value, back(jnp.ones(len(own)))[0]

    value, gradient = run(scores, parameters(loss))
    np.testing.assert_allclose(value, by_loops(loss, *block), rtol=1e-5, atol=1e-6)
    expected = np.zeros_like(scores, np.float64)
    for place in np.ndindex(*scores.shape):
        for sign in (-1, 1):
            moved = scores.astype(np.float64)
            moved[place] += sign * 1e-6
            expected[place] += sign * by_loops(loss, moved, own, forbidden).sum() / 2e-6
    np.testing.assert_allclose(gradient, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("loss", [*HINGES, InfoNCE()])
def test_a_row_without_negatives_has_no_loss_and_no_gradient(loss):
    scores, own = jnp.array([[0.5, 0.9]]), jnp.array([0])
    forbidden = jnp.ones((1, 2), bool)
    total = lambda s, p: loss(s, own, forbidden, parameters=p).sum()  # noqa: E731
    run = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    value, gradient = run(scores, parameters(loss))
    assert value == 0
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(gradient))


def test_a_row_without_negatives_has_the_sigmoid_of_its_positive():
    loss, forbidden = Sigmoid(temperature=0.5, bias=1.0), jnp.ones((1, 2), bool)
    total = lambda s: loss(s, jnp.array([0]), forbidden, parameters=parameters(loss)).sum()  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(total))(jnp.array([[0.5, 0.9]]))
    np.testing.assert_allclose(value, np.log1p(np.exp(-2.0)), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-2 / (1 + np.exp(2.0)), 0]], rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_nan_of_the_positive_stays_without_negatives(loss):
    scores, forbidden = jnp.array([[jnp.nan, 0.1]]), jnp.ones((1, 2), bool)
    run = jax.jit(lambda s: loss(s, jnp.array([0]), forbidden, parameters=parameters(loss)))
    assert np.isnan(run(scores)).all()


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_nan_stays_nan(loss):
    scores = jnp.array([[0.5, jnp.nan, 0.1], [jnp.nan, 0.1, 0.2], [0.0, 0.1, 0.2]])
    own = jnp.array([0, 0, 0])
    run = jax.jit(lambda s: loss(s, own, jnp.zeros((3, 3), bool), parameters=parameters(loss)))
    value = np.asarray(run(scores))
    assert np.isnan(value[:2]).all()
    assert np.isfinite(value[2])


def test_ties_do_not_raise_the_rank():
    loss = WeightedRanking(margin=0.2, weight=1.0)
    scores, own = jnp.array([[0.5, 0.5, 0.5]]), jnp.array([1])
    value = loss(scores, own, jnp.zeros((1, 3), bool), parameters={})
    np.testing.assert_allclose(value, 0.2 * (1 + 1 / 3), rtol=1e-6)
    worst = loss(jnp.array([[0.5, 0.4, 0.6]]), own, jnp.zeros((1, 3), bool), parameters={})
    np.testing.assert_allclose(worst, 0.4 * (1 + 1 / 1), rtol=1e-6)


def test_a_weight_of_zero_is_the_hardest_hinge(block):
    hardest = HardestHinge()(*block, parameters={})
    weighted = WeightedRanking(weight=0.0)(*block, parameters={})
    np.testing.assert_array_equal(hardest, weighted)


def test_the_gradient_of_the_temperature_and_of_the_bias(block):
    for loss in (InfoNCE(temperature=0.3), Sigmoid()):
        start = parameters(loss)
        run = jax.jit(lambda p: loss(*block, parameters=p).sum())  # noqa: B023
        gradient = jax.jit(jax.grad(run))(start)
        for name, value in loss.learned.items():
            low, high = (
                float(run(start | {name: jnp.float32(moved)}))
                for moved in (value - 4e-3, value + 4e-3)
            )
            np.testing.assert_allclose(gradient[name], (high - low) / 8e-3, rtol=5e-3)


def test_the_temperature_has_a_floor(block):
    cold = {"log_temperature": jnp.log(1e-9)}
    at_floor = {"log_temperature": jnp.log(0.01)}
    loss = InfoNCE()
    np.testing.assert_allclose(
        loss(*block, parameters=cold), loss(*block, parameters=at_floor), rtol=1e-6
    )


def pairs(videos_of=(0, 0, 1, 2, 2, 2, 3, 4), seed=1, width=5):
    rng = np.random.default_rng(seed)
    rows = np.array(videos_of, np.int32)
    unit = lambda x: (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)  # noqa: E731
    videos = unit(rng.standard_normal((rows.max() + 1, width)))[rows]
    return videos, unit(videos + 0.8 * rng.standard_normal((len(rows), width))), rows


def gradients(loss, videos, texts, rows, **options):
    total = lambda v, t, p: both(loss, v, t, rows, parameters=p, **options).sum()  # noqa: E731
    return jax.jit(jax.grad(total, argnums=(0, 1, 2)))(videos, texts, parameters(loss))


@pytest.mark.parametrize(
    ("loss", "mask_same"),
    [(WeightedRanking(), True), (InfoNCE(), False)],
)
def test_both_directions_on_one_device_and_on_eight(loss, mask_same):
    videos, texts, rows = pairs()
    scores = videos @ texts.T
    same = (rows[:, None] == rows[None]) & mask_same
    own = np.arange(len(rows))
    expected = by_loops(loss, scores, own, same) + by_loops(loss, scores.T, own, same)
    results = []
    for devices in (1, 8):
        mesh = meshes.make_mesh(meshes.MeshShape(), jax.devices()[:devices])
        with jax.set_mesh(mesh):
            run = jax.jit(partial(both, loss, mask_same=mask_same))
            value = run(videos, texts, rows, parameters=parameters(loss))
            np.testing.assert_allclose(value, expected, rtol=2e-5, atol=1e-6)
            results.append(gradients(loss, videos, texts, rows, mask_same=mask_same))
    for one, eight in zip(*map(jax.tree.leaves, results)):
        np.testing.assert_allclose(np.asarray(one), np.asarray(eight), rtol=1e-5, atol=1e-5)


def test_masking_captions_of_the_same_video_where_they_score_alike():
    """Two hinges between captions of one video cancel as long as both are positive."""
    videos, texts, rows = pairs()
    close = videos + 0.05 * (texts - videos)

    def difference(loss, texts):
        masked = gradients(loss, videos, texts, rows)
        unmasked = gradients(loss, videos, texts, rows, mask_same=False)
        # Pairs of the same video share one vector, so their gradients are summed.
        of_video = [np.asarray(g[0]) for g in (masked, unmasked)]
        summed = [np.stack([g[rows == row].sum(axis=0) for row in range(5)]) for g in of_video]
        texts_of = np.abs(np.asarray(masked[1]) - np.asarray(unmasked[1])).max()
        return max(np.abs(summed[0] - summed[1]).max(), texts_of)

    assert difference(SumOfHinges(), close) < 1e-5
    for loss in (HardestHinge(margin=1.0), InfoNCE()):
        assert difference(loss, close) > 1e-2, loss
    # One hinge of the two is zero where the captions' scores differ by more than the margin.
    assert difference(SumOfHinges(margin=0.01), texts) > 1e-2


@pytest.mark.fault("Captions: a batch of pairs does not divide over the devices", "refused")
def test_an_uneven_batch_is_refused():
    videos, texts, rows = pairs()
    mesh = meshes.make_mesh(meshes.MeshShape(), jax.devices()[:3])
    says = "8 pairs is not divisible by 3 devices"
    with jax.set_mesh(mesh), pytest.raises(ValueError, match=says):
        both(SumOfHinges(), videos, texts, rows, parameters={})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (lambda: SumOfHinges(margin=-0.1), "margin is -0.1"),
        (lambda: WeightedRanking(weight=-1.0), "weight is -1.0"),
        (lambda: InfoNCE(temperature=0.0), "temperature is 0.0"),
        (lambda: InfoNCE(coldest=0.5), "coldest is 0.5"),
        (lambda: Sigmoid(bias=float("nan")), "bias is nan"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        options()
