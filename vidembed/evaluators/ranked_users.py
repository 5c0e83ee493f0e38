"""Ranking metrics of users, computed from a system's item scores in blocks of users.

All candidates are ranked, never a sample: sampled metrics order systems differently from exact ones
(Krichene and Rendle 2020). Ties go to the item with the smaller row.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vidembed.evaluators.user_queries import UserQueries, offsets_of
from vidembed.metrics import graded
from vidembed.records.scores_file import PerQuery

Blocks = Iterable[tuple[np.ndarray, np.ndarray]]
"""Positions of users i64[b] in the queries, with their scores for all items f32[b, N]."""
POPULAR = 0.1
"""Share of the candidates that counts as popular: those with the most interactions."""


class Measured(NamedTuple):
    """Metrics of one system."""

    per_user: PerQuery
    per_item: PerQuery
    """For each item that is relevant to a user, means over these users: `recall@10`, how often it
    is in the top 10, and `discount`, 1 / log2(rank + 1)."""
    coverage: dict[str, float]
    """`coverage@10`: share of the candidates in the top 10 of at least one user."""


class _Lists(NamedTuple):
    """Ranked lists, best first, concatenated user by user."""

    offsets: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    gain: np.ndarray
    relevant: np.ndarray


def measure(
    blocks: Blocks, queries: UserQueries, *, ks: Sequence[int], ids: np.ndarray
) -> Measured:
    """Metrics of each user for the scores of one system; ids: S[N] of the items.

    `ndcg@k`, `recall@k` (of all relevant candidates), `map` (average precision over the whole
    ranking, of all relevant candidates), `popular@k` (share of popular items in the top k), and, if
    all candidates are ranked, `auc`. Items that are not candidates, such as test items that the
    table lacks, are in no denominator; `UserQueries.left_out` and `Ratings.notes` count them.
    Raises ValueError for scores that are not finite and for users without scores.
    """
    popular, pool = _popular(queries)
    names = [f"{name}@{k}" for k in ks for name in ("ndcg", "recall", "popular")] + ["map"]
    names += [] if queries.candidates is None else ["auc"]
    values = {name: np.full(len(queries), np.nan) for name in names}
    reached = {k: np.zeros(len(popular), bool) for k in ks}
    sums = {name: np.zeros(len(popular)) for name in ("", "discount", *(f"recall@{k}" for k in ks))}
    for users, scores in blocks:
        lists = _lists(users, np.asarray(scores), queries)
        sizes = np.diff(lists.offsets)
        rank = np.arange(1, len(lists.items) + 1) - np.repeat(lists.offsets[:-1], sizes)
        metrics = {"map": graded.average_precision(lists.relevant, lists.offsets)}
        if queries.candidates is not None:
            # Scores are descending, so their negatives ascend and need no sorting.
            metrics["auc"] = 1 - graded.auc(-lists.scores, lists.relevant, lists.offsets)
        user = np.repeat(np.arange(len(users)), sizes)
        right = lists.relevant
        for k in ks:
            top = rank <= k
            metrics[f"ndcg@{k}"] = graded.ndcg(lists.gain, lists.offsets, k)
            hits = np.bincount(user[top & right], minlength=len(users))
            metrics[f"recall@{k}"] = hits / np.bincount(user[right], minlength=len(users))
            shown = np.bincount(user[top & popular[lists.items]], minlength=len(users))
            metrics[f"popular@{k}"] = shown / np.minimum(sizes, k)
            reached[k][lists.items[top]] = True
            sums[f"recall@{k}"] += np.bincount(lists.items[right & top], minlength=len(popular))
        weights = 1 / np.log2(rank[right] + 1.0)
        sums["discount"] += np.bincount(lists.items[right], weights, minlength=len(popular))
        sums[""] += np.bincount(lists.items[right], minlength=len(popular))
        for name, part in metrics.items():
            values[name][users] = part
    if unscored := int(np.isnan(values["map"]).sum()):
        raise ValueError(f"{unscored:,} of {len(queries):,} users have no scores")
    count = sums.pop("")
    items = np.flatnonzero(count)
    return Measured(
        PerQuery(ids=queries.ids, values=values),
        PerQuery(ids=ids[items], values={n: s[items] / count[items] for n, s in sums.items()}),
        {f"coverage@{k}": float(reached[k].sum() / pool) for k in ks},
    )


def in_blocks(users: int, scores_at_once: int, items: int) -> Iterator[np.ndarray]:
    """Positions of users i64[b], in blocks of at most `scores_at_once` scores."""
    size = max(1, scores_at_once // max(1, items))
    for start in range(0, users, size):
        yield np.arange(start, min(start + size, users))


def _lists(users: np.ndarray, scores: np.ndarray, queries: UserQueries) -> _Lists:
    row, places = ragged(queries.test_offsets, users)
    test, gain, relevant = (a[places] for a in (queries.test, queries.gain, queries.relevant))
    if queries.candidates is None:
        test_scores, offsets = scores[row, test], offsets_of(np.bincount(row, minlength=len(users)))
        _refuse_unfinite(test_scores)
        order = graded.best_first(test_scores, offsets)
        return _Lists(offsets, test[order], test_scores[order], gain[order], relevant[order])
    candidates = np.flatnonzero(queries.candidates)
    column = np.cumsum(queries.candidates) - 1
    scores = scores[:, candidates].astype(np.float32)
    _refuse_unfinite(scores)
    known = queries.known
    seen_row, seen = ragged(known.offsets, queries.user[users])
    seen = known.item[seen]
    inside = queries.candidates[seen]
    scores[seen_row[inside], column[seen[inside]]] = -np.inf
    gains = np.zeros(scores.shape, np.float32)
    rights = np.zeros(scores.shape, bool)
    gains[row, column[test]], rights[row, column[test]] = gain, relevant
    order = np.argsort(-scores, axis=1, kind="stable")
    scores = np.take_along_axis(scores, order, axis=1)
    ranked = scores > -np.inf
    return _Lists(
        offsets_of(ranked.sum(axis=1)),
        candidates[order[ranked]],
        scores[ranked],
        np.take_along_axis(gains, order, axis=1)[ranked],
        np.take_along_axis(rights, order, axis=1)[ranked],
    )


def ragged(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All entries of some rows of a ragged array: position of the row in `rows`, and position of
    the entry, both i64[n]."""
    sizes = offsets[rows + 1] - offsets[rows]
    row = np.repeat(np.arange(len(rows)), sizes)
    return row, np.arange(len(row)) - offsets_of(sizes)[:-1][row] + offsets[rows][row]


def _popular(queries: UserQueries) -> tuple[np.ndarray, int]:
    """Popular items bool[N], and the number of candidates."""
    pool = queries.candidates
    if pool is None:
        pool = np.zeros(len(queries.popularity), bool)
        pool[queries.test] = True
    rows = np.flatnonzero(pool)
    most = rows[np.argsort(-queries.popularity[rows], kind="stable")][: round(POPULAR * len(rows))]
    popular = np.zeros(len(pool), bool)
    popular[most] = True
    return popular, len(rows)


def _refuse_unfinite(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        raise ValueError(
            f"{int((~np.isfinite(scores)).sum()):,} scores are not finite, so no metric can be "
            "computed; check the vectors of these items"
        )
