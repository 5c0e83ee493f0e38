"""Choose among the best candidates: skip near-duplicates, and add diversity."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Choosing:
    """Choose k results, one after the other, from `over_fetch` · k candidates."""

    duplicates_above: float | None = None
    """Skip a candidate whose cosine with a video of the history, the one being watched, or one
    already chosen is above this. None: skip none."""
    mmr_lambda: float | None = None
    """Maximal marginal relevance (Carbonell and Goldstein 1998): choose the candidate with
    the largest λ · score − (1 − λ) · (largest cosine with those chosen). 1 or None: by score."""
    over_fetch: int = 4
    """Candidates per requested result. If skipping near-duplicates leaves fewer than k, more are
    fetched (`widening.best_of`)."""

    def __post_init__(self) -> None:
        if self.duplicates_above is not None and not -1 <= self.duplicates_above <= 1:
            raise ValueError(
                f"duplicates_above is {self.duplicates_above}: it must be a cosine, -1 to 1"
            )
        if self.mmr_lambda is not None and not 0 <= self.mmr_lambda <= 1:
            raise ValueError(f"mmr_lambda is {self.mmr_lambda}: it must be between 0 and 1")
        if self.over_fetch < 1:
            raise ValueError(f"over_fetch is {self.over_fetch}: it must be 1 or more")

    @property
    def chooses(self) -> bool:
        """Whether the choice depends on more than the score."""
        return self.duplicates_above is not None or self.mmr_lambda is not None

    def candidates(self, k: int) -> int:
        """The number of candidates to fetch for k results."""
        return k * self.over_fetch if self.chooses else k

    def choose(
        self,
        scores: np.ndarray,
        vectors: np.ndarray,
        k: int,
        history: np.ndarray,
        offsets: np.ndarray,
    ) -> np.ndarray:
        """Columns of the chosen candidates, i64[U, at most k], in order of choice; −1 if none left.

        scores: f32[U, m], −inf without a candidate; vectors: f32[U, m, D] of any length. history:
        f32[H, D], concatenated over users; offsets: i64[U + 1].
        """
        share = 1.0 if self.mmr_lambda is None else self.mmr_lambda
        units, free = _unit(vectors), scores > -np.inf
        users = np.arange(len(scores))
        if self.duplicates_above is not None:
            seen = _unit(history)
            for user in users:
                watched = seen[offsets[user] : offsets[user + 1]]
                cosines = (units[user] @ watched.T).max(axis=1, initial=-np.inf)
                free[user] &= cosines <= self.duplicates_above
        places = np.full((len(scores), min(k, scores.shape[1])), -1)
        nearest = np.zeros(scores.shape, np.float32)
        known = np.where(free, scores, 0)  # avoids 0 · −inf = NaN
        for place in range(places.shape[1]):
            value = np.where(free, share * known - (1 - share) * nearest, -np.inf)
            best = value.argmax(axis=1)
            available = free[users, best]
            places[:, place] = np.where(available, best, -1)
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
