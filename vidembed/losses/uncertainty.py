"""What variances do to a loss: they weigh its pairs, and are themselves held (ProViCo, CVPR 2022).

The paper divides the loss of a pair by its deviations, adds the logarithms of its variances, and
adds a KL divergence to N(0, I). These are three switches here: `weight`, `regulariser` and `kl`.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from vidembed.losses.mixtures import Clips, Moments


@dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """How the variances of two mixtures count in the loss of their pair.

    With weight "variances", the loss of a pair is L / s² + log s with s = σ_i σ_j, which is least
    at s² = 2L (Kendall and Gal, 2017). It can be negative: see the measure match_loss.
    """

    variance: Literal["total", "per_dimension"] = "total"
    """σ² in the weight and the regulariser. total: the sum over the D dimensions, between 0 and
    about 1 for means of length 1. per_dimension: both are computed in each dimension, and averaged
    over them; the paper can be read so, but variances of about 1/D make weights of about D²."""
    weight: Literal["variances", "deviations", "none"] = "variances"
    """The loss of a pair is divided by σ_i² σ_j² (variances) or σ_i σ_j (deviations), which are the
    two ways to read the paper; none: all pairs count alike."""
    regulariser: float = 1.0
    """Weight of ½ (log σ_i² + log σ_j²), added to the loss of a pair; 0: without."""
    kl: Literal["clip", "mixture", "none"] = "clip"
    """KL divergence to N(0, I), summed over the dimensions: the mean over all clips, or over the
    Gaussians with the moments of the videos. The paper does not say which. The means of clips have
    length 1, so that for them it only holds the variances."""
    kl_weight: float = 1e-4
    """β, the weight of the KL divergence. 1e-4, the paper's, hardly holds the variances."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("variance", ("total", "per_dimension")),
            ("weight", ("variances", "deviations", "none")),
            ("kl", ("clip", "mixture", "none")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, found {getattr(self, name)!r}"
                )
        for name in ("regulariser", "kl_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}, but must be 0 or more")

    def factors(self, variance: jax.Array) -> jax.Array:
        """f32[B, D] → f32[B, S]: the weight of a pair is the product of its two rows, ·/S summed;
        S is 1 or D. Without a weight, rows of ones."""
        if self.weight == "none":
            return jnp.ones((len(variance), 1), jnp.float32)
        logarithm = jnp.log(self._of(variance))
        # A power would have a gradient of the square of a small variance's inverse.
        return jnp.exp(-logarithm if self.weight == "variances" else -0.5 * logarithm)

    def logarithms(self, variance: jax.Array) -> jax.Array:
        """½ log σ² f32[B] of variances f32[B, D], the part of each video in the regulariser."""
        return 0.5 * jnp.mean(jnp.log(self._of(variance)), axis=-1)

    def divergence(self, clips: Clips, mixtures: Moments, valid: jax.Array) -> jax.Array:
        """f32[]: the KL divergence to N(0, I), not weighted: the mean over the clips that are
        present, or over the valid videos bool[B]. 0 if kl is "none"."""
        if self.kl == "none":
            return jnp.zeros((), jnp.float32)
        if self.kl == "mixture":
            variance = mixtures.variance
            return _mean(to_standard(mixtures.mean, variance, jnp.log(variance)), valid)
        # The inner `where` keeps an overflow at an absent clip out of the gradient.
        present = jnp.broadcast_to(clips.present[..., None], clips.mean.shape)
        logarithm = jnp.where(present, clips.log_variance, 0.0)
        mean = jnp.where(present, clips.mean, 0.0)
        return _mean(to_standard(mean, jnp.exp(logarithm), logarithm), clips.present)

    def _of(self, variance: jax.Array) -> jax.Array:
        total = self.variance == "total"
        return jnp.sum(variance, axis=-1, keepdims=True) if total else variance


def measures(clips: Clips, mixtures: Moments, bounds: tuple[float, float]) -> dict[str, jax.Array]:
    """What shows that variances vanish or explode, f32[] each.

    `deviation`: the mean σ of a clip, per dimension. `within` and `between`: the mean total
    variance of a video's clips, and of their means; the means have length 1. `at_lowest` and
    `at_highest`: the share of log-variances at the bounds of the heads.
    """
    of_clips = clips.present
    valid = jnp.any(of_clips, axis=1)
    logarithm = jnp.where(of_clips[..., None], clips.log_variance, 0.0)
    lowest, highest = bounds
    return {
        "deviation": _mean(jnp.mean(jnp.exp(0.5 * logarithm), axis=-1), of_clips),
        "within": _mean(jnp.sum(mixtures.within, axis=-1), valid),
        "between": _mean(jnp.sum(mixtures.between, axis=-1), valid),
        "at_lowest": _mean(jnp.mean(logarithm <= lowest, axis=-1, dtype=jnp.float32), of_clips),
        "at_highest": _mean(jnp.mean(logarithm >= highest, axis=-1, dtype=jnp.float32), of_clips),
    }


def weights(own: jax.Array, pool: jax.Array) -> jax.Array:
    """f32[b, B]: weights of pairs from the factors f32[b, S] and f32[B, S] of both sides."""
    products = jnp.matmul(own, pool.T, precision=jax.lax.Precision.HIGHEST)
    return products / own.shape[-1]


def to_standard(mean: jax.Array, variance: jax.Array, logarithm: jax.Array) -> jax.Array:
    """KL(N(μ, σ²) ‖ N(0, I)) = ½ Σ (σ² + μ² − 1 − log σ²), f32[..., D] each → f32[...]."""
    return 0.5 * jnp.sum(variance + jnp.square(mean) - 1 - logarithm, axis=-1)


def _mean(values: jax.Array, counted: jax.Array) -> jax.Array:
    total = jnp.sum(jnp.where(counted, values, 0.0))
    return total / jnp.maximum(jnp.sum(counted, dtype=jnp.float32), 1)
