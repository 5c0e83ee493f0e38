import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from vidembed.losses.triplet import Exponential, Hinge, Log, check
from vidembed.mining import Hardest, NoMining, SemiHard, SemiHardRandom
from vidembed.pairwise import normalise, squared_distance

LOSSES = [Hinge, Log, Exponential]


def by_definition(loss, positive, negative):
    """CDML section 3.2.1, in float64."""
    violation = np.float64(positive) - np.float64(negative) + loss.margin
    if isinstance(loss, Hinge):
        return np.maximum(violation, 0)
    return np.log(1 + np.exp(violation)) if isinstance(loss, Log) else np.exp(violation)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("margin", [0.0, 0.3, 4.0])
def test_values_over_the_whole_range(kind, margin):
    positive, negative = np.meshgrid(np.linspace(0, 4, 17), np.linspace(0, 4, 17))
    positive, negative = positive.ravel().astype(np.float32), negative.ravel().astype(np.float32)
    result = kind(margin=margin)(positive, negative)
    assert result.shape == (289,)
    expected = by_definition(kind(margin=margin), positive, negative)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_three_triplets_by_hand():
    positive, negative = jnp.array([1.0, 0.5, 0.5]), jnp.array([0.5, 0.75, 2.0])
    np.testing.assert_allclose(Hinge(margin=0.5)(positive, negative), [1.0, 0.25, 0.0])
    np.testing.assert_allclose(
        Log(margin=0.5)(positive, negative), np.log(1 + np.exp([1.0, 0.25, -1.0])), rtol=1e-6
    )
    np.testing.assert_allclose(
        Exponential(margin=0.5)(positive, negative), np.exp([1.0, 0.25, -1.0]), rtol=1e-6
    )


@pytest.mark.parametrize("kind", LOSSES)
def test_gradients_by_finite_differences(kind):
    # Away from the hinge's corner, where there is no derivative to compare with.
    positive, negative = jnp.array([1.0, 0.5, 0.5]), jnp.array([0.5, 0.75, 2.0])
    loss = kind(margin=0.5)
    check_grads(loss, (positive, negative), order=1, eps=1e-2, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", LOSSES)
def test_gradients_of_the_network_output_by_finite_differences(kind):
    raw = np.random.default_rng(0).standard_normal((3, 5, 6)).astype(np.float32)

    def mean_loss(raw):
        anchor, positive, negative = normalise(raw)
        distances = squared_distance(anchor, positive), squared_distance(anchor, negative)
        return kind(margin=2.0)(*distances).mean()

    gradient = np.asarray(jax.jit(jax.grad(mean_loss))(raw))

    def mean_loss_in_float64(raw):
        anchor, positive, negative = raw / np.linalg.norm(raw, axis=-1, keepdims=True)
        distances = ((anchor - positive) ** 2).sum(-1), ((anchor - negative) ** 2).sum(-1)
        return by_definition(kind(margin=2.0), *distances).mean()

    for place in np.ndindex(*raw.shape):
        step = np.zeros(raw.shape)
        step[place] = 1e-5
        rise = mean_loss_in_float64(raw + step) - mean_loss_in_float64(raw - step)
        np.testing.assert_allclose(gradient[place], rise / 2e-5, atol=1e-5, rtol=1e-4)


def test_a_satisfied_hinge_has_no_gradient_and_neither_has_its_corner():
    gradient = jax.grad(lambda p, n: Hinge(margin=0.5)(p, n).sum(), (0, 1))
    positive, negative = jnp.array([0.5, 0.5, 0.5]), jnp.array([2.0, 1.0, 0.75])
    np.testing.assert_array_equal(gradient(positive, negative)[0], [0, 0, 1])
    np.testing.assert_array_equal(gradient(positive, negative)[1], [0, 0, -1])


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("margin", [-0.1, 5.0, float("nan")])
def test_a_margin_out_of_range_is_refused(kind, margin):
    with pytest.raises(ValueError, match="margin is"):
        kind(margin=margin)


@pytest.mark.parametrize("miner", [SemiHard(), SemiHardRandom(), SemiHard(inside_margin=True)])
def test_hinge_without_margin_is_refused_with_semi_hard_negatives(miner):
    name = type(miner).__name__
    with pytest.raises(
        ValueError, match=rf"Hinge\(margin=0\) with {name}.*nothing would be learnt"
    ):
        check(miner, Hinge(margin=0))


@pytest.mark.parametrize("miner", [SemiHardRandom(), SemiHard(inside_margin=True)])
def test_a_margin_that_leaves_no_negative_is_refused(miner):
    name = type(miner).__name__
    with pytest.raises(
        ValueError, match=rf"{name}\(inside_margin=True\) with Log\(margin=0\): no negative lies"
    ):
        check(miner, Log(margin=0))


@pytest.mark.parametrize(
    ("miner", "loss"),
    [
        (SemiHard(), Hinge(margin=0.1)),
        (SemiHard(), Log(margin=0)),
        (SemiHardRandom(inside_margin=False), Exponential(margin=0)),
        (Hardest(), Hinge(margin=0)),
        (NoMining(), Hinge(margin=0)),
    ],
)
def test_what_can_learn_is_let_through(miner, loss):
    check(miner, loss)


def test_the_refused_pair_has_no_gradient_indeed():
    positive = jnp.linspace(0, 2, 9)
    gradient = jax.grad(lambda p: Hinge(margin=0)(p, positive + 0.1).sum())(positive)
    np.testing.assert_array_equal(gradient, np.zeros(9))
