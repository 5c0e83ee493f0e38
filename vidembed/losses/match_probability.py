"""The probability that two videos match, from their samples (PCME, CVPR 2021; ProViCo, CVPR 2022).

p = K⁻² ΣΣ sigmoid(b − a ‖z − z'‖) over all pairs of samples, with learned a and b. Logarithms of p
and of 1 − p are log-sums of exponentials: the logarithm of a mean that has underflowed is infinite.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Literal, Protocol

import jax
import jax.numpy as jnp

from vidembed.losses.mixtures import Mixtures
from vidembed.pairwise import in_blocks

NEAREST = 1e-3
"""Distances below this have no gradient: they are rounding of the squares that they come from."""
Logarithms = tuple[jax.Array, jax.Array]
"""log p and log(1 − p), f32[b, B] each."""


class Match(Protocol):
    """How probable it is that two videos match."""

    @property
    def learned(self) -> Mapping[str, float]:
        """Parameters that are trained, with their initial values."""

    @property
    def sampled(self) -> bool:
        """Whether it reads the samples of the mixtures."""

    def __call__(
        self, own: Mixtures, pool: Mixtures, *, parameters: Mapping[str, jax.Array], block: int
    ) -> Logarithms:
        """(log p, log(1 − p)) f32[b, B] of each own mixture with each of the pool, by at most
        `block` own mixtures at a time."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """The mean over all K² pairs of samples of a sigmoid of their distance."""

    scale: float = 10.0
    """a at the start. PCME: 15 or 5; at 1 nothing trains."""
    shift: float = 10.0
    """b at the start. PCME: 15 or 5."""
    sigmoid: Literal["plain", "symmetric"] = "plain"
    """symmetric: e^x / (e^x + e^−x) = sigmoid(2x), as in PCME's published code."""

    def __post_init__(self) -> None:
        check_positive("scale", self.scale)
        if self.sigmoid not in ("plain", "symmetric"):
            raise ValueError(f"sigmoid must be plain or symmetric, found {self.sigmoid!r}")

    @property
    def learned(self) -> dict[str, float]:
        """a and b."""
        return {"scale": self.scale, "shift": self.shift}

    @property
    def sampled(self) -> bool:
        """It reads the samples."""
        return True

    def __call__(
        self, own: Mixtures, pool: Mixtures, *, parameters: Mapping[str, jax.Array], block: int
    ) -> Logarithms:
        """Memory: about 4 · block · K · B · K · 4 bytes."""
        videos, samples, width = pool.samples.shape
        # Distances do not change with the origin; near the batch, squares round less.
        centre = jax.lax.stop_gradient(jnp.mean(pool.mean, axis=0))
        columns = _from(pool.samples.reshape(-1, width), centre)
        double = 2.0 if self.sigmoid == "symmetric" else 1.0

        def of_block(number: jax.Array, given: jax.Array) -> Logarithms:
            """i32[r], f32[r, K, D] → f32[r, B] twice."""
            rows = _from(given.reshape(-1, width), centre)
            squares = squared_distances(rows, columns)
            squares = squares.reshape(len(number), samples, videos, samples)
            same = (number[:, None] == pool.number[None])[:, None, :, None]
            of_itself = same & jnp.eye(samples, dtype=bool)[None, :, None, :]
            logits = parameters["shift"] - parameters["scale"] * _root(squares, of_itself)
            logits *= double
            return tuple(
                jax.nn.logsumexp(jax.nn.log_sigmoid(x), axis=(1, 3)) - 2 * log(samples)
                for x in (logits, -logits)
            )  # type: ignore[return-value]

        return in_blocks(of_block, own.number, own.samples, block=block)


def squared_distances(rows: jax.Array, columns: jax.Array) -> jax.Array:
    """f32[b, N] of f32[b, D] and f32[N, D], from products: no array of b · N · D numbers.

    Rounded by about 1e-7 of the squared lengths, and so perhaps below 0 for equal rows.
    """
    products = jnp.matmul(rows, columns.T, precision=jax.lax.Precision.HIGHEST)
    lengths = (jnp.sum(jnp.square(x), axis=-1) for x in (rows, columns))
    row, column = (jnp.broadcast_to(x, products.shape) for x in _crossed(*lengths))
    return row + column - 2 * products


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless the value is above 0 and finite."""
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} is {value}, but must be above 0")


def _root(squares: jax.Array, zero: jax.Array) -> jax.Array:
    """√ of squares, 0 where `zero`; without a gradient below NEAREST, where it would be that of
    rounding, or infinite."""
    far = (squares > NEAREST**2) & ~zero
    near = jax.lax.stop_gradient(jnp.sqrt(jnp.where(zero, 0.0, jnp.maximum(squares, 0.0))))
    # The inner `where` keeps 1/0 out of the gradient of the unused branch. NaN is not `far`, and
    # stays NaN.
    return jnp.where(far, jnp.sqrt(jnp.where(far, squares, 1.0)), near)


def _from(vectors: jax.Array, centre: jax.Array) -> jax.Array:
    return vectors - jnp.broadcast_to(centre, vectors.shape)


def _crossed(row: jax.Array, column: jax.Array) -> tuple[jax.Array, jax.Array]:
    return row[:, None], column[None]
