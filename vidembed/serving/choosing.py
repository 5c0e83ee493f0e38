"""Which of the best candidates are shown: no near-duplicates, and not all of one kind."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Choosing:
    """k are chosen, one after the other, of `over_fetch` · k candidates."""

    duplicates_above: float | None = None
    """Leave out a candidate whose cosine with a video of the history, with the one being watched,
    or with one that is chosen already, is above this. None: leave out none."""
    mmr_lambda: float | None = None
    """Maximal marginal relevance (Carbonell and Goldstein 1998): choose the candidate of the
    largest λ · score − (1 − λ) · (its largest cosine with those chosen). 1 or None: by score."""
    over_fetch: int = 4
    """Candidates for each one asked for. Where near-duplicates leave fewer than k of them, more are
    taken (`widening.best_of`)."""

    def __post_init__(self) -> None:
        if self.duplicates_above is not None and not -1 <= self.duplicates_above <= 1:
            raise ValueError(f"duplicates_above is {self.duplicates_above}: a cosine, -1 to 1")
        if self.mmr_lambda is not None and not 0 <= self.mmr_lambda <= 1:
            raise ValueError(f"mmr_lambda is {self.mmr_lambda}: it lies between 0 and 1")
        if self.over_fetch < 1:
            raise ValueError(f"over_fetch is {self.over_fetch}: it is 1 or more")

    @property
    def chooses(self) -> bool:
        """Whether it is not by score alone."""
        return self.duplicates_above is not None or self.mmr_lambda is not None

    def candidates(self, k: int) -> int:
        """How many are fetched to choose k of."""
        return k * self.over_fetch if self.chooses else k

    def choose(
        self,
        scores: np.ndarray,
        vectors: np.ndarray,
        k: int,
        history: np.ndarray,
        offsets: np.ndarray,
    ) -> np.ndarray:
        """Places of the chosen, i64[U, at most k], in the order of choice; −1 where none is left.

        scores: f32[U, m], −inf where there is no candidate; vectors: f32[U, m, D] of any length.
        history: f32[H, D] of the users one after the other; offsets: i64[U + 1].
        """
        share = 1.0 if self.mmr_lambda is None else self.mmr_lambda
        units, free = _unit(vectors), scores > -np.inf
        users = np.arange(len(scores))
        if self.duplicates_above is not None:
            seen = _unit(history)
            for user in users:
                own = seen[offsets[user] : offsets[user + 1]]
                cosines = (units[user] @ own.T).max(axis=1, initial=-np.inf)
                free[user] &= cosines <= self.duplicates_above
        places = np.full((len(scores), min(k, scores.shape[1])), -1)
        nearest = np.zeros(scores.shape, np.float32)
        known = np.where(free, scores, 0)  # 0 · −inf is no number
        for place in range(places.shape[1]):
            value = np.where(free, share * known - (1 - share) * nearest, -np.inf)
            best = value.argmax(axis=1)
            there = free[users, best]
            places[:, place] = np.where(there, best, -1)
            cosines = np.einsum("umd,ud->um", units, units[users, best])
            nearest = np.maximum(nearest, cosines) if place else cosines
            free[users, best] = False
            if self.duplicates_above is not None:
                free &= cosines <= self.duplicates_above
        return places


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Scaled to length 1; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
