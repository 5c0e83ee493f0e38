"""The log-loss of one class under a mixture of logistic experts, and its slope by the logits.

For a class with expert logits e_1..e_H and gate logits g_0..g_H, of which state 0 is the dummy,

    p = Σ_{h≥1} π_h σ(e_h),    π = softmax(g)    (CDML, KDD 2018, Eq. 8).

With P = p for a label of the video and P = 1 − p otherwise, the loss is −log P, and its slopes are,
with c = −1/P for labels and 1/P otherwise, and σ(e_0) read as 0,

    ∂/∂g_h = c π_h (σ(e_h) − p),    ∂/∂e_h = c π_h σ(e_h) (1 − σ(e_h)).

That takes one exponential per logit and one logarithm per class. P comes from sums of positive
terms, so that small losses and slopes keep their digits. It underflows only if the model is sure of
the opposite; where P is below `SMALLEST`, losses and slopes are computed again from logarithms.

Arrays have the videos last: e f32[c, H, B], g f32[c, H + 1, B], labels bool[c, B].
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

SMALLEST = 1e-25
"""Probabilities below this are computed from logarithms. Terms that matter to a larger one, to
seven digits, are normal float32 numbers."""
LARGEST_LOGIT = 80.0
"""Expert logits are cut here before their exponential, which then neither overflows nor changes a
probability above `SMALLEST`."""


class Terms(NamedTuple):
    """The loss of each class and video, and its slopes by the logits."""

    loss: jax.Array
    """f32[c, B]."""
    by_experts: jax.Array
    """f32[c, H, B]."""
    by_gates: jax.Array | None
    """f32[c, H + 1, B]; None without gates."""


def log_loss(e: jax.Array, g: jax.Array | None, labels: jax.Array, real: jax.Array) -> Terms:
    """−log P and its slopes, 0 unless real bool[c]; without gates there is one expert, p = σ(e)."""
    real = jnp.broadcast_to(real[:, None], labels.shape)
    if g is None:
        return _logistic(e, labels, real)
    mixed = _mix(e, g)
    true = jnp.where(labels, mixed.p, mixed.rest)

    def from_sums() -> Terms:
        return _from_sums(mixed, labels, real)

    def where_needed_from_logarithms() -> Terms:
        slow = _from_logarithms(e, g, labels, real)
        return jax.tree.map(partial(_choose, true >= SMALLEST), from_sums(), slow)

    return jax.lax.cond(jnp.min(true) >= SMALLEST, from_sums, where_needed_from_logarithms)


def probability(e: jax.Array, g: jax.Array | None) -> jax.Array:
    """p: f32[c, B]; below `SMALLEST` too large by what cutting the logits adds."""
    return jax.nn.sigmoid(e[:, 0]) if g is None else _mix(e, g).p


def log_odds(e: jax.Array, g: jax.Array | None) -> jax.Array:
    """log p − log(1 − p): f32[c, B]."""
    if g is None:
        return e[:, 0]
    mixed = _mix(e, g)
    smaller = jnp.minimum(mixed.p, mixed.rest)

    def from_sums() -> jax.Array:
        return jnp.log(mixed.p) - jnp.log(mixed.rest)

    def where_needed_from_logarithms() -> jax.Array:
        is_label = jnp.ones(smaller.shape, bool)
        p, rest = (jax.nn.logsumexp(_joint(e, g, x), axis=1) for x in (is_label, ~is_label))
        return jnp.where(smaller >= SMALLEST, from_sums(), p - rest)

    return jax.lax.cond(jnp.min(smaller) >= SMALLEST, from_sums, where_needed_from_logarithms)


def _choose(fast: jax.Array, from_sums: jax.Array, from_logarithms: jax.Array) -> jax.Array:
    """By bool[c, B]; the values have that shape, or an axis of states between."""
    fast = fast if from_sums.ndim == 2 else fast[:, None]
    return jnp.where(fast, from_sums, from_logarithms)


class _Mixed(NamedTuple):
    gates: jax.Array
    """f32[c, H + 1, B]: π times their sum `total`."""
    total: jax.Array
    """f32[c, B]."""
    on: jax.Array
    """f32[c, H, B]: σ(e)."""
    off: jax.Array
    """f32[c, H, B]: 1 − σ(e)."""
    p: jax.Array
    """f32[c, B]."""
    rest: jax.Array
    """f32[c, B]: 1 − p."""


def _mix(e: jax.Array, g: jax.Array) -> _Mixed:
    gates = jnp.exp(g - jnp.max(g, axis=1, keepdims=True))
    odds = jnp.exp(-jnp.clip(e, -LARGEST_LOGIT, LARGEST_LOGIT))
    on = 1 / (1 + odds)
    off = odds * on
    total = jnp.sum(gates, axis=1)
    p = jnp.sum(gates[:, 1:] * on, axis=1) / total
    rest = (jnp.sum(gates[:, 1:] * off, axis=1) + gates[:, 0]) / total
    return _Mixed(gates, total, on, off, p, rest)


def _from_sums(mixed: _Mixed, labels: jax.Array, real: jax.Array) -> Terms:
    p, true = mixed.p, jnp.where(labels, mixed.p, mixed.rest)
    # log1p keeps the digits of a small loss.
    loss = jnp.where(true < 0.5, -jnp.log(true), -jnp.log1p(-jnp.where(labels, mixed.rest, p)))
    factor = jnp.where(labels, -1.0, 1.0) * real / (true * mixed.total)
    weighted = factor[:, None] * mixed.gates
    dummy, experts = weighted[:, :1], weighted[:, 1:]
    # σ(e) − p, from whichever sides have small numbers and thus more digits.
    above = jnp.where((p > 0.5)[:, None], mixed.rest[:, None] - mixed.off, mixed.on - p[:, None])
    return Terms(
        loss=jnp.where(real, loss, 0.0),
        by_experts=experts * mixed.on * mixed.off,
        by_gates=jnp.concatenate([-dummy * p[:, None], experts * above], axis=1),
    )


def _from_logarithms(e: jax.Array, g: jax.Array, labels: jax.Array, real: jax.Array) -> Terms:
    joint = _joint(e, g, labels)
    share = jax.nn.softmax(joint, axis=1)
    sign = jnp.where(labels, -1.0, 1.0)[:, None]
    loss = jax.nn.logsumexp(g, axis=1) - jax.nn.logsumexp(joint, axis=1)
    return Terms(
        loss=jnp.where(real, loss, 0.0),
        by_experts=real[:, None] * sign * share[:, 1:] * jax.nn.sigmoid(sign * e),
        by_gates=real[:, None] * (jax.nn.softmax(g, axis=1) - share),
    )


def _joint(e: jax.Array, g: jax.Array, labels: jax.Array) -> jax.Array:
    """f32[c, H + 1, B]: log of π_h times the probability of the truth in state h, up to log Σ."""
    sign = jnp.where(labels, -1.0, 1.0)[:, None]
    dummy = jnp.where(labels[:, None], -jnp.inf, g[:, :1])
    return jnp.concatenate([dummy, g[:, 1:] - jax.nn.softplus(sign * e)], axis=1)


def _logistic(e: jax.Array, labels: jax.Array, real: jax.Array) -> Terms:
    sign = jnp.where(labels, -1.0, 1.0)
    wrong = sign * e[:, 0]
    slope = real * sign * jax.nn.sigmoid(wrong)
    return Terms(jnp.where(real, jax.nn.softplus(wrong), 0.0), slope[:, None], None)
