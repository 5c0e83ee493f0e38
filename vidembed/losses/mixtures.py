"""Videos as mixtures of their clips' Gaussians: moments, samples, halves (ProViCo, CVPR 2022).

All Gaussians have diagonal covariances. A mixture gives every clip that is present the same weight:
p(z|V) = (1/N) Σ N(z; μ_n, σ_n²), with the 1/N that one printed form lacks.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

Draw = Literal["moments", "components"]
"""Samples come from the Gaussian with the mixture's moments, as in the paper, or from its clips."""

Distribution = Literal["mixture", "gaussian", "point"]
"""What a video is: the mixture of its clips, a Gaussian with their mean variance, or a point."""


class Clips(NamedTuple):
    """N Gaussians for each of B videos: mean and log_variance f32[B, N, D], present bool[B, N]."""

    mean: jax.Array
    log_variance: jax.Array
    present: jax.Array


class Moments(NamedTuple):
    """Moments of B mixtures, f32[B, D] each: the mean, the mean variance of the clips (`within`),
    and the variance of the clips' means (`between`)."""

    mean: jax.Array
    within: jax.Array
    between: jax.Array

    @property
    def variance(self) -> jax.Array:
        """σ_V² f32[B, D] = within + between."""
        return self.within + self.between


class Mixtures(NamedTuple):
    """B mixtures as the losses of pairs see them.

    number i32[B]: the place in the batch. video i32[B]: which video it is of; pairs of the same
    video are positive. valid bool[B]: other mixtures are in no pair. mean, variance f32[B, D], and
    samples f32[B, K, D].
    """

    number: jax.Array
    video: jax.Array
    valid: jax.Array
    mean: jax.Array
    variance: jax.Array
    samples: jax.Array


def moments(clips: Clips) -> Moments:
    """Mean and variance of each video's mixture, over the clips that are present.

    The paper's σ_V² = mean(σ_n² + μ_n²) − μ_V² subtracts numbers that are nearly equal where the
    clips are alike. This is the same as mean(σ_n²) + mean((μ_n − μ_V)²), which does not. A video
    without clips gets mean 0 and variance 1.
    """
    chex.assert_equal_shape([clips.mean, clips.log_variance])
    chex.assert_shape(clips.present, clips.mean.shape[:2])
    present = _last(clips.present, clips.mean)
    counts = jnp.sum(clips.present, axis=1, dtype=jnp.float32)

    def mean_of(values: jax.Array) -> jax.Array:
        total = jnp.sum(jnp.where(present, values, 0.0), axis=1)
        return total / _last(jnp.maximum(counts, 1), total)

    mean = mean_of(clips.mean)
    deviations = jnp.where(present, clips.mean - jnp.expand_dims(mean, 1), 0.0)
    # The inner `where` keeps an overflow at an absent clip out of the gradient.
    within = mean_of(jnp.exp(jnp.where(present, clips.log_variance, 0.0)))
    within = jnp.where(_last(counts > 0, within), within, 1.0)
    return Moments(mean, within, mean_of(jnp.square(deviations)))


def as_distribution(mixtures: Moments, distribution: Distribution) -> Moments:
    """The moments of what a video is. gaussian: nothing between its clips. point: the same variance
    for all, 1 in total, so that distances are those of the means, and pairs weigh 1."""
    if distribution == "mixture":
        return mixtures
    none, width = jnp.zeros_like(mixtures.between), mixtures.mean.shape[-1]
    within = mixtures.within if distribution == "gaussian" else jnp.full_like(none, 1 / width)
    return Moments(mixtures.mean, within, none)


def sample(
    clips: Clips, mixtures: Moments, count: int, *, key: jax.Array, draw: Draw = "moments"
) -> jax.Array:
    """K = `count` samples of each video's mixture, f32[B, K, D], reparameterised.

    "moments": z = μ_V + σ_V ε. "components": z = μ_n + σ_n ε, with a clip n drawn for each sample
    from those that are present; choosing it has no gradient. The noise of a video depends on `key`
    and on its place in the batch alone, not on the batch size or the devices.
    """
    videos, clips_each, width = clips.mean.shape
    if draw == "moments":
        noise = _noise(key, videos, (count, width))
        mean, deviation = mixtures.mean, jnp.sqrt(mixtures.variance)
        return jnp.expand_dims(mean, 1) + jnp.expand_dims(deviation, 1) * noise
    noise_key, choice_key = jax.random.split(key)
    # The largest of Gumbel noise over the clips present is a uniform choice among them.
    ranks = _noise(choice_key, videos, (count, clips_each), jax.random.gumbel)
    chosen = jnp.argmax(jnp.where(jnp.expand_dims(clips.present, 1), ranks, -jnp.inf), axis=-1)
    # A product with one-hot rows, since a gather of rows would not stay on its device.
    choice = jax.nn.one_hot(chosen, clips_each, dtype=jnp.float32)
    mean, deviation = (
        jnp.einsum("bkn,bnd->bkd", choice, values, precision=jax.lax.Precision.HIGHEST)
        for values in (
            _finite(clips.mean, clips),
            jnp.exp(0.5 * _finite(clips.log_variance, clips)),
        )
    )
    return mean + deviation * _noise(noise_key, videos, (count, width))


def halves(present: jax.Array, *, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Split each video's clips at random into two halves: present bool[B, N] → bool[B, N] twice.

    Of an odd number, the first half gets one more. A video with one clip has it in both halves, so
    that no half is empty unless the video is.
    """
    chex.assert_rank(present, 2)
    videos, clips_each = present.shape
    order = _noise(key, videos, (clips_each,), jax.random.uniform)
    order = jnp.where(present, order, jnp.inf)
    ranks = jnp.argsort(jnp.argsort(order, axis=1), axis=1)
    first = present & (ranks % 2 == 0)
    single = jnp.sum(present, axis=1, dtype=jnp.int32) == 1
    return first, present & (ranks % 2 == 1) | (_last(single, present) & present)


def _noise(
    key: jax.Array,
    videos: int,
    shape: tuple[int, ...],
    draw: Callable[..., jax.Array] = jax.random.normal,
) -> jax.Array:
    """f32[B, *shape]: each video has a key of its own."""
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(jnp.arange(videos))
    return jax.vmap(lambda one: draw(one, shape))(keys)


def _finite(values: jax.Array, clips: Clips) -> jax.Array:
    return jnp.where(_last(clips.present, values), values, 0.0)


def _last(flags: jax.Array, like: jax.Array) -> jax.Array:
    """Flags or numbers [...] repeated along the last axis of `like` [..., D]."""
    return jnp.broadcast_to(flags[..., None], like.shape)
