"""What is known of a user as one vector, kept up to date without the history."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vidembed.serving import given
from vidembed.serving.user_models import Mean, checked_times


@dataclass(frozen=True, kw_only=True, eq=False)
class UserVector:
    """The mean of the vectors of what someone watched (CDML, equation 5), as sum and weight.

    It equals the mean of the whole history, forgetting included, up to rounding of f64: that is all
    that a service has to store of a user, beside the ids that it does not recommend again.
    """

    total: np.ndarray
    """f64[D]: the weighted sum of the vectors."""
    weight: float = 0.0
    newest: float | None = None
    """The time of the newest watch, in seconds, where forgetting goes by time."""
    model: Mean = field(default=Mean())

    @staticmethod
    def empty(dimension: int, model: Mean = Mean()) -> "UserVector":
        """Of someone who watched nothing yet."""
        return UserVector(total=np.zeros(dimension), model=model)

    def watched(self, vectors: np.ndarray, times: Any = None) -> "UserVector":
        """The vector after one more video f32[D], or several f32[n, D], oldest first.

        times: seconds, one or n, needed where forgetting goes by time; a watch that arrives late
        counts as it would have in its place.
        """
        more = given.finite(np.atleast_2d(vectors), "vectors", width=len(self.total))
        if not len(more):
            return self
        kept, newest, seconds = 1.0, None, None
        weights = self.model.weights(np.array([0, len(more)]), _times(self.model, times, len(more)))
        if self.model.half_life_watches is not None:
            kept *= 2 ** (-len(more) / self.model.half_life_watches)
        if self.model.half_life_seconds is not None:
            seconds = checked_times(np.atleast_1d(times), len(more))
            newest = max(seconds.max(), seconds.max() if self.newest is None else self.newest)
            half_life = self.model.half_life_seconds
            weights = weights * 2 ** (-(newest - seconds.max()) / half_life)
            if self.newest is not None:
                kept *= 2 ** (-(newest - self.newest) / half_life)
        return replace(
            self,
            total=self.total * kept + weights @ more.astype(np.float64),
            weight=float(self.weight * kept + weights.sum()),
            newest=None if newest is None else float(newest),
        )

    @property
    def vector(self) -> np.ndarray:
        """f32[D]: what videos are scored by; ValueError where nothing was watched."""
        if not self.weight > 0:
            raise ValueError("this user has watched nothing: there is no vector to recommend by")
        return (self.total / self.weight).astype(np.float32)

    def blended(self, current: np.ndarray, blend: float = 0.5) -> np.ndarray:
        """f32[D]: with the video being watched, f32[D]: (1 − blend) · user + blend · current."""
        if not 0 <= blend <= 1:
            raise ValueError(f"blend is {blend}: it is the share of the current video, 0 to 1")
        return ((1 - blend) * self.vector + blend * np.asarray(current)).astype(np.float32)


def _times(model: Mean, times: Any, count: int) -> np.ndarray | None:
    return None if times is None or model.half_life_seconds is None else np.atleast_1d(times)
