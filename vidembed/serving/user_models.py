"""How similarities with what a user watched become one score of a candidate (CDML, section 4.2).

A model says twice what it is: `of` in plain words of NumPy, for few candidates, and
`start`, `take`, `finish` for all videos of an index, to which the history comes in chunks.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class UserModel(Protocol):
    """A frozen dataclass; what is no number decides which program is compiled."""

    @property
    def one_vector(self) -> bool:
        """Whether one vector a user gives the same scores as the history does."""

    @property
    def held(self) -> int:
        """Numbers that are held of a user and a candidate while the history is gone through."""

    def of(self, similarities: np.ndarray) -> np.ndarray:
        """Scores f32[C] of candidates, from those with each video of a history, f32[H, C]."""

    def start(self, users: int, candidates: int) -> Any:
        """A pytree of [users, candidates], of no history."""

    def take(self, state: Any, similarities: jax.Array, valid: jax.Array) -> Any:
        """The state after the next c videos of each history: f32[U, c, C]; valid bool[U, c]."""

    def finish(self, state: Any) -> jax.Array:
        """Scores f32[U, C]."""


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean of the similarities (CDML, equation 5).

    As a dot product is linear, that is the product with the mean of the history's vectors, made
    once a user: O(|V| + |Q|). A video watched twice counts twice.
    """

    half_life_watches: float | None = None
    """A video counts half as much as one watched so many videos later; None: all count alike."""
    half_life_seconds: float | None = None
    """A video counts half as much as one watched so much later, by the times of the watches."""

    one_vector = True
    held = 1

    def __post_init__(self) -> None:
        for name in ("half_life_watches", "half_life_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}: it is above 0, or None to forget nothing")

    def weights(self, offsets: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
        """What each video of the histories counts, f64[H]: 1 for the newest, less for older ones.

        offsets: i64[U + 1], histories oldest first. times: f64[H] in seconds, needed for
        `half_life_seconds`, by which the order does not matter.
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
        """Of a history whose videos count alike."""
        mean: np.ndarray = similarities.mean(axis=0)
        return mean

    def start(self, users: int, candidates: int) -> Any:
        """Nothing summed."""
        return jnp.zeros((users, candidates))

    def take(self, state: Any, similarities: jax.Array, valid: jax.Array) -> Any:
        """One vector a user: its products."""
        return state + jnp.where(valid[..., None], similarities, 0).sum(axis=1)

    def finish(self, state: Any) -> jax.Array:
        """As they are."""
        scores: jax.Array = state
        return scores


@dataclass(frozen=True, kw_only=True)
class Max:
    """The largest similarity with any video of the history (CDML, equation 6)."""

    one_vector = False
    held = 1

    def of(self, similarities: np.ndarray) -> np.ndarray:
        """The largest."""
        largest: np.ndarray = similarities.max(axis=0)
        return largest

    def start(self, users: int, candidates: int) -> Any:
        """Below all."""
        return jnp.full((users, candidates), -jnp.inf)

    def take(self, state: Any, similarities: jax.Array, valid: jax.Array) -> Any:
        """The larger of both."""
        return jnp.maximum(state, jnp.where(valid[..., None], similarities, -jnp.inf).max(axis=1))

    def finish(self, state: Any) -> jax.Array:
        """As they are."""
        scores: jax.Array = state
        return scores


@dataclass(frozen=True, kw_only=True)
class Top:
    """The mean of the `count` largest similarities, or of all where the history is shorter.

    CDML tried 2, 3 and 5, and found none better than mean and max. A video watched twice counts
    twice.
    """

    count: int = 3

    one_vector = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count is {self.count}: at least one similarity makes a mean")

    @property
    def held(self) -> int:
        """The largest so far."""
        return self.count

    def of(self, similarities: np.ndarray) -> np.ndarray:
        """The mean of the largest."""
        mean: np.ndarray = np.sort(similarities, axis=0)[-self.count :].mean(axis=0)
        return mean

    def start(self, users: int, candidates: int) -> Any:
        """The largest so far, best first."""
        return (jnp.full((users, candidates), -jnp.inf),) * self.count

    def take(self, state: Any, similarities: jax.Array, valid: jax.Array) -> Any:
        """One similarity after the other sinks to its place."""

        def sink(best: Any, score: jax.Array) -> tuple[Any, None]:
            places = []
            for place in best:
                places.append(jnp.maximum(place, score))
                score = jnp.minimum(place, score)
            return tuple(places), None

        scores = jnp.where(valid[..., None], similarities, -jnp.inf)
        return lax.scan(sink, state, jnp.moveaxis(scores, 1, 0))[0]

    def finish(self, state: Any) -> jax.Array:
        """The mean of those places that are taken."""
        taken = sum((place > -jnp.inf).astype(jnp.float32) for place in state)
        return sum(jnp.where(place > -jnp.inf, place, 0) for place in state) / taken


@dataclass(frozen=True, kw_only=True)
class Variance:
    """The mean of the similarities plus `weight` times their variance over the history.

    CDML names "variance" among what it tried and rejected, and does not define it: this form, and
    the sign, are not established. Below 0 a candidate must be like the whole history, above 0
    much like a part of it is better. The variance is that of the history itself (divided by H).
    """

    weight: float = -1.0

    one_vector = False
    held = 3

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"weight is {self.weight}: the variance is multiplied by a number")

    def of(self, similarities: np.ndarray) -> np.ndarray:
        """Mean and variance."""
        score: np.ndarray = similarities.mean(axis=0) + self.weight * similarities.var(axis=0)
        return score

    def start(self, users: int, candidates: int) -> Any:
        """Count, mean, and sum of squared differences from the mean."""
        return (jnp.zeros((users, candidates)),) * 3

    def take(self, state: Any, similarities: jax.Array, valid: jax.Array) -> Any:
        """Both parts joined (Chan, Golub and LeVeque 1979), without large sums of squares."""
        count, mean, squares = state
        there = valid[..., None]
        more = jnp.broadcast_to(there.sum(axis=1).astype(jnp.float32), mean.shape)
        own = jnp.where(there, similarities, 0).sum(axis=1) / jnp.maximum(more, 1)
        apart = jnp.where(there, similarities - own[:, None], 0)
        total, step = count + more, own - mean
        share = more / jnp.maximum(total, 1)
        squares = squares + jnp.square(apart).sum(axis=1) + jnp.square(step) * count * share
        return total, mean + step * share, squares

    def finish(self, state: Any) -> jax.Array:
        """Mean and variance."""
        count, mean, squares = state
        return mean + self.weight * squares / count


def checked_times(times: np.ndarray | None, count: int) -> np.ndarray:
    """Times of watches, f64[count] seconds; ValueError where they are missing or not finite."""
    if times is None:
        raise ValueError("half_life_seconds is by the times of the watches: give them")
    seconds = np.asarray(times, np.float64)
    if seconds.shape != (count,):
        raise ValueError(f"{list(seconds.shape)} times for {count:,} watches: give one for each")
    if not np.isfinite(seconds).all():
        bad = int((~np.isfinite(seconds)).sum())
        raise ValueError(f"{bad:,} of {count:,} times are NaN or infinite: leave these watches out")
    return seconds
