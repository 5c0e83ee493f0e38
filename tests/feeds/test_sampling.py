"""Sampling against exact probabilities, chi-square tests and pinned numbers."""

import numpy as np
import pytest
from scipy import stats

from vidembed.feeds.sampling import AliasTable, TripletSampler, below, raw_draws, unit
from vidembed.graph.relation import RelationGraph

C, D = np.float32(0.3), np.float32(0.0625)
ALL_ONES = np.array([0, 2**64 - 1], np.uint64)


def small_graph() -> RelationGraph:
    """Seven edges over rows 0..8, weights from 1 to 20; row 8 has none."""
    source, target = [0, 0, 1, 3, 4, 5, 7], [1, 2, 2, 4, 5, 6, 0]
    return RelationGraph.from_edges(
        np.array(source), np.array(target), np.array([1, 2, 20, 4, 5, 8, 1.5]), nodes=9
    )


def test_draws_are_pinned_and_depend_only_on_seed_and_step():
    assert raw_draws(1, 2, (3,)).tolist() == [
        5705853004827290377,
        6584680345644299050,
        680768428710196683,
    ]
    np.testing.assert_array_equal(raw_draws(1, 2, (3, 4))[:2], raw_draws(1, 2, (2, 4)))
    assert not np.array_equal(raw_draws(2, 1, (3,)), raw_draws(1, 2, (3,)))
    assert raw_draws(2**64 - 1, 2**40, (1,)).dtype == np.uint64


@pytest.mark.parametrize("limit", [1, 2, 3, 7200, 12_500_001, 2**40 + 1])
def test_below_reaches_both_ends_and_not_past_them(limit):
    assert below(ALL_ONES, limit).tolist() == [0, limit - 1]
    assert unit(ALL_ONES).max() < 1


def probabilities(table: AliasTable) -> np.ndarray:
    """Exact probabilities of the table: each column's own share plus its aliased shares."""
    keep = table.keep.astype(np.float64)
    assert ((keep >= -1e-6) & (keep <= 1 + 1e-6)).all()
    return (keep + np.bincount(table.alias, 1 - keep, minlength=len(keep))) / len(keep)


@pytest.mark.parametrize(
    "weights",
    [
        [3.0],
        [1.0, 1.0, 1.0],
        [0.1, 0.1],  # equal, each above its fair share by rounding
        [0.9, 0.9],  # equal, each below its fair share by rounding
        [C - D, C + D, C],  # all deficits are filled before the last giver
        [
            0.9 - 0.0625,
            0.9 + 0.0625,
            0.9,
        ],  # a column is light only by rounding, and no giver is left
        [0, 0, 5.0, 0],
        [5.0, 0, 0, 0, 1e-9],
        [2.0, 1.0, 1.0, 1.0, 0.5, 0.5],
        [1, 2, 3, 4, 5, 6, 7, 8],
    ],
)
def test_alias_table_holds_the_weights_exactly(weights):
    weights = np.array(weights, np.float32)
    np.testing.assert_allclose(
        probabilities(AliasTable.of(weights)), weights / weights.sum(), atol=2e-7
    )


def test_alias_table_holds_random_weights_exactly():
    rng = np.random.default_rng(0)
    for case in range(200):
        n = int(rng.integers(1, 400))
        weights = rng.pareto(0.7 + case % 4, n).astype(np.float32) + 1e-3
        if case % 3 == 0:
            weights = np.ceil(weights)  # ties, and columns at exactly their fair share
        actual = probabilities(AliasTable.of(weights))
        expected = weights / weights.sum(dtype=np.float64)
        np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-6 / n)


def test_alias_pick_takes_the_column_below_keep_else_the_alias():
    table = AliasTable(keep=np.array([0.25, 1.0], np.float32), alias=np.array([1, 1], np.int32))
    picked = table.pick(np.array([0, 0, 1, 1]), np.array([0.2499, 0.25, 0.0, 0.999]))
    assert picked.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, np.nan], [1.0, np.inf], [2.0, -1.0]])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(ValueError, match="sample them uniformly"):
        AliasTable.of(np.array(weights, np.float32))


def cells(sampling: str, draws: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """Observed and expected counts of every (edge, orientation, negative); without rows 6 and 8.

    The graph is restricted to the train rows, as the feed does.
    """
    is_train = np.array([True] * 6 + [False, True, False])
    graph = small_graph().within(is_train)
    sampler = TripletSampler.of(graph, is_train, sampling=sampling)
    rows = np.concatenate([sampler.draw(5, step, draws // 20)[0] for step in range(20)], axis=1)
    assert rows.dtype == np.int32

    weights = graph.matrix().toarray().astype(np.float64)  # symmetric: one cell per orientation
    share = (weights > 0) / np.count_nonzero(weights)
    if sampling == "weight":
        share = weights / weights.sum()
    expected = share[:, :, None] * (is_train / is_train.sum()) * rows.shape[1]
    observed = np.zeros(expected.shape)
    np.add.at(observed, (rows[2], rows[1], rows[0]), 1)
    assert observed[expected == 0].sum() == 0  # only pairs that are edges, only train rows
    return observed[expected > 0], expected[expected > 0]


@pytest.mark.parametrize("sampling", ["uniform", "weight"])
def test_edges_orientations_and_negatives_have_the_documented_distribution(sampling):
    observed, expected = cells(sampling)
    assert stats.chisquare(observed, expected).pvalue > 0.001


def test_the_chi_square_test_tells_the_samplings_apart():
    observed, _ = cells("uniform")
    _, expected = cells("weight")
    assert stats.chisquare(observed, expected).pvalue < 1e-12
