"""The parts of an index, segments and which of their rows are there, looked up and searched."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from vidembed.serving.exact import Exact
from vidembed.serving.segment import Engine, Segment, top

Part = tuple[Segment, np.ndarray]
"""A segment, and bool[its rows]: what was not removed."""


class Found(NamedTuple):
    """What Q queries found, one after the other: a query that found fewer than k has fewer rows.

    ids: S[R]; scores: f32[R], best first within a query; counts: i64[Q], whose sum is R.
    """

    ids: np.ndarray
    scores: np.ndarray
    counts: np.ndarray

    def each(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ids and scores of one query after the other."""
        ends = np.cumsum(self.counts)
        for start, end in zip(ends - self.counts, ends):
            yield self.ids[start:end], self.scores[start:end]


def find(parts: Sequence[Part], ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(part i64[n], row i64[n]) of each id S[n]; −1 twice where there is none."""
    part, row = np.full(len(ids), -1), np.full(len(ids), -1)
    for number, (segment, there) in enumerate(parts):
        rows = segment.find(ids)
        mine = (rows >= 0) & there[rows]
        part[mine], row[mine] = number, rows[mine]
    return part, row


def only(parts: Sequence[Part], part: np.ndarray, row: np.ndarray) -> list[Part]:
    """The same parts with no rows but those that `find` found."""
    less = []
    for number, (segment, there) in enumerate(parts):
        mask = np.zeros(len(there), bool)
        mask[row[part == number]] = True
        less.append((segment, mask))
    return less


def search(parts: Sequence[Part], queries: np.ndarray, k: int, engine: Engine) -> Found:
    """The k nearest of queries f32[Q, D]; of equal scores the earlier row comes first.

    Flat segments are searched exactly, the others by `engine`.
    """

    def nearest(_: int, segment: Segment, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        means = Exact() if segment.blocks.header["flat"] else engine
        return means.search(segment, queries, min(k, len(segment)), there)

    return joined(parts, len(queries), k, nearest)


def joined(
    parts: Sequence[Part],
    queries: int,
    k: int,
    nearest: Callable[[int, Segment, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> Found:
    """The k best of all parts, of the best of each that has rows: nearest(number, segment, bool[its
    rows]) → (scores f32[Q, m], rows i64[Q, m]), best first, −inf where there are no more."""
    scores, where, firsts, first = [np.zeros((queries, 0), np.float32)], [], [], 0
    for number, (segment, there) in enumerate(parts):
        firsts.append(first)
        if queries and there.any():
            best, rows = nearest(number, segment, there)
            scores.append(best)
            where.append(first + rows)
        first += len(segment)
    rows = np.concatenate([np.zeros((queries, 0), np.int64), *where], axis=1)
    best, rows = top(np.concatenate(scores, axis=1), rows, k)
    found = best > -np.inf
    return Found(_ids(parts, firsts, rows[found]), best[found], found.sum(axis=1))


def without(found: Found, left_out: Sequence[Any], k: int) -> Found:
    """The first k of each query but for ids that are left out of it, one or several a query."""
    kept = []
    for (ids, _), names in zip(found.each(), left_out):
        wanted = ~np.isin(ids, names)
        kept.append(wanted & (np.cumsum(wanted) <= k))
    chosen = np.concatenate([np.zeros(0, np.bool_), *kept])
    counts = np.array([mask.sum() for mask in kept], np.int64)
    return Found(found.ids[chosen], found.scores[chosen], counts)


def _ids(parts: Sequence[Part], firsts: Sequence[int], rows: np.ndarray) -> np.ndarray:
    """Ids of rows i64[R] that are counted through all parts, each of which begins at a first."""
    width = max((segment.ids.dtype.itemsize for segment, _ in parts), default=1)
    ids = np.zeros(len(rows), f"S{width}")
    for (segment, _), first in zip(parts, firsts):
        mine = (rows >= first) & (rows < first + len(segment))
        ids[mine] = segment.ids[rows[mine] - first]
    return ids
