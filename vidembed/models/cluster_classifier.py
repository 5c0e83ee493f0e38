"""Score an embedding against classes, by a table with one vector per class (GCML).

A score is the product of the video's unit vector with the class's vector; the paper's form is
NOT ESTABLISHED. The table may exceed a device's memory: it is split by class over the mesh's model
axis, and the functions here work on any of its rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from vidembed.models.parameters import Parameters
from vidembed.pairwise import normalise

KERNEL, LOG_SCALE = "classes/kernel", "classes/log_scale"
ROWS_MULTIPLE = 256
"""The number of rows is padded to a multiple of this, so that the shape is the same on every mesh
and splits over any model axis that divides 256. Padding rows are zero, and never classes."""


class ClusterClassifier(Protocol):
    """How classes are scored: its parameters, and the vectors to multiply embeddings with."""

    @property
    def split_axes(self) -> dict[str, int | None]:
        """Parameter → the axis that is split over the mesh's model axis, or None."""

    def initialise(self, key: jax.Array, classes: int, size: int) -> Parameters:
        """{"classes/kernel": f32[Cp, D]}, Cp = `padded(classes)`, and other learnt parameters."""

    def scale_of(self, parameters: Mapping[str, jax.Array]) -> jax.Array:
        """f32[]: the factor of the scores."""

    def vectors(self, rows: jax.Array) -> jax.Array:
        """The vectors f32[N, D] to multiply embeddings with, from rows f32[N, D] of the table."""


@dataclass(frozen=True, kw_only=True)
class CosineClassifier:
    """Scores are cosines times a scale, so that long class vectors have no advantage."""

    scale: float = 16.0
    """Factor of the cosines (its initial value if it is learnt). It bounds the confidence of the
    softmax: among C classes that are otherwise orthogonal to the video, a perfect match has the
    probability e^scale / (e^scale + C − 1), about 0.9 for 16 and a million classes (NormFace, Wang
    et al. 2017, 3.3)."""
    learn_scale: bool = True
    """Learn the logarithm of the scale; otherwise the scale is constant."""

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale {self.scale} must be above zero")

    @property
    def split_axes(self) -> dict[str, int | None]:
        """Parameter → the axis that is split over the mesh's model axis, or None."""
        return {KERNEL: 0} | ({LOG_SCALE: None} if self.learn_scale else {})

    def initialise(self, key: jax.Array, classes: int, size: int) -> Parameters:
        """{"classes/kernel": f32[Cp, D]}, Cp = `padded(classes)`, and "classes/log_scale": f32[]
        if it is learnt."""
        parameters = _kernel(key, classes, size)
        if self.learn_scale:
            parameters[LOG_SCALE] = jnp.log(jnp.float32(self.scale))
        return parameters

    def scale_of(self, parameters: Mapping[str, jax.Array]) -> jax.Array:
        """f32[]: the factor of the cosines."""
        if self.learn_scale:
            return jnp.exp(parameters[LOG_SCALE])
        return jnp.float32(self.scale)

    def vectors(self, rows: jax.Array) -> jax.Array:
        """The rows f32[N, D], scaled to unit length."""
        return normalise(rows)


@dataclass(frozen=True, kw_only=True)
class DotClassifier:
    """Scores are plain dot products: long vectors make a class more likely and more confident."""

    @property
    def split_axes(self) -> dict[str, int | None]:
        """Parameter → the axis that is split over the mesh's model axis, or None."""
        return {KERNEL: 0}

    def initialise(self, key: jax.Array, classes: int, size: int) -> Parameters:
        """{"classes/kernel": f32[Cp, D]}, Cp = `padded(classes)`."""
        return _kernel(key, classes, size)

    def scale_of(self, parameters: Mapping[str, jax.Array]) -> jax.Array:
        """f32[]: 1."""
        return jnp.ones((), jnp.float32)

    def vectors(self, rows: jax.Array) -> jax.Array:
        """The rows f32[N, D], unchanged."""
        return rows


def padded(classes: int) -> int:
    """Cp: the number of rows of the table, including padding."""
    return -(-classes // ROWS_MULTIPLE) * ROWS_MULTIPLE


def _kernel(key: jax.Array, classes: int, size: int) -> Parameters:
    """Rows of length about 1, zero for padding."""
    rows = jax.random.normal(key, (padded(classes), size)) / jnp.sqrt(jnp.float32(size))
    return {KERNEL: jnp.where(jnp.arange(len(rows))[:, None] < classes, rows, 0.0)}
