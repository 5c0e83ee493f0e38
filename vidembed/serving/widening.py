"""The k that near-duplicates and diversity leave of what is found, fetching more where too few."""

from typing import NamedTuple

import numpy as np

from vidembed.serving.choosing import Choosing
from vidembed.serving.finding import Finder, Seen, found_of_each
from vidembed.serving.index import Found, Index
from vidembed.serving.scoring import Histories

VALUES_AT_ONCE = 1 << 24
"""Numbers in the vectors of candidates that are chosen of: 64 MB, unless it is one user's."""
WIDER = 4
"""How many times more candidates are fetched where near-duplicates left fewer than k."""


class UserBatch(NamedTuple):
    """What U users are scored by, what none of them is recommended, and vectors f32[H, D], of user
    u those from offsets[u] to offsets[u + 1], that near-duplicates are left out of."""

    given: Histories
    seen: Seen
    vectors: np.ndarray
    offsets: np.ndarray

    def of(self, users: np.ndarray) -> "UserBatch":
        """Some of the users, i64[u]."""
        given, (ids, of_seen) = self.given, self.seen
        (queries, own), (left_out, seen), (near, watched) = (
            _rows(offsets, users) for offsets in (given.offsets, of_seen, self.offsets)
        )
        current = None if given.current is None else given.current[users]
        return UserBatch(
            Histories(given.queries[queries], own, current, given.blend),
            Seen(ids[left_out], seen),
            self.vectors[near],
            watched,
        )


def users_at_once(fetched: int, dimension: int, most: int) -> int:
    """Users whose candidates' vectors are held together."""
    return int(np.clip(VALUES_AT_ONCE // max(1, fetched * dimension), 1, most))


def best_of(
    index: Index, finder: Finder, batch: UserBatch, choosing: Choosing, k: int, fetched: int
) -> Found:
    """The k best of each user, chosen of so many candidates where it is not by score alone.

    Users that near-duplicates leave fewer than k choose again of four times as many, until they
    have k or the engine finds no more.
    """
    best = finder.find(batch.given, batch.seen, fetched)
    if not choosing.chooses:
        return best
    chosen = _chosen(index, best, batch, choosing, k)
    short = np.flatnonzero((chosen.counts < k) & (best.counts >= fetched))
    if not len(short) or fetched >= len(index):
        return chosen
    wider, results = min(WIDER * fetched, len(index)), list(chosen.each())
    at_once = users_at_once(wider, index.dimension, len(short))
    for start in range(0, len(short), at_once):
        users = short[start : start + at_once]
        again = best_of(index, finder, batch.of(users), choosing, k, wider)
        for user, result in zip(users.tolist(), again.each()):
            results[user] = result
    return found_of_each(results)


def _chosen(index: Index, found: Found, batch: UserBatch, choosing: Choosing, k: int) -> Found:
    """What is chosen of the candidates found."""
    width = int(found.counts.max(initial=0))
    line = np.repeat(np.arange(len(found.counts)), found.counts)
    ends = np.cumsum(found.counts)
    column = np.arange(len(found.ids)) - np.repeat(ends - found.counts, found.counts)
    scores = np.full((len(found.counts), width), -np.inf, np.float32)
    scores[line, column] = found.scores
    near = np.zeros((*scores.shape, index.dimension), np.float32)
    near[line, column] = index.vectors_of(found.ids)[0]
    places = choosing.choose(scores, near, k, batch.vectors, batch.offsets)
    rows = ((ends - found.counts)[:, None] + places)[places >= 0]
    return Found(found.ids[rows], found.scores[rows], (places >= 0).sum(axis=1))


def _rows(offsets: np.ndarray, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows i64[n] of some users of a ragged array, and the offsets of these alone."""
    sizes = offsets[users + 1] - offsets[users]
    own = np.concatenate([[0], np.cumsum(sizes)])
    return np.arange(own[-1]) + np.repeat(offsets[users] - own[:-1], sizes), own
