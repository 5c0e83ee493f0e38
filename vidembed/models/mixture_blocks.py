"""Losses and gradients of a mixture of experts, some classes at a time.

The parameters of a class are its experts f32[H, D] with biases f32[H], and gates f32[H + 1, D].
Every device has some classes (the mesh's model axis) and some videos (the data axis). It goes
through its classes in blocks: logits, losses, slopes and their products with the videos and the
parameters, all in one pass. The logits of a batch are thus never whole in memory, a block of them
stays in the cache of a CPU core, and the gradient of a class is only on the device that has it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from vidembed.distributed import mesh
from vidembed.models.label_classifier import label_table, without_unknown
from vidembed.models.mixture_terms import log_loss
from vidembed.models.parameters import Parameters

EXPERTS, BIASES = "classes/experts/kernel", "classes/experts/bias"
GATES, GATE_BIASES = "classes/gates/kernel", "classes/gates/bias"
EXPORTED = 512
"""Videos of a batch that the blocks of an exported program are made for."""


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def losses_of(
    block_bytes: int, parameters: Parameters, z: jax.Array, labels: jax.Array, count: jax.Array
) -> jax.Array:
    """f32[B]: the loss of each video. The backward pass repeats the forward pass."""
    return _losses(block_bytes, parameters, z, labels, count)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def total_and_losses(
    block_bytes: int,
    parameters: Parameters,
    z: jax.Array,
    labels: jax.Array,
    count: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """(f32[]: Σ weights · loss, f32[B]: losses). Only the total has a gradient, not by weights.

    The forward pass computes the gradient; the backward pass multiplies it with a number.
    """
    losses = _losses(block_bytes, parameters, z, labels, count)
    return jnp.sum(losses * weights), losses


def over_class_blocks(
    terms: Callable[[jax.Array, jax.Array | None], jax.Array],
    parameters: Parameters,
    z: jax.Array,
    *,
    block_bytes: int,
) -> jax.Array:
    """f32[b, c]: `log_odds` or `probability` of each class, on one device."""
    # An exported program has any number of videos, known only when it runs.
    videos = z.shape[0]
    blocks = _blocks(parameters, videos if isinstance(videos, int) else EXPORTED, block_bytes)
    values = jax.lax.map(lambda part: terms(*_score(part, z)).T, _cut(parameters, blocks))
    return jnp.moveaxis(values, 0, 1).reshape(videos, -1)


def _losses(
    block_bytes: int, parameters: Parameters, z: jax.Array, labels: jax.Array, count: jax.Array
) -> jax.Array:
    """f32[B]."""

    def on_device(*arguments: Any) -> jax.Array:
        parameters, z, labels, count = arguments

        def block(losses: jax.Array, classes: Any) -> tuple[jax.Array, None]:
            part, real, table = classes
            terms = log_loss(*_score(part, z), table, real)
            return losses + jnp.sum(terms.loss, axis=0), None

        blocks = _classes(block_bytes, parameters, z, labels, count)
        losses, _ = jax.lax.scan(block, _sums_from(len(z)), blocks)
        return mesh.over_classes(losses)

    by_class, split, whole = mesh.model_spec(0), mesh.batch_spec(0), mesh.model_spec(None)
    run = mesh.on_devices(on_device, (by_class, split, split, whole), split)
    return without_unknown(run(parameters, z, labels, count), labels, count)


def _losses_and_gradient(
    block_bytes: int,
    parameters: Parameters,
    z: jax.Array,
    labels: jax.Array,
    count: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array, Parameters, jax.Array]:
    """(losses f32[B], and the gradient of Σ weights · loss by the parameters and by z)."""

    def on_device(*arguments: Any) -> Any:
        parameters, z, labels, count, weights = arguments
        weighted = {3: z * weights[:, None], 2: weights[:, None]}

        def block(sums: tuple[jax.Array, jax.Array], classes: Any) -> Any:
            losses, by_z = sums
            part, real, table = classes
            terms = log_loss(*_score(part, z), table, real)
            gradient = {}
            for name, parameter in part.items():
                slopes = terms.by_experts if name in (EXPERTS, BIASES) else terms.by_gates
                assert slopes is not None
                slopes = slopes.reshape(-1, len(z))
                gradient[name] = _product(slopes, weighted[parameter.ndim], (1, 0))
                gradient[name] = gradient[name].reshape(parameter.shape)
                if parameter.ndim == 3:
                    by_z += _product(slopes, parameter.reshape(-1, z.shape[1]), (0, 0))
            # Summed here, since a sum of the whole gradient would hold it twice.
            return (losses + jnp.sum(terms.loss, axis=0), by_z), mesh.over_batch(gradient)

        blocks = _classes(block_bytes, parameters, z, labels, count)
        zeros = _sums_from(len(z)), _sums_from(*z.shape)
        (losses, by_z), gradient = jax.lax.scan(block, zeros, blocks)
        gradient = {name: g.reshape(parameters[name].shape) for name, g in gradient.items()}
        by_z = mesh.over_classes(by_z) * weights[:, None]
        return mesh.over_classes(losses), gradient, by_z

    by_class, split, whole = mesh.model_spec(0), mesh.batch_spec(0), mesh.model_spec(None)
    layout = by_class, split, split, whole, split
    run = mesh.on_devices(on_device, layout, (split, by_class, split))
    losses, gradient, by_z = run(parameters, z, labels, count, weights)
    return without_unknown(losses, labels, count), gradient, by_z


def _classes(
    block_bytes: int, parameters: Parameters, z: jax.Array, labels: jax.Array, count: jax.Array
) -> Any:
    """Blocks of a device's classes: (parameters, whether real, whether the videos have them)."""
    numbers = mesh.class_numbers(parameters[BIASES])
    classes = parameters, numbers < count, label_table(labels, numbers)
    return _cut(classes, _blocks(parameters, len(z), block_bytes))


def _sums_from(*shape: int) -> jax.Array:
    """Zeros that JAX takes to differ between devices, as the sums that start with them do."""
    return jnp.zeros(shape) * mesh.device_number()


def _score(part: Parameters, z: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """Logits of the experts f32[c, H, b], and of the gates f32[c, H + 1, b] if there are any."""

    def logits(kernel: str, bias: str) -> jax.Array:
        scored = _product(part[kernel].reshape(-1, z.shape[1]), z, (1, 1))
        scored = scored.reshape(*part[kernel].shape[:2], z.shape[0])
        return scored + part[bias][..., None] if bias in part else scored

    return logits(EXPERTS, BIASES), logits(GATES, GATE_BIASES) if GATES in part else None


def _product(a: jax.Array, b: jax.Array, axes: tuple[int, int]) -> jax.Array:
    dimensions = (((axes[0],), (axes[1],)), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, precision=jax.lax.Precision.HIGHEST)


def _blocks(parameters: Parameters, videos: int, block_bytes: int) -> int:
    """The smallest number of equal blocks of classes whose logits take at most `block_bytes`."""
    rows = len(parameters[BIASES])
    logits = sum(kernel.shape[1] for kernel in parameters.values() if kernel.ndim == 3)
    most = max(1, block_bytes // (4 * logits * max(1, videos)))
    return next(n for n in range(1, rows + 1) if rows % n == 0 and rows // n <= most)


def _cut(tree: Any, blocks: int) -> Any:
    return jax.tree.map(lambda a: a.reshape(blocks, -1, *a.shape[1:]), tree)


def _losses_forward(block_bytes: int, *arguments: Any) -> Any:
    return losses_of(block_bytes, *arguments), arguments


def _losses_backward(block_bytes: int, arguments: Any, slopes: jax.Array) -> Any:
    parameters, z, labels, count = arguments
    _, *gradient = _losses_and_gradient(block_bytes, parameters, z, labels, count, slopes)
    return *gradient, None, None


def _total_forward(block_bytes: int, *arguments: Any) -> Any:
    parameters, z, labels, count, weights = arguments
    losses, *gradient = _losses_and_gradient(block_bytes, parameters, z, labels, count, weights)
    return (jnp.sum(losses * weights), losses), gradient


def _total_backward(_: int, gradient: Any, slopes: tuple[jax.Array, jax.Array]) -> Any:
    return *jax.tree.map(lambda part: part * slopes[0], gradient), None, None, None


losses_of.defvjp(_losses_forward, _losses_backward)
total_and_losses.defvjp(_total_forward, _total_backward)
