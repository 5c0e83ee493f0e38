"""Score a video's vector against label classes: what such classifiers share.

Parameters are split by class over the mesh's model axis, with Cp = `padded(C)` rows.
"""

from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp

from vidembed.models.parameters import Parameters


class LabelClassifier(Protocol):
    """A learnt score for each class, and the loss of a video given the classes that it has."""

    @property
    def split_axes(self) -> dict[str, int | None]:
        """Parameter → the axis that is split over the mesh's model axis, or None."""

    def initialise(self, key: jax.Array, *, size: int, biases: jax.Array) -> Parameters:
        """Parameters of C classes for vectors of `size`; biases f32[C]: their log-odds."""

    def loss(
        self,
        parameters: Mapping[str, jax.Array],
        z: jax.Array,
        labels: jax.Array,
        count: jax.Array | int,
    ) -> jax.Array:
        """f32[B]: the loss of each video; z f32[B, D] and labels i32[B, L], padded with −1, are
        split over the data axis. `count` is C. NaN for a video with a label of C or more."""

    def weighted_loss(
        self,
        parameters: Mapping[str, jax.Array],
        z: jax.Array,
        labels: jax.Array,
        count: jax.Array | int,
        weights: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """(f32[]: Σ weights · loss, f32[B]: the losses, without a gradient), to train with.

        The weights f32[B] have no gradient. At least as fast as the gradient of `loss`.
        """

    def logits(
        self,
        parameters: Mapping[str, jax.Array],
        z: jax.Array,
        count: jax.Array | int | None = None,
    ) -> jax.Array:
        """f32[B, Cp]: ranks as the scores do, and further where these round to 1; −inf from class
        `count` on."""

    def scores(
        self,
        parameters: Mapping[str, jax.Array],
        z: jax.Array,
        count: jax.Array | int | None = None,
    ) -> jax.Array:
        """f32[B, Cp]: the probability of each class; 0 from class `count` on."""


def label_table(labels: jax.Array, numbers: jax.Array) -> jax.Array:
    """bool[c, b]: whether a video has a class, for labels i32[b, L] and consecutive classes i32[c].

    Other classes, and the −1 of padding, count for nothing; a repeated label counts once.
    """
    local = labels - numbers[0]
    local = jnp.where(local < 0, len(numbers), local)  # a negative index would count from the end
    videos = jnp.broadcast_to(jnp.arange(len(labels))[:, None], labels.shape)
    table = jnp.zeros((len(numbers), len(labels)), bool)
    return table.at[local, videos].set(True, mode="drop")


def without_unknown(losses: jax.Array, labels: jax.Array, count: jax.Array) -> jax.Array:
    """The losses f32[B], NaN where a video has a label that is not a class: `count` or more."""
    return jnp.where(jnp.any(labels >= count, axis=1), jnp.nan, losses)
