"""A user as one vector that can be updated without the history."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vidembed.serving import given
from vidembed.serving.user_models import Mean, checked_times


@dataclass(frozen=True, kw_only=True, eq=False)
class UserVector:
    """The mean of the vectors of the videos a user watched (CDML, equation 5), as sum and weight.

    It equals the mean of the whole history, including forgetting, up to f64 rounding. A service
    only needs to store this per user, besides the ids that must not be recommended again.
    """

    total: np.ndarray
    """f64[D]: the weighted sum of the vectors."""
    weight: float = 0.0
    newest: float | None = None
    """The time of the newest watch in seconds, if forgetting depends on time."""
    model: Mean = field(default=Mean())

    @staticmethod
    def empty(dimension: int, model: Mean = Mean()) -> "UserVector":
        """The vector of a user without history."""
        return UserVector(total=np.zeros(dimension), model=model)

    def watched(self, vectors: np.ndarray, times: Any = None) -> "UserVector":
        """The vector after one more video f32[D], or several f32[n, D], oldest first.

        times: seconds, one or n, required if forgetting depends on time; a watch that arrives late
        has the weight it would have had in order.
        """
        added = given.finite(np.atleast_2d(vectors), "vectors", width=len(self.total))
        if not len(added):
            return self
        decay, newest, seconds = 1.0, None, None
        weights = self.model.weights(
            np.array([0, len(added)]), _times(self.model, times, len(added))
        )
        if self.model.half_life_watches is not None:
            decay *= 2 ** (-len(added) / self.model.half_life_watches)
        if self.model.half_life_seconds is not None:
            seconds = checked_times(np.atleast_1d(times), len(added))
            newest = max(seconds.max(), seconds.max() if self.newest is None else self.newest)
            half_life = self.model.half_life_seconds
            weights = weights * 2 ** (-(newest - seconds.max()) / half_life)
            if self.newest is not None:
                decay *= 2 ** (-(newest - self.newest) / half_life)
        return replace(
            self,
            total=self.total * decay + weights @ added.astype(np.float64),
            weight=float(self.weight * decay + weights.sum()),
            newest=None if newest is None else float(newest),
        )

    @property
    def vector(self) -> np.ndarray:
        """The vector f32[D] to score videos by; raises ValueError if the history is empty."""
        if not self.weight > 0:
            raise ValueError("this user has watched nothing, so there is no vector to recommend by")
        return (self.total / self.weight).astype(np.float32)

    def blended(self, current: np.ndarray, blend: float = 0.5) -> np.ndarray:
        """Blend with the current video f32[D]: (1 − blend) · user + blend · current, f32[D]."""
        if not 0 <= blend <= 1:
            raise ValueError(f"blend is {blend}: it is the share of the current video, 0 to 1")
        return ((1 - blend) * self.vector + blend * np.asarray(current)).astype(np.float32)


def _times(model: Mean, times: Any, count: int) -> np.ndarray | None:
    return None if times is None or model.half_life_seconds is None else np.atleast_1d(times)
