import itertools

import numpy as np
import pytest
import pytrec_eval
from sklearn.metrics import average_precision_score, ndcg_score

from vidembed.metrics.ranking import average_precision, ndcg, recall


def test_worked_by_hand():
    # Relevant ranks: 1 and 3 for query 0, 2 for query 1, and 4, 5 and 11 for query 2.
    ranks, offsets = np.array([3, 1, 2, 11, 4, 5]), np.array([0, 2, 3, 6])
    gain = lambda rank: 1 / np.log2(rank + 1)  # noqa: E731
    assert ndcg(ranks, offsets, 10) == pytest.approx(
        [
            (1 + 0.5) / (1 + gain(2)),
            gain(2) / 1,
            (gain(4) + gain(5)) / (1 + gain(2) + 0.5),
        ]
    )
    # Only two of three relevant items fit into k = 2, so the ideal gain is that of two.
    assert ndcg(ranks, offsets, 2) == pytest.approx([1 / (1 + gain(2)), gain(2), 0.0])
    assert recall(ranks, offsets, 10) == pytest.approx([1, 1, 2 / 3])
    assert recall(ranks, offsets, 1) == pytest.approx([0.5, 0, 0])
    assert average_precision(ranks, offsets) == pytest.approx(
        [(1 / 1 + 2 / 3) / 2, 1 / 2, (1 / 4 + 2 / 5 + 3 / 11) / 3]
    )


@pytest.fixture(scope="module")
def case():
    """Distinct scores f32[Q, C], relevance bool[Q, C] (at least one per query), ranks, offsets."""
    rng = np.random.default_rng(0)
    queries, candidates = 60, 37
    scores = rng.permuted(np.tile(np.arange(candidates), (queries, 1)), axis=1).astype(np.float64)
    relevant = rng.random((queries, candidates)) < rng.random((queries, 1))
    relevant[np.arange(queries), rng.integers(0, candidates, queries)] = True
    relevant[0] = True
    rank = (candidates - scores).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(relevant.sum(axis=1))])
    return scores, relevant, rank[relevant], offsets


@pytest.mark.parametrize("k", [1, 3, 10, 37, 1000])
def test_equal_to_scikit_learn_and_pytrec_eval(case, k):
    scores, relevant, ranks, offsets = case
    shown = min(k, scores.shape[1])
    assert ndcg(ranks, offsets, k) == pytest.approx(
        [ndcg_score([r], [s], k=k) for r, s in zip(relevant.astype(float), scores, strict=True)]
    )
    measured = trec(scores, relevant, {f"ndcg_cut.{shown}", f"recall.{shown}"})
    assert ndcg(ranks, offsets, k) == pytest.approx(measured[f"ndcg_cut_{shown}"], abs=1e-6)
    assert recall(ranks, offsets, k) == pytest.approx(measured[f"recall_{shown}"], abs=1e-6)


def test_average_precision_equals_both(case):
    scores, relevant, ranks, offsets = case
    assert average_precision(ranks, offsets) == pytest.approx(
        [average_precision_score(r, s) for r, s in zip(relevant, scores, strict=True)]
    )
    measured = trec(scores, relevant, {"map"})
    assert average_precision(ranks, offsets) == pytest.approx(measured["map"], abs=1e-6)


def trec(scores, relevant, measures):
    judged = {
        f"q{q}": {f"d{c}": int(r) for c, r in enumerate(row)} for q, row in enumerate(relevant)
    }
    run = {f"q{q}": {f"d{c}": float(s) for c, s in enumerate(row)} for q, row in enumerate(scores)}
    measured = pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(run)
    return {name: [measured[f"q{q}"][name] for q in range(len(scores))] for name in measured["q0"]}


def test_order_of_the_ranks_within_a_query_means_nothing(case):
    _, _, ranks, offsets = case
    rng = np.random.default_rng(1)
    shuffled = np.concatenate([rng.permutation(ranks[a:b]) for a, b in itertools.pairwise(offsets)])
    assert not np.array_equal(ranks, shuffled)
    for metric in (average_precision, lambda r, o: ndcg(r, o, 5), lambda r, o: recall(r, o, 5)):
        assert metric(ranks, offsets) == pytest.approx(metric(shuffled, offsets))


def test_a_perfect_ranking_is_one_and_all_are_bounded(case):
    _, _, ranks, offsets = case
    best = np.concatenate([np.arange(1, n + 1) for n in np.diff(offsets)])
    for k in (1, 10, 1000):
        assert ndcg(best, offsets, k) == pytest.approx(1)
        assert recall(best, offsets, k) == pytest.approx(np.minimum(k / np.diff(offsets), 1))
        values = np.concatenate([ndcg(ranks, offsets, k), recall(ranks, offsets, k)])
        assert values.min() >= 0
        assert values.max() <= 1 + 1e-12
    assert average_precision(best, offsets) == pytest.approx(1)


@pytest.mark.parametrize(
    ("ranks", "offsets", "message"),
    [
        ([1, 2], [0, 2, 2], "1 of 2 queries have no relevant item .*query 1"),
        ([1, 1], [0, 2], "differ within a query"),
        ([0, 2], [0, 2], "count from 1.*smallest 0"),
        ([1, 2], [0, 1], "0 to the 2 ranks"),
        ([1, 2], [1, 2], "0 to the 2 ranks"),
        ([], [0], "at least one query"),
    ],
)
def test_input_that_breaks_the_rules_is_refused(ranks, offsets, message):
    for metric in (average_precision, lambda r, o: ndcg(r, o, 5), lambda r, o: recall(r, o, 5)):
        with pytest.raises(ValueError, match=message):
            metric(np.array(ranks, np.int64), np.array(offsets))


def test_k_below_one_is_refused():
    for metric in (ndcg, recall):
        with pytest.raises(ValueError, match="k must be at least 1, found 0"):
            metric(np.array([1]), np.array([0, 1]), 0)
