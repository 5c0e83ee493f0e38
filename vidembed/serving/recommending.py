"""What an index recommends to many users at a time, by what they watched."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vidembed.serving import given as checked
from vidembed.serving.choosing import Choosing
from vidembed.serving.finding import Finder, Seen
from vidembed.serving.index import Found, Index
from vidembed.serving.recommender import histories_for
from vidembed.serving.user_models import Mean, UserModel
from vidembed.serving.widening import UserBatch, best_of, users_at_once

_log = logging.getLogger(__name__)
USERS_AT_ONCE, WATCHES_AT_ONCE = 1024, 1 << 16


class Watched(NamedTuple):
    """What U users watched, one user after the other, oldest first.

    ids: S[H]; offsets: i64[U + 1]; times: f64[H] in seconds, for forgetting by time.
    """

    ids: np.ndarray
    offsets: np.ndarray
    times: np.ndarray | None = None

    @staticmethod
    def of(histories: Sequence[Any], times: Sequence[Any] | None = None) -> "Watched":
        """Of one list of ids, bytes or text, a user, and one of times."""
        names = [checked.names(history) for history in histories]
        offsets = np.cumsum([0, *map(len, names)])
        seconds = None
        if times is not None:
            lists = [np.asarray(some, np.float64) for some in times]
            if [len(some) for some in lists] != [len(some) for some in names]:
                raise ValueError("times are not as many as the videos: give one for each watch")
            seconds = np.concatenate([np.zeros(0), *lists])
        return Watched(np.concatenate([np.zeros(0, "S1"), *names]), offsets, seconds)

    def part(self, start: int, end: int) -> "Watched":
        """Users from start to end."""
        rows = slice(self.offsets[start], self.offsets[end])
        times = None if self.times is None else self.times[rows]
        return Watched(self.ids[rows], self.offsets[start : end + 1] - self.offsets[start], times)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How users are recommended to. blend: the share of the video being watched."""

    k: int
    model: UserModel = Mean()
    blend: float = 0.5
    choosing: Choosing = Choosing()
    effort: int | None = None


class Recommended(NamedTuple):
    """found: of each user. unknown: ids S[n] of watches that the index lacks, as often as watched.
    without: bool[U], users of whom it knows no video, to whom nothing is recommended."""

    found: Found
    unknown: np.ndarray
    without: np.ndarray


def recommend(
    index: Index,
    watched: Watched,
    asked: Asked,
    *,
    candidates: np.ndarray | None = None,
    current: np.ndarray | None = None,
    current_ids: np.ndarray | None = None,
    users: np.ndarray | None = None,
) -> Recommended:
    """The k best candidates of each user but for what it watched (V − Q), best first.

    candidates: ids S[n] of the index (None: all). current: f32[U, D], what is being watched, and
    its ids S[U], which are not recommended either. users: f32[U, D] in the place of the means of
    the histories, which are then only left out.

    Where the index's engine is exact, every vector is scored. Else `Mean` searches by one vector a
    user, as the engine finds it; other models take as candidates what the engine finds near each
    video of the history and near the current one, and score these exactly.
    """
    if users is not None and not asked.model.one_vector:
        raise ValueError(f"a vector of the user is a mean, and the model is {asked.model}")
    finder = Finder(index, candidates, asked.model, asked.effort)
    fetched = min(asked.choosing.candidates(asked.k), max(1, len(index)))
    at_once = users_at_once(fetched, index.dimension, USERS_AT_ONCE)
    found, unknown, without = [], [np.zeros(0, "S1")], [np.zeros(0, bool)]
    for start, end in _blocks(watched.offsets, at_once):
        some, rows = watched.part(start, end), slice(start, end)
        vectors, there = index.vectors_of(some.ids)
        lengths = np.diff(np.concatenate([[0], np.cumsum(there)])[some.offsets])
        has = lengths > 0 if users is None else np.ones(len(lengths), bool)
        offsets = np.concatenate([[0], np.cumsum(lengths[has])])
        playing = None if current is None else current[rows][has]
        seen = Seen(some.ids[there], offsets)
        if current_ids is not None:
            seen = seen.and_also(current_ids[rows][has])
        if users is None:
            times = None if some.times is None else some.times[there]
            options: dict[str, Any] = {"times": times, "current": playing, "blend": asked.blend}
            given = histories_for(asked.model, vectors, offsets, **options)
        else:
            given = histories_for(
                asked.model,
                users[rows],
                np.arange(len(has) + 1),
                times=np.zeros(len(has)),
                current=playing,
                blend=asked.blend,
            )
        if asked.choosing.chooses and playing is not None:
            vectors = np.insert(vectors, offsets[1:], playing, axis=0)
            offsets = offsets + np.arange(len(offsets))
        batch = UserBatch(given, seen, vectors, offsets)
        best = best_of(index, finder, batch, asked.choosing, asked.k, fetched)
        counts = np.zeros(len(has), np.int64)
        counts[has] = best.counts
        found.append(best._replace(counts=counts))
        unknown.append(some.ids[~there])
        without.append(~has)
    return Recommended(_all(found), np.concatenate(unknown), np.concatenate(without))


def candidates_of(index: Index, within: Any) -> np.ndarray | None:
    """The ids that may be recommended, S[n], of those given; None are all.

    Ids that the index lacks are counted in a warning; ValueError where it has none of them.
    """
    if within is None:
        if not len(index):
            raise ValueError("the index is empty: there is no candidate to recommend")
        return None
    names = checked.names(within)
    there = index.has(names)
    if not there.any():
        raise ValueError(
            f"the index has none of the {len(names):,} ids of `within`: there is no candidate to "
            "recommend"
        )
    if not there.all():
        _log.warning("the index lacks %s of `within`", checked.some(names[~there]))
    return names[there]


def _blocks(offsets: np.ndarray, at_once: int) -> Iterator[tuple[int, int]]:
    """Users from start to end, of not too many watches together unless it is one user."""
    start, users = 0, len(offsets) - 1
    while start < users:
        most = offsets[start] + WATCHES_AT_ONCE
        fitting = int(np.searchsorted(offsets, most, side="right")) - 1
        end = min(max(fitting, start + 1), start + at_once, users)
        yield start, end
        start = end


def _all(found: Sequence[Found]) -> Found:
    none = Found(np.zeros(0, "S1"), np.zeros(0, np.float32), np.zeros(0, np.int64))
    ids, scores, counts = (np.concatenate(parts) for parts in zip(none, *found))
    return Found(ids, scores, counts)
