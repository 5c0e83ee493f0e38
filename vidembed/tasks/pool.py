"""The pool that negatives are chosen from: the embeddings of all devices.

Mining compares an anchor with every slot of the pool, but a gradient flows back to the chosen ones
alone. Devices send each other these B gradients, where the gradient of the gather would be summed
over all slots, up to three times as many.
"""

import jax
import jax.numpy as jnp

from vidembed.distributed import mesh


def gather(part: jax.Array) -> jax.Array:
    """f32[G, B, D]: every device's part f32[G, b, D], in batch order, without a gradient."""
    return mesh.gather(jax.lax.stop_gradient(part), axis=1)


@jax.custom_vjp
def choose(part: jax.Array, pool: jax.Array, slots: jax.Array) -> jax.Array:
    """f32[b, D]: the pool f32[G, B, D] at flat slots i32[b], 0..G · B - 1, on each device.

    Its gradient is that of `part`, the device's own f32[G, b, D] from which the pool was gathered.
    """
    del part
    return pool.reshape(-1, pool.shape[-1])[slots]


def _forward(
    part: jax.Array, pool: jax.Array, slots: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return choose(part, pool, slots), (part, slots)


def _backward(
    residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, None, None]:
    part, slots = residuals
    groups, share, _ = part.shape
    gradients, slots = mesh.gather(gradient, axis=0), mesh.gather(slots, axis=0)
    group, slot = jnp.divmod(slots, len(slots))
    slot -= mesh.device_number() * share
    own = (slot >= 0) & (slot < share)
    # Those of other devices go to a place beyond the end, and so are dropped.
    place = jnp.where(own, group * share + slot, groups * share)
    summed = jax.ops.segment_sum(gradients, place, num_segments=groups * share)
    return summed.reshape(part.shape), None, None


choose.defvjp(_forward, _backward)
