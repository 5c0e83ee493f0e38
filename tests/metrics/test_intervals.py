import numpy as np
import pytest

from vidembed.metrics import intervals
from vidembed.metrics.intervals import bootstrap, bootstrap_mean_of, paired


def skewed(rng, shape):
    """Values like NDCG: many zeros, the rest spread over [0, 1]; their true mean is 0.2."""
    return rng.random(shape) * (rng.random(shape) < 0.4)


def test_width_is_that_of_the_normal_approximation():
    values = skewed(np.random.default_rng(0), 2000)
    found = bootstrap(values, seed=1, resamples=2000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)
    assert found.low == pytest.approx(values.mean() - half, abs=half * 0.15)


def test_ninety_five_of_a_hundred_intervals_hold_the_true_mean():
    rng = np.random.default_rng(2)
    held = [
        found.low <= 0.2 <= found.high
        for found in (bootstrap(skewed(rng, 150), seed=i, resamples=400) for i in range(400))
    ]
    # Four standard deviations of 400 draws, and the percentile bootstrap is a little narrow.
    assert 0.90 < np.mean(held) < 0.99


def test_seeds_and_chunks(monkeypatch):
    values = skewed(np.random.default_rng(0), 300)
    found = bootstrap(values, seed=3)
    assert found == bootstrap(values, seed=3)
    assert found != bootstrap(values, seed=4)
    monkeypatch.setattr(intervals, "DRAWS_AT_ONCE", 7 * len(values))
    assert bootstrap(values, seed=3) == pytest.approx(found)
    monkeypatch.setattr(intervals, "DRAWS_AT_ONCE", 1)
    assert bootstrap(values, seed=3) == pytest.approx(found)


def test_equal_values_have_no_width():
    assert bootstrap(np.full(9, 0.25), seed=0) == (0.25, 0.25, 0.25)


def test_several_runs_weigh_the_same_and_shrink_the_interval():
    rng = np.random.default_rng(5)
    runs = [skewed(rng, 1000) + 0.1, skewed(rng, 50), skewed(rng, 1000) - 0.1]
    found = bootstrap_mean_of(runs, seed=0, resamples=2000)
    assert found.value == pytest.approx(np.mean([run.mean() for run in runs]))
    # Runs are drawn apart, so how far their means differ is no part of the width.
    error = np.sqrt(sum(run.var() / len(run) for run in runs)) / 3
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_pairs_take_out_what_both_share():
    rng = np.random.default_rng(6)
    hard = rng.random(800)
    first, second = hard + 0.02 + rng.normal(0, 0.01, 800), hard
    found = paired([(first, second)], seed=0)
    assert found.value == pytest.approx(0.02, abs=0.002)
    assert found.high - found.low < 0.005
    assert found.low > 0
    apart = bootstrap(first, seed=0)
    assert apart.high - apart.low > 0.03
    several = paired([(first, second), (second, first)], seed=0)
    assert several.value == pytest.approx(0)
    assert paired([(second, first)], seed=0).value == pytest.approx(-found.value)


@pytest.mark.parametrize(
    "values", [np.array([]), np.array([0.1, np.nan]), np.array([np.inf]), np.zeros((2, 2))]
)
def test_values_without_a_mean_are_refused(values):
    with pytest.raises(ValueError, match="finite value a query"):
        bootstrap(values, seed=0)


def test_what_cannot_be_compared_or_shown_is_refused():
    with pytest.raises(ValueError, match="same queries"):
        paired([(np.zeros(3), np.zeros(4))], seed=0)
    with pytest.raises(ValueError, match="no runs"):
        bootstrap_mean_of([], seed=0)
    with pytest.raises(ValueError, match="10 resamples"):
        bootstrap(np.zeros(3), seed=0, resamples=10)
