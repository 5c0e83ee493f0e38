"""Softmax cross-entropy of the positive among the candidates of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import jax
import jax.numpy as jnp

from vidembed.losses.ranking import negatives, own_scores


@dataclass(frozen=True, kw_only=True)
class InfoNCE:
    """−log(e^(s(own) / τ) / Σ e^(s / τ)) over the positive and the negatives (van den Oord 2018).

    The temperature τ is learned through its logarithm (CLIP, Radford et al. 2021). A row without a
    negative has loss 0.
    """

    temperature: float = 0.07
    """τ at the start of training."""
    coldest: float = 0.01
    """The smallest τ that is used, as in CLIP: below it the logarithm has no gradient."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not 0 < self.coldest <= self.temperature:
            raise ValueError(
                f"coldest is {self.coldest}, but must be above 0 and at most the temperature "
                f"{self.temperature}, at which training starts"
            )

    @property
    def learned(self) -> dict[str, float]:
        """The natural logarithm of the temperature."""
        return {"log_temperature": log(self.temperature)}

    def __call__(
        self,
        scores: jax.Array,
        own: jax.Array,
        forbidden: jax.Array,
        *,
        parameters: Mapping[str, jax.Array],
    ) -> jax.Array:
        """scores f32[b, N], own i32[b], forbidden bool[b, N] → f32[b], not reduced.

        Computed as softplus(log Σ e^(negative / τ) − own / τ), which does not round a small loss
        to zero.
        """
        temperature = jnp.maximum(jnp.exp(parameters["log_temperature"]), self.coldest)
        allowed = negatives(scores, own, forbidden)
        some = jnp.any(allowed, axis=1)
        logits = scores / temperature
        # The inner `where` keeps −inf − (−inf) out of the gradient of rows without a negative.
        others = jnp.where(allowed, logits, jnp.where(some, -jnp.inf, 0.0)[:, None])
        beyond = jax.nn.logsumexp(others, axis=1)
        positive = own_scores(logits, own)
        return jnp.where(some, jax.nn.softplus(beyond - positive), 0.0 * positive)


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless the temperature is above 0."""
    if not 0 < temperature < float("inf"):
        raise ValueError(
            f"temperature is {temperature}, but must be above 0: scores are divided by it"
        )
