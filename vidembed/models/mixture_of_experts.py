"""Label videos by a mixture of logistic experts per class (CDML, KDD 2018, 4.3, Eq. 8).

A class e has H experts, logistic regressions on the video's vector z, and a gate, a softmax over
H + 1 states; in the last state, the dummy, the class does not occur:

    p(e|z) = Σ_h softmax_h(gates · z) σ(w_h · z + b_h).

As in YouTube-8M's starter code, experts have a bias and gates have none; Eq. 8 writes neither. The
paper tries 5, 10, 30 and 100 experts; how it chooses is NOT ESTABLISHED. With one expert there is
no gate, and the model is logistic regression.

Thousands of classes with many experts exceed a device's memory: parameters are split by class over
the mesh's model axis, and `mixture_blocks` scores some of a device's classes at a time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from vidembed.distributed import mesh
from vidembed.models.cluster_classifier import padded
from vidembed.models.mixture_blocks import (
    BIASES,
    EXPERTS,
    GATE_BIASES,
    GATES,
    losses_of,
    over_class_blocks,
    total_and_losses,
)
from vidembed.models.mixture_terms import log_odds, probability
from vidembed.models.parameters import Parameters

LARGEST_PRIOR = 0.999
"""Of an expert at the start."""


@dataclass(frozen=True, kw_only=True)
class MixtureOfExperts:
    """Each class has its own probability, from experts that a gate mixes."""

    mixtures: int = 2
    """H, experts per class; 1 is logistic regression, without a gate."""
    gate_bias: bool = False
    """Add a bias to the gates."""
    block_bytes: int = 2**20
    """Bytes of logits that a device holds at a time, which sets the classes in a block. The default
    fits into the cache of a CPU core; an accelerator needs less time with 2^26."""

    def __post_init__(self) -> None:
        if self.mixtures < 1:
            raise ValueError(f"mixtures is {self.mixtures}, but must be at least 1 (experts)")
        if self.block_bytes < 1:
            raise ValueError(f"block_bytes {self.block_bytes} must be at least 1")
        if self.gate_bias and self.mixtures == 1:
            raise ValueError("gate_bias needs a gate, so mixtures must be 2 or more")

    @property
    def split_axes(self) -> dict[str, int | None]:
        """Parameter → the axis that is split over the mesh's model axis: all by class."""
        gates = [GATES] * (self.mixtures > 1) + [GATE_BIASES] * self.gate_bias
        return dict.fromkeys([EXPERTS, BIASES, *gates], 0)

    def initialise(self, key: jax.Array, *, size: int, biases: jax.Array) -> Parameters:
        """Parameters of C classes for z f32[B, D], D = `size`; biases f32[C]: their log-odds.

        Kernels f32[Cp, H, D] and f32[Cp, H + 1, D], biases f32[Cp, H] and f32[Cp, H + 1], with
        Cp = `padded(C)`; zero for padding. Before training, the probability of a class is
        about σ(bias). With H > 1 the dummy takes 1/(H + 1) of the gate, so that the experts start
        at (H + 1)/H times that probability, at most at `LARGEST_PRIOR`. Kernels start at normal
        numbers with variance 1/D, since experts that start equal would stay so; with H = 1 at zero.
        """
        (count,), rows, states = biases.shape, padded(len(biases)), self.mixtures
        prior = jax.nn.sigmoid(biases) * (states + 1) / states
        prior = jnp.minimum(prior, LARGEST_PRIOR)
        start = biases if states == 1 else jnp.log(prior) - jnp.log1p(-prior)
        start = jnp.pad(start, (0, rows - count))[:, None]
        parameters = {
            EXPERTS: jnp.zeros((rows, 1, size)),
            BIASES: jnp.repeat(start.astype(jnp.float32), states, axis=1),
        }
        if states > 1:
            real = jnp.arange(rows)[:, None, None] < count
            draws = jax.random.normal(key, (rows, 2 * states + 1, size)) / jnp.sqrt(size)
            draws = jnp.where(real, draws, 0.0)
            parameters |= {EXPERTS: draws[:, :states], GATES: draws[:, states:]}
        if self.gate_bias:
            parameters[GATE_BIASES] = jnp.zeros((rows, states + 1))
        return parameters

    def loss(
        self,
        parameters: Mapping[str, jax.Array],
        z: jax.Array,
        labels: jax.Array,
        count: jax.Array | int,
    ) -> jax.Array:
        """f32[B]: log-loss of each video, summed over classes; stable for any logits.

        z f32[B, D] and labels i32[B, L], padded with −1, are split over the data axis; `count`, C,
        leaves out padding classes. A label outside the classes makes the video's loss NaN. The
        backward pass scores all classes again: to train, use `weighted_loss`.
        """
        return losses_of(self.block_bytes, dict(parameters), z, labels, jnp.asarray(count))

    def weighted_loss(
        self,
        parameters: Mapping[str, jax.Array],
        z: jax.Array,
        labels: jax.Array,
        count: jax.Array | int,
        weights: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """(f32[]: Σ weights · loss, f32[B]: the losses of `loss`, without a gradient).

        Since the weights f32[B] of the videos are known (1/B for the mean), slopes are computed
        together with the losses, block by block. Weights have no gradient.
        """
        arguments = dict(parameters), z, labels, jnp.asarray(count), weights
        total, losses = total_and_losses(self.block_bytes, *arguments)
        return total, jax.lax.stop_gradient(losses)

    def logits(
        self,
        parameters: Mapping[str, jax.Array],
        z: jax.Array,
        count: jax.Array | int | None = None,
    ) -> jax.Array:
        """f32[B, Cp]: log p − log(1 − p) of each class; it still ranks where p rounds to 1.

        −inf from class `count` on; without it padding has numbers without a meaning. Runs on the
        current mesh, or without one.
        """
        return self._of_classes(log_odds, -jnp.inf, parameters, z, count)

    def scores(
        self,
        parameters: Mapping[str, jax.Array],
        z: jax.Array,
        count: jax.Array | int | None = None,
    ) -> jax.Array:
        """f32[B, Cp]: p(e|z) of each class; 0 from class `count` on. See `logits`."""
        return self._of_classes(probability, 0.0, parameters, z, count)

    def _of_classes(
        self,
        terms: Callable[[jax.Array, jax.Array | None], jax.Array],
        padding: float,
        parameters: Mapping[str, jax.Array],
        z: jax.Array,
        count: jax.Array | int | None,
    ) -> jax.Array:
        """f32[B, Cp]: a number of each class; `padding` from class `count` on."""
        rows = parameters[BIASES].shape[0]
        # Nothing but the logits is held, so that larger blocks fit into the cache.
        run = partial(over_class_blocks, terms, block_bytes=4 * self.block_bytes)
        if not jax.sharding.get_abstract_mesh().empty:
            specs = mesh.model_spec(0), mesh.batch_spec(0)
            run = mesh.on_devices(run, specs, mesh.batch_by_class_spec())
        values = run(dict(parameters), z)
        real = jnp.arange(rows)[None] < (rows if count is None else count)
        return jnp.where(real, values, padding)
