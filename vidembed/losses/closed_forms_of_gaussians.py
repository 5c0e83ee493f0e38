"""Match probabilities without samples: of an expected distance (PCME++), or product (ProLIP).

Both are the sigmoid of an expectation over two Gaussians, in products of B × D matrices. They
replace `match_probability.Sampled`; what else the two papers do is not here: PCME++'s
pseudo-positives and mixed labels, ProLIP's inclusion loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vidembed.losses.match_probability import Logarithms, check_positive, squared_distances
from vidembed.losses.mixtures import Mixtures
from vidembed.pairwise import in_blocks


@dataclass(frozen=True, kw_only=True)
class ExpectedDistance:
    """sigmoid(b − a (‖μ − μ'‖² + Σ(σ² + σ'²))), the expected squared distance (PCME++, ICLR 2024).

    Differs from `Sampled` in the square, too: large variances lower the probability outright.
    """

    scale: float = 5.0
    """a at the start, as in PCME++."""
    shift: float = 5.0
    """b at the start, as in PCME++."""

    def __post_init__(self) -> None:
        check_positive("scale", self.scale)

    @property
    def learned(self) -> dict[str, float]:
        """a and b."""
        return {"scale": self.scale, "shift": self.shift}

    @property
    def sampled(self) -> bool:
        """It reads no samples."""
        return False

    def __call__(
        self, own: Mixtures, pool: Mixtures, *, parameters: Mapping[str, jax.Array], block: int
    ) -> Logarithms:
        """Memory: about 3 · block · B · 4 bytes."""
        centre = jax.lax.stop_gradient(jnp.mean(pool.mean, axis=0))
        columns = pool.mean - jnp.broadcast_to(centre, pool.mean.shape)

        def of_block(mean: jax.Array, variance: jax.Array) -> Logarithms:
            rows = mean - jnp.broadcast_to(centre, mean.shape)
            apart = squared_distances(rows, columns) + _summed(variance, pool.variance)
            return _logarithms(parameters["shift"] - parameters["scale"] * apart)

        return in_blocks(of_block, own.mean, own.variance, block=block)


@dataclass(frozen=True, kw_only=True)
class ExpectedSimilarity:
    """sigmoid(a (μ·μ' − ½ Σ(σ² + σ'²)) + b), with the pairwise sigmoid loss (ProLIP, ICLR 2025).

    The negative bias suits a sum over all pairs, of which nearly all are negative: use it with
    average "together". ProLIP starts log σ² at −10, and its KL divergence counts 1e-5.
    """

    scale: float = 10.0
    """a at the start, as in ProLIP."""
    shift: float = -10.0
    """b at the start, as in ProLIP."""

    def __post_init__(self) -> None:
        check_positive("scale", self.scale)

    @property
    def learned(self) -> dict[str, float]:
        """a and b."""
        return {"scale": self.scale, "shift": self.shift}

    @property
    def sampled(self) -> bool:
        """It reads no samples."""
        return False

    def __call__(
        self, own: Mixtures, pool: Mixtures, *, parameters: Mapping[str, jax.Array], block: int
    ) -> Logarithms:
        """Memory: about 3 · block · B · 4 bytes."""

        def of_block(mean: jax.Array, variance: jax.Array) -> Logarithms:
            products = jnp.matmul(mean, pool.mean.T, precision=jax.lax.Precision.HIGHEST)
            near = products - 0.5 * _summed(variance, pool.variance)
            return _logarithms(parameters["scale"] * near + parameters["shift"])

        return in_blocks(of_block, own.mean, own.variance, block=block)


def _summed(own: jax.Array, pool: jax.Array) -> jax.Array:
    """f32[r, B]: the total variances of f32[r, D] plus those of f32[B, D]."""
    shape = (len(own), len(pool))
    row = jnp.broadcast_to(jnp.sum(own, axis=-1)[:, None], shape)
    return row + jnp.broadcast_to(jnp.sum(pool, axis=-1)[None], shape)


def _logarithms(logits: jax.Array) -> Logarithms:
    return jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
