"""A loss from videos to texts plus the loss from texts to videos, over the whole batch."""

from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp

from vidembed.distributed import mesh
from vidembed.losses.ranking import PairLoss


def both(
    loss: PairLoss,
    videos: jax.Array,
    texts: jax.Array,
    rows: jax.Array,
    *,
    parameters: Mapping[str, jax.Array],
    mask_same: bool = True,
) -> jax.Array:
    """The loss of each pair: videos f32[B, D], texts f32[B, D], rows i32[B] → f32[B].

    Pair i is videos[i] and texts[i]; its negatives are the texts and the videos of all other pairs.
    `rows` says which video each pair is of. mask_same=False also counts pairs of the same video as
    negatives, as the published code of VSE, VSE++ and JEMC does.

    Each device scores its own B/n pairs against the gathered others: about 2·B²/n·4 bytes. B must
    be divisible by the number of devices.
    """
    chex.assert_equal_shape([videos, texts])
    chex.assert_shape(rows, (len(videos),))

    def scored(
        own_videos: jax.Array,
        own_texts: jax.Array,
        own_rows: jax.Array,
        values: Mapping[str, jax.Array],
        first: jax.Array | int,
        whole: tuple[jax.Array, jax.Array, jax.Array],
    ) -> jax.Array:
        all_videos, all_texts, all_rows = whole
        own = first + jnp.arange(len(own_rows), dtype=jnp.int32)
        same = own_rows[:, None] == all_rows[None]
        forbidden = same if mask_same else jnp.zeros_like(same)
        to_texts = _products(own_videos, all_texts)
        to_videos = _products(own_texts, all_videos)
        return loss(to_texts, own, forbidden, parameters=values) + loss(
            to_videos, own, forbidden, parameters=values
        )

    def on_device(
        own_videos: jax.Array,
        own_texts: jax.Array,
        own_rows: jax.Array,
        values: Mapping[str, jax.Array],
    ) -> jax.Array:
        first = mesh.device_number() * len(own_rows)
        mine = own_videos, own_texts, own_rows
        everyone = (mesh.gather(own_videos, 0), mesh.gather(own_texts, 0), mesh.gather(own_rows, 0))
        return scored(*mine, values, first, everyone)

    devices = jax.sharding.get_abstract_mesh().size
    if devices <= 1:
        return scored(videos, texts, rows, parameters, 0, (videos, texts, rows))
    if len(rows) % devices:
        raise ValueError(
            f"a batch of {len(rows)} pairs is not divisible by {devices} devices: choose a batch "
            "size that is a multiple of them"
        )
    split, whole = mesh.everywhere_spec(0), mesh.batch_spec(None)
    specs = (split, split, split, whole)
    return mesh.on_devices(on_device, specs, split)(videos, texts, rows, dict(parameters))


def _products(queries: jax.Array, pool: jax.Array) -> jax.Array:
    """Dot products f32[b, D] × f32[B, D] → f32[b, B] in full float32 precision."""
    return jnp.matmul(queries, pool.T, precision=jax.lax.Precision.HIGHEST)
