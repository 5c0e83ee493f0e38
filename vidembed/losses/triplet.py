"""Triplet losses on squared Euclidean distances (CDML section 3.2.1)."""

import abc
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from vidembed import pairwise


class TripletLoss(Protocol):
    """A loss of the squared distances to the positive and to the negative."""

    @property
    def margin(self) -> float:
        """How much farther a negative must be, in squared Euclidean distance; miners use it."""

    def __call__(self, positive_distance: jax.Array, negative_distance: jax.Array) -> jax.Array:
        """Two squared distances f32[B] → f32[B], one loss per triplet, not reduced."""


@dataclass(frozen=True, kw_only=True)
class _WithMargin(abc.ABC):
    margin: float = 0.1
    """By how much a negative is to be farther than the positive, in squared Euclidean distance."""

    def __post_init__(self) -> None:
        pairwise.check_margin(self.margin)

    @abc.abstractmethod
    def __call__(self, positive_distance: jax.Array, negative_distance: jax.Array) -> jax.Array:
        """Two squared distances f32[B] → f32[B], one loss per triplet, not reduced."""


@dataclass(frozen=True, kw_only=True)
class Hinge(_WithMargin):
    """max(0, d²(a, p) − d²(a, n) + margin). A satisfied triplet has zero gradient."""

    def __call__(self, positive_distance: jax.Array, negative_distance: jax.Array) -> jax.Array:
        return jax.nn.relu(positive_distance - negative_distance + self.margin)


@dataclass(frozen=True, kw_only=True)
class Log(_WithMargin):
    """log(1 + exp(d²(a, p) − d²(a, n) + margin)): a soft hinge, never exactly zero."""

    def __call__(self, positive_distance: jax.Array, negative_distance: jax.Array) -> jax.Array:
        return jax.nn.softplus(positive_distance - negative_distance + self.margin)


@dataclass(frozen=True, kw_only=True)
class Exponential(_WithMargin):
    """exp(d²(a, p) − d²(a, n) + margin): at most e^(4 + margin) for unit vectors."""

    def __call__(self, positive_distance: jax.Array, negative_distance: jax.Array) -> jax.Array:
        return jnp.exp(positive_distance - negative_distance + self.margin)


class _Miner(Protocol):
    @property
    def only_farther(self) -> bool: ...
    @property
    def inside_margin(self) -> bool: ...


def check(miner: _Miner, loss: TripletLoss) -> None:
    """Raise ValueError for a miner and a loss that cannot learn together.

    The paper names both margin 0 (section 3.2.1) and semi-hard mining (4.1.1). With a hinge they
    exclude each other: semi-hard negatives are farther than the positive, so every term is zero.
    A miner with `inside_margin` uses the loss's margin, and needs one above 0.
    """
    if miner.only_farther and isinstance(loss, Hinge) and loss.margin == 0:
        raise ValueError(
            f"Hinge(margin=0) with {type(miner).__name__}: this miner only returns negatives "
            "farther than the positive, where a hinge without margin is zero and has no gradient, "
            "so nothing would be learnt. Give the hinge a margin (CDML tried 0.1, 0.3 and 0.5), or "
            "use the Log or Exponential loss, or the Hardest miner"
        )
    if miner.inside_margin and loss.margin == 0:
        raise ValueError(
            f"{type(miner).__name__}(inside_margin=True) with {type(loss).__name__}(margin=0): no "
            "negative lies inside a margin of 0. Give the loss a margin (--task.loss.margin 0.1), "
            "or mine outside the margin, too (--task.miner.no-inside-margin)"
        )
