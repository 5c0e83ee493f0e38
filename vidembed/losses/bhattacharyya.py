"""The Bhattacharyya distance between all pairs of a batch (ProViCo, CVPR 2022).

Per dimension, for Gaussians of variances v, w whose means differ by δ:
¼ log(¼ (v/w + w/v + 2)) + λ δ² / (v + w). The textbook's distance has λ = ¼.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from vidembed.losses.mixtures import Mixtures
from vidembed.pairwise import in_blocks


@dataclass(frozen=True, kw_only=True)
class Bhattacharyya:
    """Distances of mixtures by their moments, or as the mean over all K² pairs of their samples."""

    mean_weight: float = 0.25
    """λ, the weight of the distance between the means; ¼ makes it the Bhattacharyya distance."""
    over_dimensions: Literal["mean", "sum"] = "mean"
    """sum: over the D dimensions, as in the paper. mean: thresholds do not depend on D."""
    sampled: bool = False
    """Average over the samples, as in the paper. Its expectation is the distance of the moments
    plus λ per dimension, the same for all pairs, so that it only adds noise to a quantile."""
    block: int = 32
    """Videos compared with the batch at a time; memory is at most about block · B · D · 4 bytes."""

    def __post_init__(self) -> None:
        if not 0 < self.mean_weight < float("inf"):
            raise ValueError(
                f"mean_weight is {self.mean_weight}, but must be above 0 (¼: textbook)"
            )
        if self.over_dimensions not in ("mean", "sum"):
            raise ValueError(f"over_dimensions must be mean or sum, found {self.over_dimensions!r}")
        if self.block < 1:
            raise ValueError(f"block is {self.block}, but must be 1 video or more")

    def __call__(self, own: Mixtures, pool: Mixtures) -> jax.Array:
        """f32[b, B]: the distance of each of b own mixtures to each of the pool's B.

        The mean of δ² over all K² pairs of samples is the squared difference of the samples' means
        plus both variances of the samples, so that no pairs of samples are made.
        """
        pool_mean, pool_extra = self._locations(pool)

        def of_block(mean: jax.Array, extra: jax.Array, variance: jax.Array) -> jax.Array:
            """[r, D] each → f32[r, B]."""
            # Rows of padding have variance 0, and 0/0 would reach the gradient of the pool.
            variance = jnp.where(variance > 0, variance, 1.0)
            shape = (len(mean), *pool_mean.shape)
            m, e, v = (jnp.broadcast_to(x[:, None], shape) for x in (mean, extra, variance))
            pooled = (pool_mean, pool_extra, pool.variance)
            n, f, w = (jnp.broadcast_to(x[None], shape) for x in pooled)
            apart = self.mean_weight * (jnp.square(m - n) + (e + f)) / (v + w)
            return jnp.sum(shapes_apart(v, w) + apart, axis=-1)

        sums = in_blocks(of_block, *self._locations(own), own.variance, block=self.block)
        return sums / pool.mean.shape[-1] if self.over_dimensions == "mean" else sums

    def per_dimension(self, distances: jax.Array, dimensions: int) -> jax.Array:
        """Distances or a threshold as a mean over the dimensions, whatever `over_dimensions` is."""
        return distances / dimensions if self.over_dimensions == "sum" else distances

    def _locations(self, mixtures: Mixtures) -> tuple[jax.Array, jax.Array]:
        """The mean f32[B, D], and by how much it adds to δ²: the variance of the samples."""
        if not self.sampled:
            return mixtures.mean, jnp.zeros_like(mixtures.mean)
        mean = jnp.mean(mixtures.samples, axis=1)
        deviations = mixtures.samples - jnp.expand_dims(mean, 1)
        return mean, jnp.mean(jnp.square(deviations), axis=1)


def shapes_apart(v: jax.Array, w: jax.Array) -> jax.Array:
    """¼ log(¼ (v/w + w/v + 2)) of positive variances, f32[...] twice → f32[...].

    Equal to ¼ log(1 + (v − w)² / 4vw), which does not round small differences to zero.
    """
    difference = v - w
    return 0.25 * jnp.log1p(0.25 * (difference / v) * (difference / w))
