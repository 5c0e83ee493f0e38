"""How people are asked: which of their ratings are known, what is ranked, and by what scores.

T4 and T5 rank each user's own test ratings (CDML, sections 4.2.2 and 4.2.3), the cold test all cold
movies. Every function gives the metrics of each user.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vidembed.corpora.ratings import Ratings
from vidembed.metrics import graded
from vidembed.records.scores_file import PerQuery
from vidembed.serving.user_models import Max, Mean, UserModel

ALL = "all"
THRESHOLDS: Mapping[str, float] = {"5": 5.0, ">=4": 4.0, ">=3": 3.0, ALL: 0.0}
OWN_MEAN = ">mean"
"""Names of what a history is made of: the lowest rating, or above the user's mean."""
MODELS: Mapping[str, UserModel] = {"max": Max(), "mean": Mean()}
K = 10
LEAST_TEST = 10
"""Users with fewer test ratings are left out, as in the paper."""
LEAST_LIKED = 5
"""Liked warm and liked cold movies of a user that is asked for cold ones."""
Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(users i64[R], items i64[R]) → scores f[R]."""


class Asked(NamedTuple):
    """What is known of the users that are tried, and what is ranked of each.

    known, test: rows of ratings, i64, sorted by user; users: i64[U], ascending, each with rows in
    both. left_out: users by the reason.
    """

    known: np.ndarray
    test: np.ndarray
    users: np.ndarray
    left_out: Mapping[str, int]


def asked(
    ratings: Ratings, keys: np.ndarray, known: np.ndarray, users: np.ndarray, *, relevant: float
) -> Asked:
    """The first `known` i64[U] ratings of each user by random keys f64[R], and the others as test.

    users: bool[U], who is tried. Users with fewer than LEAST_TEST test ratings, and those without a
    relevant one, of whom average precision says nothing, are left out and counted.
    """
    order = np.lexsort((keys, ratings.user))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - ratings.offsets[ratings.user[order]]
    is_known = place < known[ratings.user]
    tests = np.bincount(ratings.user[~is_known], minlength=len(users))
    hits = ~is_known & (ratings.value >= relevant)
    without = np.bincount(ratings.user[hits], minlength=len(users)) == 0
    few = users & (tests < LEAST_TEST)
    chosen = users & ~few & ~without & (known > 0)
    of = chosen[ratings.user]
    return Asked(
        known=np.flatnonzero(is_known & of),
        test=np.flatnonzero(~is_known & of),
        users=np.flatnonzero(chosen),
        left_out={
            f"fewer than {LEAST_TEST} test ratings": int(few.sum()),
            "no relevant test rating": int((users & ~few & without).sum()),
        },
    )


def history(ratings: Ratings, known: np.ndarray, threshold: str) -> tuple[np.ndarray, int]:
    """The rows of `known` that a user model takes, and for how many users it falls back.

    Those with no rating so high keep all that are known, so that every threshold is asked of the
    same users.
    """
    user, value = ratings.user[known], ratings.value[known]
    size = len(ratings.users)
    count = np.bincount(user, minlength=size)
    mean = np.bincount(user, value, minlength=size) / np.maximum(count, 1)
    high = value > mean[user] if threshold == OWN_MEAN else value >= THRESHOLDS[threshold]
    none = (np.bincount(user[high], minlength=size) == 0) & (count > 0)
    return known[high | none[user]], int(none.sum())


def by_history(vectors: np.ndarray, ratings: Ratings, rows: np.ndarray, model: str) -> Scores:
    """Scores of items f32[N, D], of unit length, by a user model on histories (equations 5, 6)."""
    user, item = ratings.user[rows], ratings.item[rows]
    begins = np.searchsorted(user, np.arange(len(ratings.users) + 1))

    def scores(users: np.ndarray, items: np.ndarray) -> np.ndarray:
        found = np.empty(len(users), np.float32)
        bounds = np.flatnonzero(np.diff(users, prepend=-1, append=-1))
        for start, end in pairwise(bounds):
            own = vectors[item[begins[users[start]] : begins[users[start] + 1]]]
            candidates = vectors[items[start:end]]
            if MODELS[model].one_vector:
                found[start:end] = candidates @ own.mean(axis=0)
            else:
                found[start:end] = MODELS[model].of(own @ candidates.T)
        return found

    return scores


def own_test(ratings: Ratings, of: Asked, scores: Scores, *, relevant: float) -> PerQuery:
    """NDCG@10 with gain 2^rating − 1, and average precision, over each user's own test ratings."""
    user, item, value = (part[of.test] for part in (ratings.user, ratings.item, ratings.value))
    offsets = np.searchsorted(user, np.append(of.users, len(ratings.users)))
    value = value[graded.best_first(scores(user, item), offsets)].astype(np.float64)
    return PerQuery(
        ids=ratings.users[of.users],
        values={
            f"ndcg@{K}": graded.ndcg(2**value - 1, offsets, K),
            "map": graded.average_precision(value >= relevant, offsets),
        },
    )


def cold_users(likes: Ratings, is_train: np.ndarray) -> np.ndarray:
    """Who likes enough warm and enough cold movies, i64[U]."""
    warm = is_train[likes.item]
    each = (np.bincount(likes.user[side], minlength=len(likes.users)) for side in (warm, ~warm))
    return np.flatnonzero(np.logical_and(*(count >= LEAST_LIKED for count in each)))


def cold_movies(likes: Ratings, is_train: np.ndarray, users: np.ndarray) -> Iterator[np.ndarray]:
    """For each user the liked cold movies among all cold ones, bool[C]."""
    cold = np.flatnonzero(~is_train)
    begins = likes.offsets
    for user in users:
        yield np.isin(cold, likes.item[begins[user] : begins[user + 1]])


def cold_test(likes: Ratings, is_train: np.ndarray, scores: Scores, *, depth: int = 20) -> PerQuery:
    """AUC, NDCG and average precision over all cold movies; nobody's rating of one is known."""
    users, cold = cold_users(likes, is_train), np.flatnonzero(~is_train)
    found = np.concatenate(list(cold_movies(likes, is_train, users)))
    offsets = np.arange(len(users) + 1) * len(cold)
    each = scores(np.repeat(users, len(cold)), np.tile(cold, len(users)))
    ranked = found[graded.best_first(each, offsets)]
    return PerQuery(
        ids=likes.users[users],
        values={
            "auc": graded.auc(each, found, offsets),
            f"ndcg@{depth}": graded.ndcg(ranked, offsets, depth),
            "map": graded.average_precision(ranked, offsets),
        },
    )
