"""User models: how similarities with a user's history become the score of a candidate.

CDML, section 4.2. Each model is implemented twice: `of` in plain NumPy, for few candidates, and
`start`, `take`, `finish` for all videos of an index, with the history in chunks.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class UserModel(Protocol):
    """A frozen dataclass that scores candidates from the history of a user."""

    @property
    def one_vector(self) -> bool:
        """Whether one vector per user gives the same scores as the history."""

    @property
    def held(self) -> int:
        """Numbers kept per user and candidate while passing over the history."""

    def of(self, similarities: np.ndarray) -> np.ndarray:
        """Scores f32[C] of candidates, from their similarities f32[H, C] with the history."""

    def start(self, users: int, candidates: int) -> Any:
        """The state for an empty history: a pytree of [users, candidates]."""

    def take(self, state: Any, similarities: jax.Array, valid: jax.Array) -> Any:
        """The state after c more videos per history: f32[U, c, C], valid bool[U, c]."""

    def finish(self, state: Any) -> jax.Array:
        """Scores f32[U, C] from the state."""


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean of the similarities (CDML, equation 5).

    The dot product is linear, so this is the product with the mean of the history's vectors,
    computed once per user: O(|V| + |Q|). A video watched twice counts twice.
    """

    half_life_watches: float | None = None
    """A video has half the weight of one watched this many videos later; None: equal weights."""
    half_life_seconds: float | None = None
    """A video has half the weight of one watched this many seconds later."""

    one_vector = True
    held = 1

    def __post_init__(self) -> None:
        for name in ("half_life_watches", "half_life_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(
                    f"{name} is {value}: it must be above 0, or None for no forgetting"
                )

    def weights(self, offsets: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
        """The weight of each video of the histories, f64[H]: 1 for the newest, less for older ones.

        offsets: i64[U + 1], histories oldest first. times: f64[H] in seconds, required for
        `half_life_seconds`, for which the order does not matter.
        """
        lengths = np.diff(offsets)
        exponent = np.zeros(int(offsets[-1] - offsets[0]))
        if self.half_life_watches is not None:
            after = np.repeat(offsets[1:], lengths) - 1 - np.arange(offsets[0], offsets[-1])
            exponent += after / self.half_life_watches
        if self.half_life_seconds is not None:
            seconds = checked_times(times, len(exponent))
            filled = lengths > 0
            newest = np.maximum.reduceat(seconds, offsets[:-1][filled] - offsets[0])
            exponent += (np.repeat(newest, lengths[filled]) - seconds) / self.half_life_seconds
        return np.exp2(-exponent)

    def of(self, similarities: np.ndarray) -> np.ndarray:
        """See `UserModel`; for equal weights."""
        mean: np.ndarray = similarities.mean(axis=0)
        return mean

    def start(self, users: int, candidates: int) -> Any:
        """Sums of zero."""
        return jnp.zeros((users, candidates))

    def take(self, state: Any, similarities: jax.Array, valid: jax.Array) -> Any:
        """Add the similarities."""
        return state + jnp.where(valid[..., None], similarities, 0).sum(axis=1)

    def finish(self, state: Any) -> jax.Array:
        """The state itself."""
        scores: jax.Array = state
        return scores


@dataclass(frozen=True, kw_only=True)
class Max:
    """The largest similarity with any video of the history (CDML, equation 6)."""

    one_vector = False
    held = 1

    def of(self, similarities: np.ndarray) -> np.ndarray:
        """The largest similarity."""
        largest: np.ndarray = similarities.max(axis=0)
        return largest

    def start(self, users: int, candidates: int) -> Any:
        """−inf, below all similarities."""
        return jnp.full((users, candidates), -jnp.inf)

    def take(self, state: Any, similarities: jax.Array, valid: jax.Array) -> Any:
        """The larger of state and similarities."""
        return jnp.maximum(state, jnp.where(valid[..., None], similarities, -jnp.inf).max(axis=1))

    def finish(self, state: Any) -> jax.Array:
        """The state itself."""
        scores: jax.Array = state
        return scores


@dataclass(frozen=True, kw_only=True)
class Top:
    """The mean of the `count` largest similarities, or of all if the history is shorter.

    CDML tried 2, 3 and 5; none was better than mean and max. A video watched twice counts twice.
    """

    count: int = 3
    """How many of the largest similarities are averaged."""

    one_vector = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count is {self.count}: a mean needs at least one similarity")

    @property
    def held(self) -> int:
        """The number of largest similarities kept."""
        return self.count

    def of(self, similarities: np.ndarray) -> np.ndarray:
        """The mean of the largest similarities."""
        mean: np.ndarray = np.sort(similarities, axis=0)[-self.count :].mean(axis=0)
        return mean

    def start(self, users: int, candidates: int) -> Any:
        """The largest similarities so far, best first; −inf for none."""
        return (jnp.full((users, candidates), -jnp.inf),) * self.count

    def take(self, state: Any, similarities: jax.Array, valid: jax.Array) -> Any:
        """Insert the similarities one by one, keeping the order."""

        def sink(best: Any, score: jax.Array) -> tuple[Any, None]:
            places = []
            for place in best:
                places.append(jnp.maximum(place, score))
                score = jnp.minimum(place, score)
            return tuple(places), None

        scores = jnp.where(valid[..., None], similarities, -jnp.inf)
        return lax.scan(sink, state, jnp.moveaxis(scores, 1, 0))[0]

    def finish(self, state: Any) -> jax.Array:
        """The mean over the filled places."""
        taken = sum((place > -jnp.inf).astype(jnp.float32) for place in state)
        return sum(jnp.where(place > -jnp.inf, place, 0) for place in state) / taken


@dataclass(frozen=True, kw_only=True)
class Variance:
    """The mean of the similarities plus `weight` times their variance over the history.

    CDML lists "variance" among the models it tried and rejected, without a definition: this form
    and the sign are not established. A negative weight prefers candidates that are similar to the
    whole history, a positive one those that are very similar to a part of it. The variance is that
    of the history itself (divided by H).
    """

    weight: float = -1.0
    """What the variance is multiplied by before the mean is added."""

    one_vector = False
    held = 3

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"weight is {self.weight}: the variance is multiplied by a number")

    def of(self, similarities: np.ndarray) -> np.ndarray:
        """The mean plus `weight` times the variance."""
        score: np.ndarray = similarities.mean(axis=0) + self.weight * similarities.var(axis=0)
        return score

    def start(self, users: int, candidates: int) -> Any:
        """Zero count, mean, and sum of squared differences from the mean."""
        return (jnp.zeros((users, candidates)),) * 3

    def take(self, state: Any, similarities: jax.Array, valid: jax.Array) -> Any:
        """Combine both parts without large sums of squares (Chan, Golub and LeVeque 1979)."""
        count, mean, squares = state
        is_valid = valid[..., None]
        new_count = jnp.broadcast_to(is_valid.sum(axis=1).astype(jnp.float32), mean.shape)
        new_mean = jnp.where(is_valid, similarities, 0).sum(axis=1) / jnp.maximum(new_count, 1)
        differences = jnp.where(is_valid, similarities - new_mean[:, None], 0)
        total, step = count + new_count, new_mean - mean
        share = new_count / jnp.maximum(total, 1)
        squares = squares + jnp.square(differences).sum(axis=1) + jnp.square(step) * count * share
        return total, mean + step * share, squares

    def finish(self, state: Any) -> jax.Array:
        """The mean plus `weight` times the variance."""
        count, mean, squares = state
        return mean + self.weight * squares / count


def checked_times(times: np.ndarray | None, count: int) -> np.ndarray:
    """Times of watches, f64[count] seconds; raises ValueError if missing or not finite."""
    if times is None:
        raise ValueError("half_life_seconds needs the times of the watches: give times")
    seconds = np.asarray(times, np.float64)
    if seconds.shape != (count,):
        raise ValueError(f"{list(seconds.shape)} times for {count:,} watches: give one for each")
    if not np.isfinite(seconds).all():
        not_finite = int((~np.isfinite(seconds)).sum())
        raise ValueError(
            f"{not_finite:,} of {count:,} times are NaN or infinite: leave these watches out"
        )
    return seconds
