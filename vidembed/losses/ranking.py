"""Hinges over the candidates of a batch: VSE, VSE++ and JEMC's weighted ranking.

A loss takes a block of scores f32[b, N], the column `own` of each row's positive, and the columns
that are `forbidden` as negatives because they belong to the same video. It is called for rows of
videos against texts and for rows of texts against videos.
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import chex
import jax
import jax.numpy as jnp


class PairLoss(Protocol):
    """A loss of each row of a block of scores."""

    @property
    def learned(self) -> Mapping[str, float]:
        """Parameters of the loss that are trained, with their initial values; {} for none."""

    def __call__(
        self,
        scores: jax.Array,
        own: jax.Array,
        forbidden: jax.Array,
        *,
        parameters: Mapping[str, jax.Array],
    ) -> jax.Array:
        """scores f32[b, N], own i32[b], forbidden bool[b, N] → f32[b], not reduced.

        `own` is the column of the row's positive, which is never a negative, forbidden or not.
        """


def negatives(scores: jax.Array, own: jax.Array, forbidden: jax.Array) -> jax.Array:
    """bool[b, N]: the columns that are neither the row's positive nor forbidden."""
    chex.assert_rank([scores, own, forbidden], [2, 1, 2])
    chex.assert_equal_shape([scores, forbidden])
    chex.assert_equal(len(scores), len(own))
    columns = jnp.arange(scores.shape[1], dtype=own.dtype)
    return ~forbidden & (columns[None] != own[:, None])


def own_scores(scores: jax.Array, own: jax.Array) -> jax.Array:
    """f32[b]: the score of each row's positive."""
    return jnp.take_along_axis(scores, own[:, None], axis=1)[:, 0]


@dataclass(frozen=True, kw_only=True)
class _Hinges(abc.ABC):
    margin: float = 0.2
    """By how much the positive is to score above a negative."""

    def __post_init__(self) -> None:
        if not 0 <= self.margin < float("inf"):
            raise ValueError(
                f"margin is {self.margin}, but must be 0 or more: by how much the positive is to "
                "score above a negative (0.2 in VSE, VSE++ and JEMC)"
            )

    @property
    def learned(self) -> dict[str, float]:
        """Hinges have no parameters."""
        return {}

    def __call__(
        self,
        scores: jax.Array,
        own: jax.Array,
        forbidden: jax.Array,
        *,
        parameters: Mapping[str, jax.Array],
    ) -> jax.Array:
        """scores f32[b, N], own i32[b], forbidden bool[b, N] → f32[b], not reduced."""
        del parameters
        return self._of(scores, own_scores(scores, own), negatives(scores, own, forbidden))

    @abc.abstractmethod
    def _of(self, scores: jax.Array, positive: jax.Array, allowed: jax.Array) -> jax.Array:
        """f32[b] of scores f32[b, N], those of the positives f32[b], and negatives bool[b, N]."""

    def _hardest(self, scores: jax.Array, positive: jax.Array, allowed: jax.Array) -> jax.Array:
        """The largest hinge f32[b]; 0 without a negative. Equal negatives share the gradient."""
        hardest = jnp.max(jnp.where(allowed, scores, -jnp.inf), axis=1)
        return jax.nn.relu(self.margin - positive + hardest)


@dataclass(frozen=True, kw_only=True)
class SumOfHinges(_Hinges):
    """Σ max(0, margin − s(own) + s(negative)) over all negatives (VSE, Kiros et al. 2014).

    A row without a negative has loss 0.
    """

    def _of(self, scores: jax.Array, positive: jax.Array, allowed: jax.Array) -> jax.Array:
        hinges = jax.nn.relu(self.margin - positive[:, None] + scores)
        # The product adds 0, or NaN if the positive's score is NaN and the row has no negative.
        return jnp.sum(jnp.where(allowed, hinges, 0.0), axis=1) + 0.0 * positive


@dataclass(frozen=True, kw_only=True)
class HardestHinge(_Hinges):
    """max(0, margin − s(own) + s(negative)) of the best negative (VSE++, Faghri et al. 2018)."""

    def _of(self, scores: jax.Array, positive: jax.Array, allowed: jax.Array) -> jax.Array:
        return self._hardest(scores, positive, allowed)


@dataclass(frozen=True, kw_only=True)
class WeightedRanking(_Hinges):
    """The hardest hinge times L(r) = 1 + weight / (N − r + 1) (JEMC, Mithun et al. 2018).

    N is the number of columns, r the rank of the positive among the row's candidates: one more than
    the number of negatives that score above it, so that ties do not raise it. The worst rank weighs
    most: 1 + weight at r = N. L(r) has no gradient.
    """

    weight: float = 1.0
    """The most that a bad rank adds; 0 is `HardestHinge`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight is {self.weight}, but must be 0 or more (1 in JEMC's code)")

    def _of(self, scores: jax.Array, positive: jax.Array, allowed: jax.Array) -> jax.Array:
        rank = 1 + jnp.sum(allowed & (scores > positive[:, None]), axis=1)
        above_last = (scores.shape[1] - rank + 1).astype(scores.dtype)
        factor = jax.lax.stop_gradient(1 + self.weight / above_last)
        return factor * self._hardest(scores, positive, allowed)
