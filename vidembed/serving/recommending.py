"""Recommend from an index to many users at once, by their watch histories."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vidembed.serving import given as checked
from vidembed.serving.choosing import Choosing
from vidembed.serving.finding import Finder, Seen
from vidembed.serving.index import Index, RankedVideos
from vidembed.serving.recommender import histories_for
from vidembed.serving.user_models import Mean, UserModel
from vidembed.serving.widening import UserBatch, best_of, users_at_once

_log = logging.getLogger(__name__)
USERS_AT_ONCE, WATCHES_AT_ONCE = 1024, 1 << 16


class Watched(NamedTuple):
    """Watch histories of U users, concatenated over users, oldest first.

    ids: S[H]; offsets: i64[U + 1]; times: f64[H] in seconds, for forgetting by time.
    """

    ids: np.ndarray
    offsets: np.ndarray
    times: np.ndarray | None = None

    @staticmethod
    def of(histories: Sequence[Any], times: Sequence[Any] | None = None) -> "Watched":
        """From one list of ids (bytes or text) per user, and optionally one list of times."""
        names = [checked.names(history) for history in histories]
        offsets = np.cumsum([0, *map(len, names)])
        seconds = None
        if times is not None:
            lists = [np.asarray(each, np.float64) for each in times]
            if [len(each) for each in lists] != [len(each) for each in names]:
                raise ValueError("times and videos differ in number: give one for each watch")
            seconds = np.concatenate([np.zeros(0), *lists])
        return Watched(np.concatenate([np.zeros(0, "S1"), *names]), offsets, seconds)

    def part(self, start: int, end: int) -> "Watched":
        """The users from start to end."""
        rows = slice(self.offsets[start], self.offsets[end])
        times = None if self.times is None else self.times[rows]
        return Watched(self.ids[rows], self.offsets[start : end + 1] - self.offsets[start], times)


@dataclass(frozen=True, kw_only=True)
class RecommendOptions:
    """How to recommend. k: videos per user. model: scores videos by a history. blend: the weight of
    the video being watched. effort: replaces the engine's, see `Index.search`."""

    k: int
    model: UserModel = Mean()
    blend: float = 0.5
    choosing: Choosing = Choosing()
    effort: int | None = None


class Recommended(NamedTuple):
    """ranked: the videos for each user. unknown: ids S[n] of watches that the index lacks,
    with repeats. without: bool[U], users without any video in the index, who get nothing."""

    ranked: RankedVideos
    unknown: np.ndarray
    without: np.ndarray


def recommend(
    index: Index,
    watched: Watched,
    options: RecommendOptions,
    *,
    candidates: np.ndarray | None = None,
    current: np.ndarray | None = None,
    current_ids: np.ndarray | None = None,
    users: np.ndarray | None = None,
) -> Recommended:
    """The k best candidates of each user that the user has not watched (V − Q), best first.

    candidates: ids S[n] of the index (None: all). current: f32[U, D], the videos being watched, and
    current_ids S[U], which are not recommended either. users: f32[U, D], replaces the means of the
    histories, which are then only excluded.

    If the index's engine is exact, every vector is scored. Otherwise, `Mean` searches with one
    vector per user; other models take as candidates the engine's results near each video of the
    history and near the current one, and score these exactly.
    """
    if users is not None and not options.model.one_vector:
        raise ValueError(
            f"a user vector is a mean, but the user model is {options.model}: use Mean"
        )
    finder = Finder(index, candidates, options.model, options.effort)
    fetched = min(options.choosing.candidates(options.k), max(1, len(index)))
    at_once = users_at_once(fetched, index.dimension, USERS_AT_ONCE)
    results, unknown, without = [], [np.zeros(0, "S1")], [np.zeros(0, bool)]
    for start, end in _blocks(watched.offsets, at_once):
        part, rows = watched.part(start, end), slice(start, end)
        vectors, known = index.vectors_of(part.ids)
        lengths = np.diff(np.concatenate([[0], np.cumsum(known)])[part.offsets])
        has = lengths > 0 if users is None else np.ones(len(lengths), bool)
        offsets = np.concatenate([[0], np.cumsum(lengths[has])])
        playing = None if current is None else current[rows][has]
        seen = Seen(part.ids[known], offsets)
        if current_ids is not None:
            seen = seen.and_also(current_ids[rows][has])
        if users is None:
            times = None if part.times is None else part.times[known]
            given = histories_for(
                options.model, vectors, offsets, times=times, current=playing, blend=options.blend
            )
        else:
            given = histories_for(
                options.model,
                users[rows],
                np.arange(len(has) + 1),
                times=np.zeros(len(has)),
                current=playing,
                blend=options.blend,
            )
        if options.choosing.chooses and playing is not None:
            vectors = np.insert(vectors, offsets[1:], playing, axis=0)
            offsets = offsets + np.arange(len(offsets))
        batch = UserBatch(given, seen, vectors, offsets)
        best = best_of(index, finder, batch, options.choosing, options.k, fetched)
        counts = np.zeros(len(has), np.int64)
        counts[has] = best.counts
        results.append(best._replace(counts=counts))
        unknown.append(part.ids[~known])
        without.append(~has)
    return Recommended(_all(results), np.concatenate(unknown), np.concatenate(without))


def candidates_of(index: Index, within: Any) -> np.ndarray | None:
    """The ids of `within` that the index has, S[n]; None for all.

    Warns about ids that the index lacks; ValueError if it has none of them.
    """
    if within is None:
        if not len(index):
            raise ValueError("the index is empty, so nothing can be recommended")
        return None
    names = checked.names(within)
    indexed = index.has(names)
    if not indexed.any():
        raise ValueError(
            f"the index has none of the {len(names):,} ids of `within`, so nothing can be "
            "recommended"
        )
    if not indexed.all():
        _log.warning("the index lacks %s of `within`", checked.some(names[~indexed]))
    return names[indexed]


def _blocks(offsets: np.ndarray, at_once: int) -> Iterator[tuple[int, int]]:
    """Ranges of users with a limited number of watches in all, or a single user."""
    start, users = 0, len(offsets) - 1
    while start < users:
        most = offsets[start] + WATCHES_AT_ONCE
        fitting = int(np.searchsorted(offsets, most, side="right")) - 1
        end = min(max(fitting, start + 1), start + at_once, users)
        yield start, end
        start = end


def _all(results: Sequence[RankedVideos]) -> RankedVideos:
    empty = RankedVideos(np.zeros(0, "S1"), np.zeros(0, np.float32), np.zeros(0, np.int64))
    ids, scores, counts = (np.concatenate(parts) for parts in zip(empty, *results))
    return RankedVideos(ids, scores, counts)
