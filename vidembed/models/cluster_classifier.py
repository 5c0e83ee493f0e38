"""The classes that an embedding is told apart by: a table with a vector for each (GCML).

A score is a product of the video's unit vector with the class's vector; which form the paper uses
is NOT ESTABLISHED. The table may be longer than a device's memory: it is split over the mesh's
model axis by class, and functions here work on any rows of it.
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
"""The table's rows are padded to a multiple of this: its shape is then the same on every mesh, and
divides over any model axis that divides 256. Padded rows are zero, and never classes."""


class ClusterClassifier(Protocol):
    """How a class is scored: its parameters, and what of them embeddings are multiplied with."""

    @property
    def split_axes(self) -> dict[str, int | None]:
        """The axis of each parameter that is split over the mesh's model axis; None is not."""

    def initialise(self, key: jax.Array, classes: int, size: int) -> Parameters:
        """{"classes/kernel": f32[Cp, D]}, Cp as `padded` has it, and what else is learnt."""

    def scale_of(self, parameters: Mapping[str, jax.Array]) -> jax.Array:
        """f32[]: what scores are multiplied by."""

    def vectors(self, rows: jax.Array) -> jax.Array:
        """Rows of the table f32[N, D] as what embeddings are multiplied with, f32[N, D]."""


@dataclass(frozen=True, kw_only=True)
class CosineClassifier:
    """Scores are cosines times a scale: no class gains by a long vector."""

    scale: float = 16.0
    """What cosines are multiplied by, at the start where it is learnt. It bounds how sure a softmax
    can be: among C classes that are orthogonal to the video a perfect match has the probability
    e^scale / (e^scale + C − 1), at 16 about 0.9 of a million (NormFace, Wang et al. 2017, 3.3)."""
    learn_scale: bool = True
    """Learn the scale's logarithm with the rest; else it stays."""

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale {self.scale} must be above zero")

    @property
    def split_axes(self) -> dict[str, int | None]:
        """The axis of each parameter that is split over the mesh's model axis; None is not."""
        return {KERNEL: 0} | ({LOG_SCALE: None} if self.learn_scale else {})

    def initialise(self, key: jax.Array, classes: int, size: int) -> Parameters:
        """{"classes/kernel": f32[Cp, D]}, Cp as `padded` has it, and "classes/log_scale": f32[]
        where it is learnt."""
        parameters = _kernel(key, classes, size)
        if self.learn_scale:
            parameters[LOG_SCALE] = jnp.log(jnp.float32(self.scale))
        return parameters

    def scale_of(self, parameters: Mapping[str, jax.Array]) -> jax.Array:
        """f32[]: what cosines are multiplied by."""
        if self.learn_scale:
            return jnp.exp(parameters[LOG_SCALE])
        return jnp.float32(self.scale)

    def vectors(self, rows: jax.Array) -> jax.Array:
        """Rows of the table f32[N, D] as what embeddings are multiplied with, f32[N, D]."""
        return normalise(rows)


@dataclass(frozen=True, kw_only=True)
class DotClassifier:
    """Scores are plain products: long vectors make a class likelier, and surer."""

    @property
    def split_axes(self) -> dict[str, int | None]:
        """The axis of each parameter that is split over the mesh's model axis."""
        return {KERNEL: 0}

    def initialise(self, key: jax.Array, classes: int, size: int) -> Parameters:
        """{"classes/kernel": f32[Cp, D]}, Cp as `padded` has it."""
        return _kernel(key, classes, size)

    def scale_of(self, parameters: Mapping[str, jax.Array]) -> jax.Array:
        """f32[]: 1."""
        return jnp.ones((), jnp.float32)

    def vectors(self, rows: jax.Array) -> jax.Array:
        """Rows of the table f32[N, D], as they are."""
        return rows


def padded(classes: int) -> int:
    """Cp: the rows of a table of so many classes."""
    return -(-classes // ROWS_MULTIPLE) * ROWS_MULTIPLE


def _kernel(key: jax.Array, classes: int, size: int) -> Parameters:
    """Rows of length about 1, zero for padding."""
    rows = jax.random.normal(key, (padded(classes), size)) / jnp.sqrt(jnp.float32(size))
    return {KERNEL: jnp.where(jnp.arange(len(rows))[:, None] < classes, rows, 0.0)}
