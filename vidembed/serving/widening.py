"""Choose k results by near-duplicates and diversity; fetch more candidates if too few remain."""

from typing import NamedTuple

import numpy as np

from vidembed.serving.choosing import Choosing
from vidembed.serving.finding import Finder, Seen, ranked_of_each
from vidembed.serving.index import Index, RankedVideos
from vidembed.serving.scoring import Histories

VALUES_AT_ONCE = 1 << 24
"""Maximum number of values in the candidates' vectors: 64 MB, but at least one user's."""
WIDER = 4
"""Factor for fetching more candidates if near-duplicates left fewer than k."""


class UserBatch(NamedTuple):
    """Histories and excluded ids of U users, and the vectors f32[H, D] whose near-duplicates are
    skipped: user u has those from offsets[u] to offsets[u + 1]."""

    given: Histories
    seen: Seen
    vectors: np.ndarray
    offsets: np.ndarray

    def of(self, users: np.ndarray) -> "UserBatch":
        """A subset i64[u] of the users."""
        given, (ids, seen_offsets) = self.given, self.seen
        (queries, query_offsets), (excluded, seen), (near, watched) = (
            _rows(offsets, users) for offsets in (given.offsets, seen_offsets, self.offsets)
        )
        current = None if given.current is None else given.current[users]
        return UserBatch(
            Histories(given.queries[queries], query_offsets, current, given.blend),
            Seen(ids[excluded], seen),
            self.vectors[near],
            watched,
        )


def users_at_once(fetched: int, dimension: int, most: int) -> int:
    """Number of users whose candidates' vectors are in memory at once."""
    return int(np.clip(VALUES_AT_ONCE // max(1, fetched * dimension), 1, most))


def best_of(
    index: Index, finder: Finder, batch: UserBatch, choosing: Choosing, k: int, fetched: int
) -> RankedVideos:
    """The k best of each user, chosen from `fetched` candidates.

    Users left with fewer than k by near-duplicates choose again from four times as many, until they
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
    return ranked_of_each(results)


def _chosen(
    index: Index, candidates: RankedVideos, batch: UserBatch, choosing: Choosing, k: int
) -> RankedVideos:
    """The choice from these candidates."""
    width = int(candidates.counts.max(initial=0))
    line = np.repeat(np.arange(len(candidates.counts)), candidates.counts)
    ends = np.cumsum(candidates.counts)
    column = np.arange(len(candidates.ids)) - np.repeat(ends - candidates.counts, candidates.counts)
    scores = np.full((len(candidates.counts), width), -np.inf, np.float32)
    scores[line, column] = candidates.scores
    near = np.zeros((*scores.shape, index.dimension), np.float32)
    near[line, column] = index.vectors_of(candidates.ids)[0]
    places = choosing.choose(scores, near, k, batch.vectors, batch.offsets)
    rows = ((ends - candidates.counts)[:, None] + places)[places >= 0]
    return RankedVideos(candidates.ids[rows], candidates.scores[rows], (places >= 0).sum(axis=1))


def _rows(offsets: np.ndarray, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows i64[n] of some users of a ragged array, and the offsets of these rows."""
    sizes = offsets[users + 1] - offsets[users]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return np.arange(starts[-1]) + np.repeat(offsets[users] - starts[:-1], sizes), starts
