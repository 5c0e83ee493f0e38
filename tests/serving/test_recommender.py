"""User models against a loop over users, history and candidates (vidembed.serving.recommender)."""

from itertools import pairwise

import numpy as np
import pytest

from vidembed.serving.recommender import recommend_rows, score_blocks, user_scores
from vidembed.serving.user_models import Max, Mean, Top, Variance

LENGTHS = [1, 3, 40, 7, 2, 2, 17]
OFFSETS = np.concatenate([[0], np.cumsum(LENGTHS)])
RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.standard_normal((137, 8)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
HISTORY = RANDOM.integers(0, 137, OFFSETS[-1])
CURRENT = VECTORS[RANDOM.integers(0, 137, len(LENGTHS))]


def histories():
    return [HISTORY[a:b] for a, b in pairwise(OFFSETS)]


def of_mean(cosines):
    return sum(cosines) / len(cosines)


def of_top(cosines):
    return of_mean(sorted(cosines)[-3:])


def of_variance(cosines):
    mean = of_mean(cosines)
    return mean - sum((cosine - mean) ** 2 for cosine in cosines) / len(cosines)


MODELS = {
    "mean": (Mean(), of_mean),
    "max": (Max(), max),
    "top": (Top(count=3), of_top),
    "variance": (Variance(), of_variance),
}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]


def brute(score):
    table = np.float64(VECTORS) @ np.float64(VECTORS).T
    return np.array([[score(table[rows, v].tolist()) for v in range(137)] for rows in histories()])


def each(ranked):
    return np.split(ranked.rows, np.cumsum(ranked.counts)[:-1])


def test_scores_and_ranking_of_every_model(model):
    aggregate, score = model
    expected = brute(score)
    scores = user_scores(VECTORS, HISTORY, OFFSETS, aggregate=aggregate)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    plain = [aggregate.of(VECTORS[rows] @ VECTORS.T) for rows in histories()]
    np.testing.assert_allclose(plain, expected, atol=1e-6)
    blended = 0.7 * expected + 0.3 * (CURRENT @ VECTORS.T)
    options = {"aggregate": aggregate, "current": CURRENT, "blend": 0.3}
    np.testing.assert_allclose(
        user_scores(VECTORS, HISTORY, OFFSETS, **options), blended, atol=1e-6
    )
    # Nothing from the history, and only allowed rows.
    allowed = np.arange(137) % 3 > 0
    ranked = recommend_rows(VECTORS, HISTORY, OFFSETS, 10, allowed=allowed, **options)
    assert (ranked.counts == 10).all()
    for rows, seen, line in zip(each(ranked), histories(), blended):
        line = np.where(allowed, line, -np.inf)
        line[seen] = -np.inf
        assert set(rows) == set(np.argsort(-line)[:10])
        assert (np.diff(line[rows]) <= 1e-6).all()


def test_users_are_scored_in_blocks_that_fit_the_memory(monkeypatch):
    monkeypatch.setattr("vidembed.serving.scoring.SCORES_AT_ONCE", 2 * 2 * 32)
    blocks = list(score_blocks(VECTORS, HISTORY, OFFSETS, aggregate=Max()))
    assert [len(users) for users, _ in blocks] == [2, 2, 2, 1]
    assert all(scores.shape == (len(users), 137) for users, scores in blocks)
    expected = brute(max)
    for users, scores in blocks:
        np.testing.assert_allclose(scores, expected[users], atol=1e-6)


def test_forgetting_and_weights_are_a_weighted_mean():
    seconds = RANDOM.uniform(0, 100, len(HISTORY))
    given = RANDOM.uniform(0, 2, len(HISTORY))
    model = Mean(half_life_watches=4, half_life_seconds=30)
    scores = user_scores(VECTORS, HISTORY, OFFSETS, given, aggregate=model, times=seconds)
    for user, (start, end) in enumerate(pairwise(OFFSETS)):
        total, weights = np.zeros(137), 0.0
        for place in range(start, end):
            weight = given[place] * 0.5 ** ((end - 1 - place) / 4)
            weight *= 0.5 ** ((max(seconds[start:end]) - seconds[place]) / 30)
            total += weight * (VECTORS @ VECTORS[HISTORY[place]])
            weights += weight
        np.testing.assert_allclose(scores[user], total / weights, atol=1e-6)


@pytest.mark.fault(
    "Recommendation: k above the candidates, a history that is the whole of them",
    "fewer rows, and `counts` says how many",
)
def test_fewer_candidates_give_fewer_rows():
    few = np.arange(137) < 4
    history, offsets = np.array([0, 1, 1, 9, 0, 1, 2, 3]), np.array([0, 3, 4, 8])
    for model in (Mean(), Max()):
        ranked = recommend_rows(VECTORS, history, offsets, 500, allowed=few, aggregate=model)
        assert [set(rows) for rows in each(ranked)] == [{2, 3}, {0, 1, 2, 3}, set()]


BAD = {
    "no history": ({"offsets": np.array([0, 0, 3, 3])}, "2 of 3 users have no history.*number 0"),
    "offsets": ({"offsets": np.array([0, 2])}, "rise from 0 to the 3"),
    "rows": ({"history": np.array([1, 2, 137])}, "1 to 137, but there are only 137 videos"),
    "no candidate": ({"allowed": np.zeros(137, bool)}, "none of 137 videos may be rec"),
    "no videos": ({"vectors": VECTORS[:0]}, "set of candidates is empty"),
    "k": ({"k": 0}, "k is 0"),
    "no times": ({"aggregate": Mean(half_life_seconds=5)}, "needs the times of the watches"),
    "few times": (
        {"aggregate": Mean(half_life_seconds=5), "times": np.zeros(2)},
        r"\[2\] times for 3 watches",
    ),
    "NaN times": (
        {"aggregate": Mean(half_life_seconds=5), "times": np.full(3, np.nan)},
        "3 of 3 times are NaN",
    ),
    "weights": ({"weights": np.zeros(3)}, "not all of a history 0"),
    "weights of max": ({"weights": np.ones(3), "aggregate": Max()}, "use Mean with weights"),
    "blend": ({"current": VECTORS[:1], "blend": 2}, "blend is 2"),
}


@pytest.mark.fault(
    "Recommendation: users without history, no candidate, rows, offsets, weights, times or options "
    "out of range",
    "refused: how many, the first one, what to give",
)
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(case):
    changed, message = BAD[case]
    given = {"vectors": VECTORS, "history": np.array([1, 2, 3]), "offsets": np.array([0, 3])}
    with pytest.raises(ValueError, match=message):
        recommend_rows(**{**given, "k": 3, **changed})
    for model in ({"half_life_watches": 0}, {"half_life_seconds": -1}):
        with pytest.raises(ValueError, match="it must be above 0"):
            Mean(**model)
    with pytest.raises(ValueError, match="count is 0"):
        Top(count=0)
