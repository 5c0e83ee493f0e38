"""Each pair of a batch by itself: is the text of this video, or not? (SigLIP, Zhai et al. 2023.)"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import jax
import jax.numpy as jnp

from vidembed.losses.info_nce import check_temperature
from vidembed.losses.ranking import negatives, own_scores


@dataclass(frozen=True, kw_only=True)
class Sigmoid:
    """−log σ(s(own) / τ + b) − Σ log σ(−s / τ − b) over the negatives, with learned τ and b.

    In both directions together every pair counts twice, where SigLIP counts it once: the same loss
    at twice the rate. A row without a negative still has the term of its positive.
    """

    temperature: float = 0.1
    """τ at the start of training; its logarithm is learned."""
    bias: float = -10.0
    """b at the start: about the logarithm of a pair's odds to be a true one, since most are not."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not abs(self.bias) < float("inf"):
            raise ValueError(f"bias is {self.bias}, but must be finite (-10 in SigLIP)")

    @property
    def learned(self) -> dict[str, float]:
        """The natural logarithm of the temperature, and the bias."""
        return {"log_temperature": log(self.temperature), "bias": self.bias}

    def __call__(
        self,
        scores: jax.Array,
        own: jax.Array,
        forbidden: jax.Array,
        *,
        parameters: Mapping[str, jax.Array],
    ) -> jax.Array:
        """scores f32[b, N], own i32[b], forbidden bool[b, N] → f32[b], not reduced."""
        logits = scores / jnp.exp(parameters["log_temperature"]) + parameters["bias"]
        allowed = negatives(scores, own, forbidden)
        wrong = jnp.sum(jnp.where(allowed, jax.nn.softplus(logits), 0.0), axis=1)
        return jax.nn.softplus(-own_scores(logits, own)) + wrong
