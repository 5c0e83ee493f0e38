"""Look up and search the parts of an index: segments, and which of their rows are present."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from vidembed.serving.exact import Exact
from vidembed.serving.segment import Engine, Segment, top

Part = tuple[Segment, np.ndarray]
"""A segment, and which of its rows were not removed, bool[rows]."""


class RankedVideos(NamedTuple):
    """The best videos for each of Q queries or users, one query after another.

    ids: S[R]; scores: f32[R], best first within a query; counts: i64[Q], videos per query (fewer
    than k if no more qualify), with sum R.
    """

    ids: np.ndarray
    scores: np.ndarray
    counts: np.ndarray

    def each(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield ids and scores of each query."""
        ends = np.cumsum(self.counts)
        for start, end in zip(ends - self.counts, ends):
            yield self.ids[start:end], self.scores[start:end]


def find(parts: Sequence[Part], ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Part i64[n] and row i64[n] of each id S[n]; both −1 if the id is absent."""
    part, row = np.full(len(ids), -1), np.full(len(ids), -1)
    for number, (segment, present) in enumerate(parts):
        rows = segment.find(ids)
        in_segment = (rows >= 0) & present[rows]
        part[in_segment], row[in_segment] = number, rows[in_segment]
    return part, row


def only(parts: Sequence[Part], part: np.ndarray, row: np.ndarray) -> list[Part]:
    """Restrict parts to the rows returned by `find`."""
    restricted = []
    for number, (segment, present) in enumerate(parts):
        mask = np.zeros(len(present), bool)
        mask[row[part == number]] = True
        restricted.append((segment, mask))
    return restricted


def search(parts: Sequence[Part], queries: np.ndarray, k: int, engine: Engine) -> RankedVideos:
    """Find the k nearest vectors of queries f32[Q, D]; ties go to the earlier row.

    Flat segments are searched exactly, the others by `engine`.
    """

    def nearest(_: int, segment: Segment, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        searcher = Exact() if segment.blocks.header["flat"] else engine
        return searcher.search(segment, queries, min(k, len(segment)), present)

    return joined(parts, len(queries), k, nearest)


def joined(
    parts: Sequence[Part],
    queries: int,
    k: int,
    nearest: Callable[[int, Segment, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> RankedVideos:
    """Combine the best of each part into the k best of all.

    nearest(number, segment, bool[rows]) → (scores f32[Q, m], rows i64[Q, m]), best first, −inf if
    there are no more; called for each part with present rows.
    """
    scores, numbered, firsts, first = [np.zeros((queries, 0), np.float32)], [], [], 0
    for number, (segment, present) in enumerate(parts):
        firsts.append(first)
        if queries and present.any():
            best, rows = nearest(number, segment, present)
            scores.append(best)
            numbered.append(first + rows)
        first += len(segment)
    rows = np.concatenate([np.zeros((queries, 0), np.int64), *numbered], axis=1)
    best, rows = top(np.concatenate(scores, axis=1), rows, k)
    exists = best > -np.inf
    return RankedVideos(_ids(parts, firsts, rows[exists]), best[exists], exists.sum(axis=1))


def without(ranked: RankedVideos, left_out: Sequence[Any], k: int) -> RankedVideos:
    """The first k videos of each query, without its ids in `left_out` (one or several)."""
    masks = []
    for (ids, _), names in zip(ranked.each(), left_out):
        is_kept = ~np.isin(ids, names)
        masks.append(is_kept & (np.cumsum(is_kept) <= k))
    chosen = np.concatenate([np.zeros(0, np.bool_), *masks])
    counts = np.array([mask.sum() for mask in masks], np.int64)
    return RankedVideos(ranked.ids[chosen], ranked.scores[chosen], counts)


def _ids(parts: Sequence[Part], firsts: Sequence[int], rows: np.ndarray) -> np.ndarray:
    """Ids S[R] of rows i64[R] numbered through all parts; part i starts at firsts[i]."""
    width = max((segment.ids.dtype.itemsize for segment, _ in parts), default=1)
    ids = np.zeros(len(rows), f"S{width}")
    for (segment, _), first in zip(parts, firsts):
        in_part = (rows >= first) & (rows < first + len(segment))
        ids[in_part] = segment.ids[rows[in_part] - first]
    return ids
