"""A GRU over captions of different lengths: its last state, with one product for a gradient.

The gates are those of PyTorch.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class GruWeights(NamedTuple):
    """W words in E dimensions, H units."""

    embedding: jax.Array
    """f32[W, E]"""
    input_kernel: jax.Array
    """f32[E, 3H]: reset, update and candidate."""
    bias: jax.Array
    """f32[3H]: added to the input's part."""
    recurrent_kernel: jax.Array
    """f32[H, 3H]"""
    candidate_bias: jax.Array
    """f32[H]: added to the recurrent part of the candidate, inside the reset."""


@jax.custom_vjp
def last_state(
    inputs: jax.Array, kernel: jax.Array, bias: jax.Array, lengths: jax.Array
) -> jax.Array:
    """The state f32[B, H] of a GRU after the last of each row's `lengths` i32[B] steps.

    inputs f32[L, B, 3H]: reset, update and candidate parts of the input, with their biases; steps
    from a row's length on are padding, and change nothing. kernel f32[H, 3H]: recurrent. bias
    f32[H]: added to the recurrent part of the candidate, inside the reset. The state starts at 0.

    JAX's gradient of a scan adds a product to the kernel's gradient at every step. Here it is one
    product over all steps, for which the backward pass keeps 5·L·B·H numbers.
    """
    return _forward(inputs, kernel, bias, lengths)[0]


def _step(
    state: jax.Array, x: jax.Array, kernel: jax.Array, bias: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The next state, and (reset, update, inner, candidate)."""
    size = len(kernel)
    recurrent = product(state, kernel)
    gates = jax.nn.sigmoid(x[:, : 2 * size] + recurrent[:, : 2 * size])
    reset, update = gates[:, :size], gates[:, size:]
    inner = recurrent[:, 2 * size :] + jnp.broadcast_to(bias, state.shape)
    candidate = jnp.tanh(x[:, 2 * size :] + reset * inner)
    return (1 - update) * candidate + update * state, (reset, update, inner, candidate)


def _forward(
    inputs: jax.Array, kernel: jax.Array, bias: jax.Array, lengths: jax.Array
) -> tuple[jax.Array, Any]:
    steps, rows = inputs.shape[:2]

    def step(state: jax.Array, given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
        number, x = given
        new, gates = _step(state, x, kernel, bias)
        return jnp.where(_column(number < lengths, state), new, state), (state, *gates)

    start = jnp.zeros((rows, len(kernel)), inputs.dtype)
    last, kept = jax.lax.scan(step, start, (jnp.arange(steps), inputs))
    return last, (kept, kernel, lengths)


def _backward(saved: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    kept, kernel, lengths = saved
    states = kept[0]
    steps = states.shape[0]

    def step(along: jax.Array, given: Any) -> tuple[jax.Array, Any]:
        number, (state, reset, update, inner, candidate) = given
        valid = _column(number < lengths, along)
        new = jnp.where(valid, along, 0.0)
        along_candidate = new * (1 - update) * (1 - jnp.square(candidate))
        along_update = new * (state - candidate) * update * (1 - update)
        along_reset = along_candidate * inner * reset * (1 - reset)
        along_inner = along_candidate * reset
        recurrent = jnp.concatenate([along_reset, along_update, along_inner], axis=1)
        before = jnp.where(valid, new * update + product(recurrent, kernel.T), along)
        return before, (recurrent, along_candidate)

    numbers = jnp.arange(steps)
    _, (recurrent, candidates) = jax.lax.scan(step, gradient, (numbers, kept), reverse=True)
    # Both row axes are summed without merging them: the batch is split over devices.
    along_kernel = jax.lax.dot_general(
        states, recurrent, (((0, 1), (0, 1)), ((), ())), precision=jax.lax.Precision.HIGHEST
    )
    size = kernel.shape[0]
    along_inputs = jnp.concatenate([recurrent[..., : 2 * size], candidates], axis=-1)
    return along_inputs, along_kernel, jnp.sum(recurrent[..., 2 * size :], axis=(0, 1)), None


last_state.defvjp(_forward, _backward)


@jax.custom_vjp
def embedded(weights: GruWeights, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
    """The state f32[B, H] after the last word of captions, tokens i32[B, L] and lengths i32[B].

    For trained models: it reads each step's words when it comes to them, and stops after the
    longest caption of the batch, whatever L is, so that captions of one length have no padding.
    Its gradient is that of `scanned`.
    """

    def step(number: jax.Array, state: jax.Array) -> jax.Array:
        column = jax.lax.dynamic_index_in_dim(tokens, number, axis=1, keepdims=False)
        x = of_inputs(weights, looked_up(weights.embedding, column))
        new, _ = _step(state, x, weights.recurrent_kernel, weights.candidate_bias)
        return jnp.where(_column(number < lengths, state), new, state)

    start = jnp.zeros((len(tokens), len(weights.recurrent_kernel)), weights.embedding.dtype)
    last: jax.Array = jax.lax.fori_loop(0, jnp.max(lengths, initial=0), step, start)
    return last


def scanned(weights: GruWeights, words: jax.Array, lengths: jax.Array) -> jax.Array:
    """The same from the vectors of the words, f32[L, B, E]; for training."""
    inputs = of_inputs(weights, words)
    return last_state(inputs, weights.recurrent_kernel, weights.candidate_bias, lengths)


def looked_up(embedding: jax.Array, tokens: jax.Array) -> jax.Array:
    """f32[..., E] of tokens i32[...]; NaN for one that is not in the vocabulary."""
    return jnp.take(embedding, tokens, axis=0, mode="fill", fill_value=jnp.nan)


def of_inputs(weights: GruWeights, words: jax.Array) -> jax.Array:
    """f32[..., 3H]: the input's part of the gates, of word vectors f32[..., E]."""
    inputs = product(words, weights.input_kernel)
    return inputs + jnp.broadcast_to(weights.bias, inputs.shape)


def _embedded_forward(
    weights: GruWeights, tokens: jax.Array, lengths: jax.Array
) -> tuple[jax.Array, Any]:
    def run(weights: GruWeights) -> jax.Array:
        words = looked_up(weights.embedding, jnp.swapaxes(tokens, 0, 1))
        return scanned(weights, words, lengths)

    last: jax.Array
    last, gradient = jax.vjp(run, weights)
    return last, gradient


def _embedded_backward(along: Any, gradient: jax.Array) -> tuple[GruWeights, None, None]:
    (of_weights,) = along(gradient)
    return of_weights, None, None


embedded.defvjp(_embedded_forward, _embedded_backward)


def _column(flags: jax.Array, like: jax.Array) -> jax.Array:
    return jnp.broadcast_to(flags[:, None], like.shape)
