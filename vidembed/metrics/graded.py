"""Metrics of ranked lists whose items have graded or binary relevance, one list per user.

Input is ragged and flat: one value per ranked item, users one after another, with offsets i64[U+1];
user u has `values[offsets[u]:offsets[u + 1]]`. `best_first` returns the order of the ranked lists:
by descending score, ties in input order, so the caller decides ties (by row of the table,
everywhere in vidembed). Only AUC needs no order: equal scores count half. Each metric returns
f64[U], one value per user in [0, 1], and raises ValueError for users without anything to measure;
the caller leaves them out and counts them.
"""

import numpy as np


def best_first(scores: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Positions of all items, i64[R], each user's best first; ties stay in input order."""
    user = _user_of(np.asarray(offsets, np.int64), len(scores), "score")
    return np.lexsort((-np.asarray(scores, np.float64), user))


def ndcg(gains: np.ndarray, offsets: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k with graded gains (CDML, equation 3).

    The sum of gain / log2(rank + 1) down to rank k, divided by that of the same gains in ideal
    order. gains: f64[R] ≥ 0 of the items as ranked, such as 2^rating − 1. A k above a user's number
    of items means all of them. Raises ValueError if a user has no gain.
    """
    gains, offsets = np.asarray(gains, np.float64), np.asarray(offsets, np.int64)
    user = _user_of(offsets, len(gains), "gain")
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    if len(gains) and not (gains >= 0).all():
        raise ValueError(f"gains must be 0 or more, found {gains[~(gains >= 0)][0]}")
    gaining = np.flatnonzero(gains)  # few of a full candidate set
    best = gaining[np.lexsort((-gains[gaining], user[gaining]))]
    count = np.bincount(user[gaining], minlength=len(offsets) - 1)
    first = np.cumsum(count) - count

    def discounted(places: np.ndarray, rank: np.ndarray) -> np.ndarray:
        counted = np.where(rank <= k, gains[places] / np.log2(rank + 1.0), 0)
        return np.bincount(user[places], counted, minlength=len(count))

    ideal = discounted(best, np.arange(1, len(best) + 1) - first[user[best]])
    _refuse_empty(ideal > 0, "gain")
    return discounted(gaining, gaining + 1 - offsets[user[gaining]]) / ideal


def average_precision(relevant: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Precision at each relevant item of the whole ranking, averaged over these (CDML, equation 4).

    relevant: bool[R] as ranked. The mean over users is MAP.
    """
    relevant, offsets = np.asarray(relevant, bool), np.asarray(offsets, np.int64)
    user = _user_of(offsets, len(relevant), "mark")
    places = np.flatnonzero(relevant)  # few of a full candidate set
    user_of_hit = user[places]
    count = np.bincount(user_of_hit, minlength=len(offsets) - 1)
    _refuse_empty(count > 0, "relevant item")
    first = np.cumsum(count) - count
    hits = np.arange(1, len(places) + 1) - first[user_of_hit]
    return (
        np.bincount(user_of_hit, hits / (places + 1 - offsets[user_of_hit]), minlength=len(count))
        / count
    )


def auc(scores: np.ndarray, relevant: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Share of pairs of a relevant and an irrelevant item in the right order; ties count half.

    scores: f64[R], relevant: bool[R], in any order. Raises ValueError if a user lacks either kind.
    """
    scores, relevant = np.asarray(scores, np.float64), np.asarray(relevant, bool)
    offsets = np.asarray(offsets, np.int64)
    user = _user_of(offsets, len(scores), "score")
    positive = _sums(relevant, offsets)
    negative = np.diff(offsets) - positive
    _refuse_empty(positive > 0, "relevant item")
    _refuse_empty(negative > 0, "item that is not relevant")
    rising = (
        (np.diff(scores) >= 0) | (np.diff(user) > 0)
    ).all()  # ascending scores need no sorting
    order = np.arange(len(scores)) if rising else np.lexsort((scores, user))
    begins = np.ones(len(order), bool)  # starts of runs of equal scores
    begins[1:] = (np.diff(scores[order]) != 0) | (np.diff(user[order]) != 0)
    run, first = np.cumsum(begins) - 1, np.flatnonzero(begins)
    middle = (first + np.append(first[1:], len(order)) - 1) / 2  # mean rank from 0, over all users
    ranks = np.empty(len(order))
    ranks[order] = middle[run] + 1 - offsets[:-1][user[order]]
    below = _sums(np.where(relevant, ranks, 0), offsets) - positive * (positive + 1) / 2
    return below / (positive * negative)


def _sums(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Sum per user, f64[U], also for users without items; not by differences of running totals,
    which would round."""
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return np.bincount(user, np.asarray(values, np.float64), minlength=len(offsets) - 1)


def _user_of(offsets: np.ndarray, size: int, what: str) -> np.ndarray:
    """i64[R]: the user of each item. Raises ValueError for offsets that do not fit."""
    if len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != size or (np.diff(offsets) < 0).any():
        raise ValueError(
            f"offsets must rise from 0 to the number of items; there is one {what} for each of "
            f"{size} items, but offsets run from {offsets[:1]} to {offsets[-1:]}"
        )
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _refuse_empty(good: np.ndarray, what: str) -> None:
    if not good.all():
        raise ValueError(
            f"{int((~good).sum())} of {len(good)} users have no {what} (the first is user "
            f"{int(np.argmin(good))}): leave them out, and report how many"
        )
