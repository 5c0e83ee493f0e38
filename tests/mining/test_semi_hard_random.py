from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from vidembed.mining import SemiHardRandom
from vidembed.mining.miners import lottery

KEY = jax.random.key(0)


MINER = jax.jit(partial(SemiHardRandom(inside_margin=False, block=500), margin=0.1))


def many_picks(circle, key, rows=4000, offset=0):
    """Picks of the first anchor of the circle, repeated: 50, 100 and 160 degrees exceed 30."""
    case = circle._replace(
        anchor=np.repeat(circle.anchor[:1], rows, axis=0),
        positive=np.repeat(circle.positive[:1], rows, axis=0),
        pairs=np.full((rows, 1), 4, np.int32),  # no pairs
    )
    return np.asarray(MINER(*case.arguments, key=key, anchor_offset=offset)[0])


def test_is_uniform_over_anchors_and_over_keys(circle):
    over_anchors = np.bincount(many_picks(circle, KEY), minlength=4)
    assert over_anchors[0] == 0
    assert stats.chisquare(over_anchors[1:]).pvalue > 1e-3
    over_keys = [many_picks(circle, key, rows=5) for key in jax.random.split(KEY, 400)]
    for one_anchor in np.transpose(over_keys):
        assert stats.chisquare(np.bincount(one_anchor)[1:]).pvalue > 1e-3


def test_picks_of_neighbouring_anchors_and_of_two_keys_are_independent(circle):
    first, second = many_picks(circle, KEY), many_picks(circle, jax.random.key(1))
    for picks, other_picks in ((first[:-1], first[1:]), (first, second)):
        table = np.zeros((3, 3))
        np.add.at(table, (picks - 1, other_picks - 1), 1)
        assert stats.chi2_contingency(table).pvalue > 1e-3


def test_the_same_key_chooses_the_same(circle):
    np.testing.assert_array_equal(many_picks(circle, KEY), many_picks(circle, KEY))


def test_the_offset_continues_the_batch(circle):
    whole = many_picks(circle, KEY, rows=100)
    np.testing.assert_array_equal(whole[60:], many_picks(circle, KEY, rows=40, offset=60))
    assert list(whole[:40]) != list(whole[60:])


def test_lottery_numbers_are_ordinary_floats_of_every_size():
    anchors, columns = (jnp.arange(count, dtype=jnp.uint32) for count in (300, 1000))
    numbers = np.asarray(lottery(jnp.array([1, 2], jnp.uint32), anchors, columns))
    assert np.isfinite(numbers).all()
    assert numbers.min() >= np.finfo(np.float32).tiny
    # Uniform as integers, the order of floats of one sign.
    bits = (numbers.view(np.uint32) - 0x00800000) / 2**30
    assert stats.kstest(bits.ravel(), "uniform").pvalue > 1e-3
    # No two anchors share their draws, even if their numbers differ in one bit.
    correlation = np.corrcoef(bits)
    assert np.abs(correlation[~np.eye(300, dtype=bool)]).max() < 0.2


def test_lottery_of_consecutive_columns_is_fair():
    rows, columns = jnp.arange(20000, dtype=jnp.uint32), jnp.arange(7, 12, dtype=jnp.uint32)
    winners = np.argmax(jax.jit(lottery)(jnp.array([5, 9], jnp.uint32), rows, columns), axis=1)
    assert stats.chisquare(np.bincount(winners)).pvalue > 1e-3
