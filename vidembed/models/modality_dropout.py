"""Modality dropout: randomly treat modalities of videos as missing in training.

A network that always sees all modalities does not learn to do without one. This is our addition,
not the paper's.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp


def keep_modalities(present: jax.Array, probability: float, key: jax.Array) -> jax.Array:
    """Choose the modalities to keep among those present bool[..., M]: bool[..., M].

    Each is dropped if its uniform draw is below `probability`, except the one with the video's
    largest draw. So a given one of two is dropped in p − p²/2 of the videos.
    """
    draws = jnp.where(present, jax.random.uniform(key, present.shape), -1.0)
    largest = jnp.max(draws, axis=-1, keepdims=True)
    return present & ((draws >= probability) | (draws >= jnp.broadcast_to(largest, draws.shape)))


def drop_modalities(
    features: Mapping[str, jax.Array],
    present: Mapping[str, jax.Array],
    names: Sequence[str],
    probability: float,
    key: jax.Array,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Features f32[..., F] and flags bool[...] of the named modalities, after the draw.

    `present` has the modalities that some videos lack. Dropped features are zero, like those of a
    missing modality.
    """
    everywhere = jnp.ones(features[names[0]].shape[:-1], bool)
    flags = jnp.stack([present.get(name, everywhere) for name in names], axis=-1)
    mask = keep_modalities(flags, probability, key)
    remaining = {name: mask[..., number] for number, name in enumerate(names)}
    zeroed = {
        name: jnp.where(remaining[name][..., None], features[name], jnp.zeros_like(features[name]))
        for name in names
    }
    return zeroed, remaining
