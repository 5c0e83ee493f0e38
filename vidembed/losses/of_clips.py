"""Losses of a batch from the Gaussians of its clips: stochastic, or of two halves of each video."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from vidembed.losses.both_directions import both
from vidembed.losses.mixtures import (
    Clips,
    Mixtures,
    Moments,
    as_distribution,
    halves,
    moments,
    sample,
)
from vidembed.losses.ranking import PairLoss
from vidembed.losses.stochastic_contrast import StochasticContrast
from vidembed.pairwise import normalise

Measured = tuple[jax.Array, dict[str, jax.Array]]


def stochastic(
    loss: StochasticContrast,
    clips: Clips,
    rows: jax.Array,
    *,
    parameters: Mapping[str, jax.Array],
    batches: jax.Array,
    key: jax.Array,
) -> Measured:
    """(loss f32[], measures) of clips of B videos, numbered i32[B]; runs under a mesh.

    Videos without clips are in no pair. Measures as in `StochasticContrast`, and `kl`, the KL
    divergence without its weight.
    """
    seen, mixed, mixtures = mixtures_of(loss, clips, rows, key=key)
    contrast, measures = loss(mixtures, parameters=parameters, batches=batches)
    if loss.distribution == "point":
        return contrast, measures | {"kl": jnp.zeros((), jnp.float32)}
    divergence = loss.uncertainty.divergence(seen, mixed, mixtures.valid)
    return contrast + loss.uncertainty.kl_weight * divergence, measures | {"kl": divergence}


def mixtures_of(
    loss: StochasticContrast, clips: Clips, rows: jax.Array, *, key: jax.Array
) -> tuple[Clips, Moments, Mixtures]:
    """What the loss contrasts of B videos: the clips of each mixture, its moments, and the mixture.

    One mixture per video, or two with halves as views.
    """
    sample_key, split_key = jax.random.split(key)
    seen = both_halves(clips, key=split_key) if loss.views == "halves" else clips
    each = len(seen.mean) // len(rows)
    mixed = as_distribution(moments(seen), loss.distribution)
    if loss.distribution == "point":
        shape = len(seen.mean), loss.draws, seen.mean.shape[-1]
        samples = jnp.broadcast_to(jnp.expand_dims(mixed.mean, 1), shape)
    else:
        samples = sample(seen, mixed, loss.draws, key=sample_key, draw=loss.draw)
    mixtures = Mixtures(
        number=jnp.arange(len(seen.mean), dtype=jnp.int32),
        video=_repeated(rows, each),
        valid=jnp.any(seen.present, axis=1),
        mean=mixed.mean,
        variance=mixed.variance,
        samples=samples,
    )
    return seen, mixed, mixtures


def deterministic(
    loss: PairLoss,
    clips: Clips,
    rows: jax.Array,
    *,
    parameters: Mapping[str, jax.Array],
    key: jax.Array,
) -> Measured:
    """(loss f32[], measures) of the means of two random halves of each video's clips, as pairs.

    Reads no variances. A video with a single clip is only a negative of the others; so is one
    without clips, as a vector of zeros. Measures: `similarity` of the halves, `pairs`, the number
    of videos with a loss, and `trained`, their share.
    """
    one, other = halves(clips.present, key=key)
    first, second = (normalise(moments(clips._replace(present=p)).mean) for p in (one, other))
    losses = both(loss, first, second, rows, parameters=parameters)
    learnt = jnp.sum(clips.present, axis=1, dtype=jnp.int32) > 1
    pairs = jnp.sum(learnt, dtype=jnp.float32)

    def mean_of(values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(learnt, values, 0.0)) / jnp.maximum(pairs, 1)

    similarity = mean_of(jnp.sum(first * second, axis=-1))
    measures = {"similarity": similarity, "pairs": pairs, "trained": pairs / len(rows)}
    return mean_of(losses), measures


def both_halves(clips: Clips, *, key: jax.Array) -> Clips:
    """Clips of 2B videos: the two halves of each of B videos, one after the other."""
    present = jnp.stack(halves(clips.present, key=key), axis=1)
    return Clips(
        mean=_repeated(clips.mean, 2),
        log_variance=_repeated(clips.log_variance, 2),
        present=present.reshape(-1, present.shape[-1]),
    )


def _repeated(array: jax.Array, times: int) -> jax.Array:
    """[B, ...] → [B · times, ...], each row `times` times in a row, on the device that has it."""
    shape = (len(array), times, *array.shape[1:])
    return jnp.broadcast_to(array[:, None], shape).reshape(-1, *array.shape[1:])
