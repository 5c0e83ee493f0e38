"""A loss from videos to texts plus the loss from texts to videos, over the whole batch."""

from collections.abc import Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from vidembed.distributed import mesh
from vidembed.losses.ranking import PairLoss


class _Pairs(NamedTuple):
    """Pairs of a video and a text, of a device or of the whole batch."""

    videos: jax.Array
    texts: jax.Array
    rows: jax.Array
    usable: jax.Array | None


def both(
    loss: PairLoss,
    videos: jax.Array,
    texts: jax.Array,
    rows: jax.Array,
    *,
    parameters: Mapping[str, jax.Array],
    mask_same: bool = True,
    usable: jax.Array | None = None,
) -> jax.Array:
    """The loss of each pair: videos f32[B, D], texts f32[B, D], rows i32[B] → f32[B].

    Pair i is videos[i] and texts[i]; its negatives are the texts and the videos of all other pairs.
    `rows` says which video each pair is of. mask_same=False also counts pairs of the same video as
    negatives, as the published code of VSE, VSE++ and JEMC does. usable bool[B]: the other pairs,
    one side of which is missing, have loss 0 and are no negatives; None: all are usable.

    Each device scores its own B/n pairs against the gathered others: about 2·B²/n·4 bytes. B must
    be divisible by the number of devices.
    """
    chex.assert_equal_shape([videos, texts])
    chex.assert_shape(rows, (len(videos),))

    def scored(
        own: _Pairs, values: Mapping[str, jax.Array], first: jax.Array | int, whole: _Pairs
    ) -> jax.Array:
        place = first + jnp.arange(len(own.rows), dtype=jnp.int32)
        same = own.rows[:, None] == whole.rows[None]
        forbidden = same if mask_same else jnp.zeros_like(same)
        if whole.usable is not None:
            forbidden = forbidden | ~whole.usable[None]
        to_texts = _products(own.videos, whole.texts)
        to_videos = _products(own.texts, whole.videos)
        losses = loss(to_texts, place, forbidden, parameters=values) + loss(
            to_videos, place, forbidden, parameters=values
        )
        return losses if own.usable is None else jnp.where(own.usable, losses, 0.0)

    def on_device(own: _Pairs, values: Mapping[str, jax.Array]) -> jax.Array:
        first = mesh.device_number() * len(own.rows)
        return scored(own, values, first, jax.tree.map(lambda side: mesh.gather(side, 0), own))

    pairs, devices = _Pairs(videos, texts, rows, usable), jax.sharding.get_abstract_mesh().size
    if devices <= 1:
        return scored(pairs, parameters, 0, pairs)
    if len(rows) % devices:
        raise ValueError(
            f"a batch of {len(rows)} pairs is not divisible by {devices} devices: choose a batch "
            "size that is a multiple of them"
        )
    split, whole = mesh.everywhere_spec(0), mesh.batch_spec(None)
    return mesh.on_devices(on_device, (split, whole), split)(pairs, dict(parameters))


def _products(queries: jax.Array, pool: jax.Array) -> jax.Array:
    """Dot products f32[b, D] × f32[B, D] → f32[b, B] in full float32 precision."""
    return jnp.matmul(queries, pool.T, precision=jax.lax.Precision.HIGHEST)
