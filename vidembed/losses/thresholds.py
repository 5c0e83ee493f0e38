"""Below which distance two videos of a batch are a positive pair (ProViCo, CVPR 2022)."""

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from vidembed.distributed import mesh

INFINITE = 0x7F800000
"""The bits of infinity; those of positive numbers are smaller, in the order of the numbers."""


class Threshold(Protocol):
    """τ, from the distances of a batch."""

    def __call__(self, distances: jax.Array, counted: jax.Array, batches: jax.Array) -> jax.Array:
        """τ f32[], the same on every device; called on each device with its part of the batch.

        distances f32[b, B], 0 or more. counted bool[b, B]: pairs of two different videos. batches
        i32[]: the number of batches before this one.
        """


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """The same τ in every batch, as in the paper, which does not say its value.

    No value fits two data sets: the distance below which 1 % of all pairs lie differs by a factor
    of hundreds.
    """

    distance: float
    """τ, in the units of the distance."""

    def __post_init__(self) -> None:
        if not 0 <= self.distance < float("inf"):
            raise ValueError(f"distance is {self.distance}, but must be 0 or more")

    def __call__(self, distances: jax.Array, counted: jax.Array, batches: jax.Array) -> jax.Array:
        """τ, whatever the batch."""
        del distances, counted, batches
        return jnp.float32(self.distance)


@dataclass(frozen=True, kw_only=True)
class Quantile:
    """The distance below which a share of the batch's pairs of different videos lies."""

    share: float = 0.01
    """Share of the pairs of different videos that become positive. Keep it well below 1 / number of
    classes: near it, most mined pairs join two classes. 0: a video is positive with itself only."""
    start: float = 0.0
    """The share in the first batch, if it changes over `ramp_batches`."""
    ramp_batches: int = 0
    """Batches over which the share goes from `start` to `share`, in a line; 0: it is constant."""

    def __post_init__(self) -> None:
        for name, share in (("share", self.share), ("start", self.start)):
            if not 0 <= share <= 0.5:
                raise ValueError(f"{name} is {share}, but must be a share of pairs from 0 to 0.5")
        if self.ramp_batches < 0:
            raise ValueError(f"ramp_batches is {self.ramp_batches}, but must be 0 or more")

    def __call__(self, distances: jax.Array, counted: jax.Array, batches: jax.Array) -> jax.Array:
        """τ is the distance of rank share · pairs, so that so many pairs lie below it.

        The rank is even: a pair counts in both orders, and one of them alone is not to be mined
        where devices round the two differently. 0 without any pair.
        """
        share = jnp.float32(self.share)
        if self.ramp_batches:
            done = jnp.minimum(batches / self.ramp_batches, 1.0).astype(jnp.float32)
            share = self.start + (self.share - self.start) * done
        pairs = mesh.total(jnp.sum(counted, dtype=jnp.int32))
        rank = 2 * jnp.round(share * pairs.astype(jnp.float32) / 2).astype(jnp.int32)
        return jnp.where(pairs > 0, of_rank(distances, counted, rank), 0.0)


def of_rank(values: jax.Array, counted: jax.Array, rank: jax.Array) -> jax.Array:
    """f32[]: the value of rank i32[], from 0, among the counted ones on all devices; infinity if
    there are not so many.

    values f32[b, B], 0 or more, on each device; NaN ranks last. Found bit by bit, by counting the
    values up to a candidate: 31 passes, of which devices exchange one number each. No device holds
    more than its own values.
    """
    order = jax.lax.bitcast_convert_type(values.astype(jnp.float32), jnp.int32)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        below = mesh.total(jnp.sum(counted & (order <= middle), dtype=jnp.int32))
        enough = below > rank
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    ends = jnp.int32(0), jnp.int32(INFINITE)
    _, found = jax.lax.fori_loop(0, 32, halve, ends)
    return jax.lax.bitcast_convert_type(found, jnp.float32)
