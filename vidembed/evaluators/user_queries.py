"""Users as queries: their histories, their test items, and the candidates.

Interactions are split into known ones, from which histories are made and systems learn, and test
ones.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from vidembed.corpora.ratings import Ratings

Split = Literal["half", "given", "temporal"]
Gain = Literal["graded", "binary"]


@dataclass(frozen=True, kw_only=True, eq=False)
class UserQueries:
    """U measured users, on a table of N items."""

    ids: np.ndarray
    """S[U]."""
    user: np.ndarray
    """i64[U], positions in `known.users`."""
    history: np.ndarray
    """i64[H], items that represent the user: known ones with a high enough rating, oldest first."""
    times: np.ndarray | None
    """f64[H], times of the history in seconds."""
    offsets: np.ndarray
    """i64[U+1], offsets into `history`."""
    test: np.ndarray
    """i64[T], test items that are candidates, ascending within a user."""
    test_offsets: np.ndarray
    """i64[U+1], offsets into `test`."""
    gain: np.ndarray
    """f32[T], gains for NDCG."""
    relevant: np.ndarray
    """bool[T], items that count for recall, MAP and AUC."""
    candidates: np.ndarray | None
    """bool[N], items that may be recommended, except those known to the user; None if each user's
    own test items are ranked."""
    known: Ratings
    """Known interactions of all users, measured or not, to learn from."""
    popularity: np.ndarray
    """i64[N], known interactions of each item; for cold items, which have none, their test
    interactions: an oracle."""
    first_watched: np.ndarray | None = None
    """f64[N], time in seconds when each item was first watched, in the test or before; NaN if
    unknown; None without times."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason → number of users or test interactions left out for it."""

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, users: np.ndarray) -> "UserQueries":
        """A subset bool[U] of the users, with the same known interactions."""
        history, test = (np.repeat(users, np.diff(o)) for o in (self.offsets, self.test_offsets))
        return UserQueries(
            ids=self.ids[users],
            user=self.user[users],
            history=self.history[history],
            times=None if self.times is None else self.times[history],
            offsets=offsets_of(np.diff(self.offsets)[users]),
            test=self.test[test],
            test_offsets=offsets_of(np.diff(self.test_offsets)[users]),
            gain=self.gain[test],
            relevant=self.relevant[test],
            candidates=self.candidates,
            known=self.known,
            popularity=self.popularity,
            first_watched=self.first_watched,
            left_out=self.left_out,
        )


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How interactions are split, and which users are measured."""

    split: Split = "half"
    """Known interactions with warm items: a random half of each user's (CDML, table 4), `given`
    of them (table 5), or those before one moment for all users (`temporal`). With cold items, none
    of their interactions are known and all others are."""
    given: int = 10
    """Known interactions of each user with --split given."""
    before: float = 0.8
    """Share of all interactions before the moment of --split temporal."""
    history_from: float = 0.0
    """Minimum rating of a known item to be in the history."""
    above_mean: bool = False
    """Instead, keep known items rated above the mean of the user's known ratings."""
    relevant_from: float = 4.0
    """Minimum rating of a relevant test item; without ratings all are relevant."""
    gain: Gain = "graded"
    """NDCG counts 2^rating − 1 of each test item, or 1 of each relevant one."""
    own: bool = False
    """Rank only the user's own test items instead of all candidates."""
    least_history: int = 1
    """Users with a shorter history are left out."""
    least_test: int = 1
    """Users with fewer test items are left out."""
    least_relevant: int = 1
    """Users with fewer relevant test items are left out."""
    seed: int = 0
    """Seed of the split."""

    def __post_init__(self) -> None:
        least = self.given, self.least_history, self.least_test, self.least_relevant
        if min(least) < 1:
            raise ValueError(f"given and every least_* must be 1 or more, found {least}")
        if not 0 < self.before < 1:
            raise ValueError(f"before must be between 0 and 1, found {self.before}")

    def ask(self, ratings: Ratings, cold: np.ndarray | None = None) -> UserQueries:
        """The measured users of ratings whose items are rows of a table (`Ratings.on`).

        cold: bool[N], items that nothing was learned from; they are then the test items. None: warm
        items are, by the split. Raises ValueError if no user can be measured.
        """
        known = self._known(ratings) if cold is None else ~cold[ratings.item]
        users, items = len(ratings.users), len(ratings.items)
        counts = np.bincount(ratings.item[known], minlength=items)
        left_out: dict[str, int] = {}
        in_test = ~known
        candidates = None
        if not self.own:
            candidates = (counts > 0) if cold is None else cold
            lacking = in_test & ~candidates[ratings.item]
            left_out["test items nobody is known to have watched"] = int(lacking.sum())
            in_test &= ~lacking
        if cold is not None:
            counts = np.where(cold, np.bincount(ratings.item[in_test], minlength=items), counts)
        if not in_test.any() or (candidates is not None and not candidates.any()):
            raise ValueError(
                f"there is nothing to recommend: {int(known.sum()):,} interactions are known, "
                f"{int(in_test.sum()):,} are test interactions, and "
                f"{0 if candidates is None else int(candidates.sum()):,} items are candidates. "
                "Do the ratings belong to this table, and is this the right split?"
            )
        liked = known & self._high(ratings, known)
        relevant = in_test & (~np.bool_(ratings.explicit) | (ratings.value >= self.relevant_from))
        size = {
            what: np.bincount(ratings.user[rows], minlength=users)
            for what, rows in (("seen", known), ("history", liked), ("test", in_test))
        }
        right = np.bincount(ratings.user[relevant], minlength=users)
        gains = relevant if self.gain == "binary" else in_test & (ratings.value > 0)
        gaining = np.bincount(ratings.user[gains], minlength=users)
        measured = np.ones(users, bool)
        reasons = {
            "users without enough history": size["history"] < self.least_history,
            "users without enough test items": size["test"] < self.least_test,
            "users without a relevant test item": right < self.least_relevant,
            "users whose test items are all rated 0, which NDCG counts as nothing": gaining < 1,
        }
        if candidates is not None:
            seen = np.bincount(ratings.user[known & candidates[ratings.item]], minlength=users)
            irrelevant = int(candidates.sum()) - seen - right
            reasons["users to whom every candidate is relevant"] = irrelevant < 1
        for reason, failing in reasons.items():
            left_out[reason] = int((measured & failing).sum())
            measured &= ~failing
        left_out = {reason: count for reason, count in left_out.items() if count}
        if not measured.any():
            raise ValueError(f"none of {users:,} users can be measured: {left_out}")
        history = liked & measured[ratings.user]
        oldest = np.flatnonzero(history)
        if ratings.time is not None:
            oldest = oldest[np.lexsort((ratings.time[oldest], ratings.user[oldest]))]
        tested = np.flatnonzero(in_test & measured[ratings.user])
        tested = tested[np.lexsort((ratings.item[tested], ratings.user[tested]))]
        graded = np.exp2(ratings.value[tested]) - 1
        return UserQueries(
            ids=ratings.users[measured],
            user=np.flatnonzero(measured),
            history=ratings.item[oldest],
            times=None if ratings.time is None else ratings.time[oldest],
            offsets=offsets_of(size["history"][measured]),
            test=ratings.item[tested],
            test_offsets=offsets_of(size["test"][measured]),
            gain=graded if self.gain == "graded" else relevant[tested].astype(np.float32),
            relevant=relevant[tested],
            candidates=candidates,
            known=ratings.of(known),
            popularity=counts,
            first_watched=_first_watched(ratings),
            left_out=left_out,
        )

    def _known(self, ratings: Ratings) -> np.ndarray:
        if self.split == "temporal":
            if ratings.time is None or np.isnan(ratings.time).any():
                untimed = (
                    len(ratings) if ratings.time is None else int(np.isnan(ratings.time).sum())
                )
                raise ValueError(
                    f"{untimed:,} of {len(ratings):,} interactions have no timestamp: a "
                    "temporal split needs all of them; choose --split half"
                )
            return ratings.time <= np.quantile(ratings.time, self.before, method="lower")
        chance = np.random.default_rng(self.seed).random(len(ratings))
        order = np.lexsort((chance, ratings.user))
        place = np.empty(len(ratings), np.int64)
        place[order] = np.arange(len(ratings)) - ratings.offsets[ratings.user[order]]
        each = np.diff(ratings.offsets)
        return place < (self.given if self.split == "given" else (each - each // 2)[ratings.user])

    def _high(self, ratings: Ratings, known: np.ndarray) -> np.ndarray:
        """bool[R]: rated high enough for a history."""
        if not ratings.explicit:
            return np.ones(len(ratings), bool)
        if not self.above_mean:
            return ratings.value >= self.history_from
        user, users = ratings.user[known], len(ratings.users)
        count = np.bincount(user, minlength=users)
        mean = np.bincount(user, ratings.value[known], minlength=users) / np.maximum(count, 1)
        return ratings.value > mean[ratings.user]


def _first_watched(ratings: Ratings) -> np.ndarray | None:
    if ratings.time is None:
        return None
    seconds = np.full(len(ratings.items), np.nan)
    np.fmin.at(seconds, ratings.item, ratings.time)
    return seconds


def offsets_of(counts: np.ndarray) -> np.ndarray:
    """i64[U+1]: offsets of consecutive parts of these sizes."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
