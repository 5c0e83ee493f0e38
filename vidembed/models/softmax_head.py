"""Label videos by a softmax over classes: for data with one label per video, such as Sports-1M."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vidembed.distributed import mesh
from vidembed.models.cluster_classifier import padded
from vidembed.models.label_classifier import label_table, without_unknown
from vidembed.models.parameters import Parameters

KERNEL, BIAS = "classes/kernel", "classes/bias"


@dataclass(frozen=True, kw_only=True)
class SoftmaxHead:
    """Classes exclude one another: their probabilities sum to 1."""

    @property
    def split_axes(self) -> dict[str, int | None]:
        """Parameter → the axis that is split over the mesh's model axis: all by class."""
        return {KERNEL: 0, BIAS: 0}

    def initialise(self, key: jax.Array, *, size: int, biases: jax.Array) -> Parameters:
        """Parameters of C classes for z f32[B, D], D = `size`; biases f32[C]: their log-odds.

        {"classes/kernel": f32[Cp, D], zero, "classes/bias": f32[Cp]}, Cp = `padded(C)`. Before
        training, a class has its share of the sum of the priors σ(bias).
        """
        del key
        (count,), rows = biases.shape, padded(len(biases))
        bias = jnp.pad(jax.nn.log_sigmoid(biases).astype(jnp.float32), (0, rows - count))
        return {KERNEL: jnp.zeros((rows, size)), BIAS: bias}

    def loss(
        self,
        parameters: Mapping[str, jax.Array],
        z: jax.Array,
        labels: jax.Array,
        count: jax.Array | int,
    ) -> jax.Array:
        """f32[B]: the mean of −log p over the labels of each video; 0 for a video without labels.

        z f32[B, D] and labels i32[B, L], padded with −1, are split over the data axis; `count`, C,
        leaves out padding classes. A label outside the classes makes the video's loss NaN.
        """
        by_class, split, whole = mesh.model_spec(0), mesh.batch_spec(0), mesh.model_spec(None)
        run = mesh.on_devices(_losses, (by_class, split, split, whole), split)
        count = jnp.asarray(count)
        return without_unknown(run(dict(parameters), z, labels, count), labels, count)

    def weighted_loss(
        self,
        parameters: Mapping[str, jax.Array],
        z: jax.Array,
        labels: jax.Array,
        count: jax.Array | int,
        weights: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """(f32[]: Σ weights · loss, f32[B]: the losses, without a gradient)."""
        losses = self.loss(parameters, z, labels, count)
        total = jnp.sum(losses * jax.lax.stop_gradient(weights))
        return total, jax.lax.stop_gradient(losses)

    def logits(
        self,
        parameters: Mapping[str, jax.Array],
        z: jax.Array,
        count: jax.Array | int | None = None,
    ) -> jax.Array:
        """f32[B, Cp]: log p of each class plus a number per video; −inf from class `count` on.

        Without a count, padding has numbers without a meaning. Needs no mesh.
        """
        logits, rows = _score(parameters, z), len(parameters[BIAS])
        return jnp.where(
            jnp.arange(rows)[None] < (rows if count is None else count), logits, -jnp.inf
        )

    def scores(
        self,
        parameters: Mapping[str, jax.Array],
        z: jax.Array,
        count: jax.Array | int | None = None,
    ) -> jax.Array:
        """f32[B, Cp]: the probability of each class; 0 from class `count` on."""
        return jax.nn.softmax(self.logits(parameters, z, count), axis=1)


def _score(parameters: Mapping[str, jax.Array], z: jax.Array) -> jax.Array:
    product = jnp.matmul(z, parameters[KERNEL].T, precision=jax.lax.Precision.HIGHEST)
    return product + parameters[BIAS][None]


def _losses(parameters: Parameters, z: jax.Array, labels: jax.Array, count: jax.Array) -> jax.Array:
    """f32[b] on one device with b videos and part of the classes."""
    numbers = mesh.class_numbers(parameters[BIAS])
    logits = jnp.where((numbers < count)[None], _score(parameters, z), -jnp.inf)
    peak = mesh.largest_over_classes(jnp.max(logits, axis=1))
    total = mesh.over_classes(jnp.sum(jnp.exp(logits - peak[:, None]), axis=1))
    own = label_table(labels, numbers).T
    labelled = mesh.over_classes(jnp.sum(own, axis=1, dtype=jnp.float32))
    of_labels = mesh.over_classes(jnp.sum(jnp.where(own, logits, 0.0), axis=1))
    mean = of_labels / jnp.maximum(labelled, 1.0)
    return jnp.where(labelled > 0, peak + jnp.log(total) - mean, 0.0)
