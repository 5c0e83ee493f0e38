"""Users as queries: what each watched, what is asked for, and what may be recommended.

The interactions of ratings are divided into those that are known, which histories and everything
that learns from ratings are made of, and those of the test.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from vidembed.corpora.ratings import Ratings

Split = Literal["half", "given", "temporal"]
Gain = Literal["graded", "binary"]


@dataclass(frozen=True, kw_only=True, eq=False)
class UserQueries:
    """U users who are measured, on a table of N items."""

    ids: np.ndarray
    """S[U]."""
    user: np.ndarray
    """i64[U], number in `known.users`."""
    history: np.ndarray
    """i64[H], items that stand for the user: known ones, rated high enough, oldest first."""
    times: np.ndarray | None
    """f64[H], when, in seconds."""
    offsets: np.ndarray
    """i64[U+1], into `history`."""
    test: np.ndarray
    """i64[T], items of the test, ascending within a user; those that are no candidate are gone."""
    test_offsets: np.ndarray
    """i64[U+1], into `test`."""
    gain: np.ndarray
    """f32[T], what NDCG counts."""
    relevant: np.ndarray
    """bool[T], what recall, MAP and AUC count."""
    candidates: np.ndarray | None
    """bool[N], what may be recommended, but for what the user is known to have watched; None where
    each user's own test items are ranked."""
    known: Ratings
    """What may be learned from, of all users, measured or not."""
    popularity: np.ndarray
    """i64[N], known interactions of each item; of cold items, which have none, those of the test:
    an oracle."""
    first_watched: np.ndarray | None = None
    """f64[N], seconds, when each item was first watched by anybody, in the test or before, NaN
    where that is not known; None without times."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason → users or test interactions that are not measured for it."""

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, users: np.ndarray) -> "UserQueries":
        """Some of the users, bool[U]; what is known stays."""
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
    """How interactions are divided, and which users count."""

    split: Split = "half"
    """Warm items: half of each user's interactions by chance (CDML, table 4), `given` of them
    (table 5), or those before one moment for all users (`temporal`) are known. Of cold items none
    is known, and of the others all are."""
    given: int = 10
    """Known interactions of each user with --split given."""
    before: float = 0.8
    """Share of all interactions that come before the moment of --split temporal."""
    history_from: float = 0.0
    """A known item is part of a history if it is rated so high."""
    above_mean: bool = False
    """Or if it is rated higher than the mean of what the user is known to have rated."""
    relevant_from: float = 4.0
    """A test item is relevant if it is rated so high; without ratings all are."""
    gain: Gain = "graded"
    """NDCG counts 2^rating − 1 of each test item, or 1 of each relevant one."""
    own: bool = False
    """Rank the user's own test items instead of everything that may be recommended."""
    least_history: int = 1
    """Users with a shorter history are left out."""
    least_test: int = 1
    """Users with fewer test items are left out."""
    least_relevant: int = 1
    """Users with fewer relevant test items are left out."""
    seed: int = 0
    """Of the split."""

    def __post_init__(self) -> None:
        least = self.given, self.least_history, self.least_test, self.least_relevant
        if min(least) < 1:
            raise ValueError(f"given and the least of each are 1 or more, found {least}")
        if not 0 < self.before < 1:
            raise ValueError(f"before is a share between 0 and 1, found {self.before}")

    def ask(self, ratings: Ratings, cold: np.ndarray | None = None) -> UserQueries:
        """The users of ratings whose items are rows of a table (`Ratings.on`).

        cold: bool[N], items that nothing was learned from; they are then all that is asked for.
        None: warm items are asked for, by the split. Raises ValueError where nobody is left.
        """
        known = self._known(ratings) if cold is None else ~cold[ratings.item]
        users, items = len(ratings.users), len(ratings.items)
        counts = np.bincount(ratings.item[known], minlength=items)
        out: dict[str, int] = {}
        asked = ~known
        candidates = None
        if not self.own:
            candidates = (counts > 0) if cold is None else cold
            lacking = asked & ~candidates[ratings.item]
            out["test items nobody is known to have watched"] = int(lacking.sum())
            asked &= ~lacking
        if cold is not None:
            counts = np.where(cold, np.bincount(ratings.item[asked], minlength=items), counts)
        if not asked.any() or (candidates is not None and not candidates.any()):
            raise ValueError(
                f"there is nothing to recommend: {int(known.sum()):,} interactions are known, "
                f"{int(asked.sum()):,} are left to be found, and "
                f"{0 if candidates is None else int(candidates.sum()):,} items are candidates. "
                "Are the ratings those of this table, and its split the one that is meant?"
            )
        liked = known & self._high(ratings, known)
        relevant = asked & (~np.bool_(ratings.explicit) | (ratings.value >= self.relevant_from))
        size = {
            what: np.bincount(ratings.user[rows], minlength=users)
            for what, rows in (("seen", known), ("history", liked), ("test", asked))
        }
        right = np.bincount(ratings.user[relevant], minlength=users)
        gains = relevant if self.gain == "binary" else asked & (ratings.value > 0)
        gaining = np.bincount(ratings.user[gains], minlength=users)
        kept = np.ones(users, bool)
        reasons = {
            "users without enough history": size["history"] < self.least_history,
            "users without enough test items": size["test"] < self.least_test,
            "users without a relevant test item": right < self.least_relevant,
            "users whose test items are all rated 0, which NDCG counts as nothing": gaining < 1,
        }
        if candidates is not None:
            seen = np.bincount(ratings.user[known & candidates[ratings.item]], minlength=users)
            left = int(candidates.sum()) - seen - right
            reasons["users to whom every candidate is relevant"] = left < 1
        for reason, failing in reasons.items():
            out[reason] = int((kept & failing).sum())
            kept &= ~failing
        out = {reason: count for reason, count in out.items() if count}
        if not kept.any():
            raise ValueError(f"none of {users:,} users can be measured: {out}")
        history = liked & kept[ratings.user]
        oldest = np.flatnonzero(history)
        if ratings.time is not None:
            oldest = oldest[np.lexsort((ratings.time[oldest], ratings.user[oldest]))]
        tested = np.flatnonzero(asked & kept[ratings.user])
        tested = tested[np.lexsort((ratings.item[tested], ratings.user[tested]))]
        graded = np.exp2(ratings.value[tested]) - 1
        return UserQueries(
            ids=ratings.users[kept],
            user=np.flatnonzero(kept),
            history=ratings.item[oldest],
            times=None if ratings.time is None else ratings.time[oldest],
            offsets=offsets_of(size["history"][kept]),
            test=ratings.item[tested],
            test_offsets=offsets_of(size["test"][kept]),
            gain=graded if self.gain == "graded" else relevant[tested].astype(np.float32),
            relevant=relevant[tested],
            candidates=candidates,
            known=ratings.of(known),
            popularity=counts,
            first_watched=_first_watched(ratings),
            left_out=out,
        )

    def _known(self, ratings: Ratings) -> np.ndarray:
        if self.split == "temporal":
            if ratings.time is None or np.isnan(ratings.time).any():
                gone = len(ratings) if ratings.time is None else int(np.isnan(ratings.time).sum())
                raise ValueError(
                    f"{gone:,} of {len(ratings):,} interactions have no timestamp: a "
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
    """i64[U+1]: where the parts of so many begin and end."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
