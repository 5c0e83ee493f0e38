"""Two heads that turn a clip's feature into a Gaussian (ProViCo, CVPR 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import log

import jax
import jax.numpy as jnp
from flax import nnx

from vidembed.models.fusion import Dense
from vidembed.pairwise import normalise

CLIPS = "clips"
"""The name of the features that the heads read."""


class TwoHeads(nnx.Module):
    """clips f32[..., F] → f32[2, ..., D]: means of unit length, and log-variances."""

    def __init__(self, shape: "GaussianHeads", inputs: int, rngs: nnx.Rngs) -> None:
        self.bounds = shape.lowest, shape.highest
        self.mean = Dense(inputs, shape.size, compute="float32", rngs=rngs)
        self.norm = nnx.LayerNorm(shape.size, use_fast_variance=False, rngs=rngs)
        self.log_variance = Dense(inputs, shape.size, compute="float32", rngs=rngs)
        self.log_variance.kernel[...] = jnp.zeros((inputs, shape.size), jnp.float32)
        self.log_variance.bias[...] = jnp.full((shape.size,), shape.begin, jnp.float32)

    def __call__(
        self,
        features: Mapping[str, jax.Array],
        key: jax.Array | None,
        present: Mapping[str, jax.Array],
    ) -> jax.Array:
        del key, present  # the heads have no dropout, and missing clips are left out of mixtures
        x = features[CLIPS].astype(jnp.float32)
        mean = normalise(self.norm(self.mean(x)))
        return jnp.stack([mean, bounded(self.log_variance(x), *self.bounds)])


@dataclass(frozen=True, kw_only=True)
class GaussianHeads:
    """μ = L2(LayerNorm(FC v)) and log σ² = FC' v, with weights of their own.

    The paper's second head gives the covariance itself; a logarithm keeps it positive, as in PCME.
    """

    size: int = 128
    """D, the dimensions of the embedding."""
    start: float | None = None
    """log σ² of each dimension before training; none: −log D − 3, a total variance of 0.05 beside
    a mean of length 1. At 0 the noise drowns the means, and nothing trains."""
    lowest: float = -12.0
    """The smallest log σ²; below it, only gradients that raise it pass."""
    highest: float = 2.0
    """The largest log σ²; above it, only gradients that lower it pass."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}, but must be 1 or more dimensions")
        if not self.lowest < self.begin < self.highest:
            raise ValueError(
                f"log σ² starts at {self.begin:.4g}, but must lie between lowest {self.lowest:g} "
                f"and highest {self.highest:g}"
            )

    @property
    def begin(self) -> float:
        """log σ² before training."""
        return -log(self.size) - 3 if self.start is None else self.start

    @property
    def modalities(self) -> tuple[str, ...]:
        """The features that it reads."""
        return (CLIPS,)

    def module(self, widths: Mapping[str, int], rngs: nnx.Rngs) -> TwoHeads:
        """The heads for features of width widths["clips"]."""
        return TwoHeads(self, widths[CLIPS], rngs)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def bounded(x: jax.Array, low: float, high: float) -> jax.Array:
    """x f32[...] clipped to [low, high], with a gradient that can bring it back.

    The gradient of a clip is zero outside the range: a value that leaves it never returns. Here,
    gradients whose descent moves x towards the range pass.
    """
    return jnp.clip(x, low, high)


def _forward(x: jax.Array, low: float, high: float) -> tuple[jax.Array, jax.Array]:
    return bounded(x, low, high), x


def _backward(low: float, high: float, x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    outward = ((x < low) & (gradient > 0)) | ((x > high) & (gradient < 0))
    return (jnp.where(outward, 0.0, gradient),)


bounded.defvjp(_forward, _backward)
