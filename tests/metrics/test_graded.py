"""Graded metrics against scikit-learn, pytrec_eval, and a loop over users."""

import itertools

import numpy as np
import pytest
import pytrec_eval
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score

from vidembed.metrics import graded

K = 5


@pytest.fixture(scope="module", params=[True, False], ids=["ties", "no ties"])
def users(request):
    """(scores, ratings) of 40 users with 4 to 30 items, both relevant and irrelevant."""
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(40):
        size = rng.integers(4, 31)
        ratings = rng.integers(1, 6, size).astype(float)
        ratings[:2] = 5, 1
        scores = rng.integers(0, 4, size) if request.param else rng.permutation(size)
        pairs.append((scores.astype(float), ratings))
    return pairs


@pytest.fixture(scope="module")
def flat(users):
    scores, ratings = (np.concatenate(part) for part in zip(*users))
    return scores, ratings, np.cumsum([0, *(len(s) for s, _ in users)])


def test_auc_matches_scikit_learn(users, flat):
    scores, ratings, offsets = flat
    values = graded.auc(scores, ratings >= 4, offsets)
    np.testing.assert_allclose(values, [roc_auc_score(r >= 4, s) for s, r in users])
    order = graded.best_first(scores, offsets)  # ascending scores take another path
    ordered = 1 - graded.auc(-scores[order], ratings[order] >= 4, offsets)
    np.testing.assert_allclose(ordered, values)


def test_the_best_come_first_and_ties_stay_in_order(users, flat):
    scores, _, offsets = flat
    order = graded.best_first(scores, offsets)
    for (user_scores, _), start, end in zip(users, offsets[:-1], offsets[1:]):
        expected = sorted(range(len(user_scores)), key=lambda i: (-user_scores[i], i))
        assert (order[start:end] - start).tolist() == expected


@pytest.mark.parametrize("k", [1, K, 1000])
def test_ndcg_matches_scikit_learn_without_ties(users, flat, k):
    scores, ratings, offsets = flat
    order = graded.best_first(scores, offsets)
    gains = 2**ratings - 1
    values = graded.ndcg(gains[order], offsets, k)
    # Use places as scores, so that scikit-learn breaks ties as we do.
    places = [len(s) - np.argsort(np.lexsort((np.arange(len(s)), -s))) for s, _ in users]
    slow = [ndcg_score([2**r - 1], [p], k=k) for p, (_, r) in zip(places, users)]
    np.testing.assert_allclose(values, slow)


def test_average_precision_matches_scikit_learn_and_trec_eval(users, flat):
    scores, ratings, offsets = flat
    order = graded.best_first(scores, offsets)
    values = graded.average_precision(ratings[order] >= 4, offsets)
    run, truth, slow = {}, {}, []
    for user, (start, end) in enumerate(itertools.pairwise(offsets)):
        places = np.empty(end - start)
        places[order[start:end] - start] = np.arange(end - start, 0, -1)
        right = ratings[start:end] >= 4
        slow.append(average_precision_score(right, places))
        run[str(user)] = {str(i): float(p) for i, p in enumerate(places)}
        truth[str(user)] = {str(i): int(r) for i, r in enumerate(right)}
    np.testing.assert_allclose(values, slow)
    trec = pytrec_eval.RelevanceEvaluator(truth, {"map"}).evaluate(run)
    np.testing.assert_allclose(values, [trec[str(user)]["map"] for user in range(len(values))])


def test_a_ranking_worked_by_hand():
    gains, offsets = np.array([3.0, 0, 7, 1]), np.array([0, 3, 4])
    best = 7 + 3 / np.log2(3)
    np.testing.assert_allclose(graded.ndcg(gains, offsets, 3), [(3 + 7 / 2) / best, 1])
    np.testing.assert_allclose(graded.average_precision(gains > 0, offsets), [(1 + 2 / 3) / 2, 1])


@pytest.mark.fault(
    "Recommendation: a user without a relevant item, or with nothing else",
    "refused: no metric exists",
)
def test_users_with_nothing_to_measure_are_refused():
    offsets = np.array([0, 2, 4])
    with pytest.raises(ValueError, match=r"1 of 2 users have no gain .*user 1.*leave them out"):
        graded.ndcg(np.array([1, 0, 0, 0]), offsets, 2)
    with pytest.raises(ValueError, match="1 of 2 users have no relevant item"):
        graded.average_precision(np.array([0, 1, 0, 0]), offsets)
    with pytest.raises(ValueError, match="no item that is not relevant"):
        graded.auc(np.arange(4), np.array([1, 0, 1, 1]), offsets)
    with pytest.raises(ValueError, match="offsets must rise"):
        graded.auc(np.arange(4), np.ones(4), np.array([0, 5]))
    with pytest.raises(ValueError, match="gains must be 0 or more, found -1"):
        graded.ndcg(np.array([1.0, -1]), np.array([0, 2]), 2)
