"""The capacity for forbidden pairs: two sizes, a bound that holds, and error messages."""

import math

import numpy as np
import pytest

from vidembed.feeds.forbidden import Capacities, most_pairs

DEGREES, CHANCES = np.array([0, 3, 40, 900, 2500]), np.array([0, 50, 40, 2, 1])


def sized(counts=(400, 500, 450), **options) -> Capacities:
    return Capacities.of(
        counts, DEGREES, CHANCES, **({"triplets": 100, "max_forbidden_pairs": 2**24} | options)
    )


def test_the_ordinary_capacity_has_a_quarter_to_spare_and_the_large_one_the_bound():
    capacities = sized(counts=(4000, 5000, 4500))
    assert capacities.ordinary == 7 * 1024  # 6,250
    bound = most_pairs(DEGREES, CHANCES, 100)
    assert capacities.large == math.ceil(bound / 1024) * 1024 > capacities.ordinary
    assert f"{capacities.ordinary:,} forbidden pairs" in capacities.note
    assert f"uses a second compiled step, for {capacities.large:,}" in capacities.note


def test_one_capacity_where_the_first_batches_come_near_the_bound():
    capacities = sized(counts=[20_000])
    assert capacities.ordinary == capacities.large
    assert "second" not in capacities.note


def test_a_batch_takes_the_smaller_capacity_that_holds_it_and_is_never_cut():
    capacities = Capacities(ordinary=10, large=20)
    assert [capacities.fitting(count, 7) for count in (9, 10, 11, 20)] == [10, 10, 20, 20]
    with pytest.raises(ValueError, match=r"batch 7 has 21 forbidden pairs.*--feed.batch-triplets"):
        capacities.fitting(21, 7)


def test_the_bound_by_hand():
    # One kind of anchor, no variance: B (1 + degree), at most the slots of a batch.
    assert most_pairs(np.array([5, 9]), np.array([1, 0]), 100) == 600
    assert most_pairs(np.array([50]), np.array([2.0]), 4) == 4 * 12
    # For few draws the certain bound is smaller.
    assert most_pairs(DEGREES, CHANCES, 2) == 2 * 6


def test_the_bound_is_not_exceeded_in_many_batches_and_not_far_above_the_mean():
    rng = np.random.default_rng(0)
    pairs = 1 + np.minimum(DEGREES, 3 * 1000 - 1)
    drawn = rng.choice(pairs, (5000, 1000), p=CHANCES / CHANCES.sum()).sum(axis=1)
    bound = most_pairs(DEGREES, CHANCES, 1000)
    assert drawn.max() < bound < 3 * drawn.mean()
    assert bound < 1000 * pairs.max()


@pytest.mark.fault("Relations and sessions: a graph with hubs")
def test_what_would_not_fit_is_refused_with_the_options_that_help():
    bound = most_pairs(DEGREES, CHANCES, 100)
    assert sized(max_forbidden_pairs=bound).large == bound
    with pytest.raises(ValueError, match=f"may have {bound:,} forbidden pairs") as refusal:
        sized(max_forbidden_pairs=bound - 1)
    for words in (
        "2,500, 900, 40",
        f"max_forbidden_pairs {bound - 1:,}",
        "--feed.max-forbidden-pairs",
        "--feed.batch-triplets",
        "cowatch --min-weight",
    ):
        assert words in str(refusal.value)
