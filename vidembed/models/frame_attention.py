"""Pool the frames of a video with learned weights: attention of one linear score per frame.

The vector of a video is the sum over its frames of softmax(w · x) x. With w = 0 it is the mean.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vidembed.records.bytecode import dequantise
from vidembed.records.frame_rows import FrameRows

FAR_BELOW = -1e30
"""The score of what is not a frame of the video."""


def attend(frames: FrameRows, weights: jax.Array) -> jax.Array:
    """The vector f32[B, F] of each video, for weights w f32[F]; zeros for a video without frames.

    Frames become floats one at a time, also in the gradient, so that memory holds B × F of them
    instead of B × T × F. Differentiable in the weights alone.
    """
    values, lengths = frames
    steps = jnp.arange(values.shape[1])

    def frame(number: jax.Array) -> jax.Array:
        stored = jax.lax.dynamic_index_in_dim(values, number, 1, keepdims=False)
        return dequantise(stored).astype(jnp.float32)

    @jax.checkpoint
    def score(carry: None, number: jax.Array) -> tuple[None, jax.Array]:
        return carry, jnp.sum(frame(number) * weights[None], axis=-1)

    _, scores = jax.lax.scan(score, None, steps)
    inside = steps[:, None] < lengths[None, :]
    scores = jnp.where(inside, scores, FAR_BELOW)
    powers = jnp.exp(scores - jnp.max(scores, axis=0, keepdims=True)) * inside
    shares = powers / jnp.maximum(jnp.sum(powers, axis=0, keepdims=True), 1.0)

    @jax.checkpoint
    def add(total: jax.Array, step: Any) -> tuple[jax.Array, None]:
        number, share = step
        return total + share[:, None] * frame(number), None

    start = jnp.zeros((values.shape[0], values.shape[2]), jnp.float32)
    total, _ = jax.lax.scan(add, start, (steps, shares))
    return total
