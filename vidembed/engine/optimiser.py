"""Optimisers from Optax with the paper's stepwise learning-rate decay, or a cosine."""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax


class Rule(Protocol):
    """An update rule, without its learning rate."""

    def rule(self) -> optax.GradientTransformation:
        """The transformation from gradients to update directions."""


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam; with weight decay, AdamW."""

    b1: float = 0.9
    """Decay of the moving average of the gradients."""
    b2: float = 0.999
    """Decay of the moving average of their squares."""
    eps: float = 1e-8
    """Added to the root of the average of squares."""

    def __post_init__(self) -> None:
        if not (0 <= self.b1 < 1 and 0 <= self.b2 < 1 and self.eps > 0):
            raise ValueError(
                f"b1 {self.b1} and b2 {self.b2} must lie in [0, 1), eps {self.eps} above zero"
            )

    def rule(self) -> optax.GradientTransformation:
        """Gradients to directions."""
        return optax.scale_by_adam(self.b1, self.b2, self.eps)


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """Stochastic gradient descent with momentum."""

    momentum: float = 0.9
    """Share of the last update that is added to the gradient."""
    nesterov: bool = False
    """Nesterov's form of momentum."""

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum {self.momentum} must lie in [0, 1)")

    def rule(self) -> optax.GradientTransformation:
        """Gradients to directions."""
        return optax.trace(self.momentum, self.nesterov)


@dataclass(frozen=True, kw_only=True)
class Adagrad:
    """Adagrad."""

    initial_accumulator: float = 0.1
    """Initial value of the sums of squared gradients."""

    def rule(self) -> optax.GradientTransformation:
        """Gradients to directions."""
        return optax.scale_by_rss(self.initial_accumulator)


@dataclass(frozen=True, kw_only=True)
class Rprop:
    """Steps from the signs of gradients alone (Riedmiller and Braun, 1993), for whole passes.

    Every number has its own step size, which grows while its gradient keeps its sign and shrinks
    when the sign changes. After a change the number rests for one update ("iRprop−", Igel and
    Hüsken 2003); the original takes its last step back. Signs of the gradients of small batches are
    noise: accumulate over the whole split. Weight decay is added to the step, and does not change
    its size. Step sizes are factors of the learning rate, by which they are multiplied as the
    updates of the other rules are: a first step moves every number by `initial_step` times it.
    """

    initial_step: float = 1.0
    """Size of the first step, in learning rates."""
    eta_minus: float = 0.5
    """Factor of the step size when the gradient changes its sign."""
    eta_plus: float = 1.2
    """Factor of the step size when the gradient keeps its sign."""
    min_step: float = 1e-6
    """Smallest step size, in learning rates."""
    max_step: float = 50.0
    """Largest step size, in learning rates."""

    def __post_init__(self) -> None:
        if not 0 < self.eta_minus < 1 < self.eta_plus < float("inf"):
            raise ValueError(
                f"eta_minus {self.eta_minus} must lie between 0 and 1, eta_plus {self.eta_plus} "
                "above 1"
            )
        if not 0 < self.min_step <= self.initial_step <= self.max_step < float("inf"):
            raise ValueError(
                f"initial_step {self.initial_step} must lie between min_step {self.min_step}, "
                f"which is above zero, and max_step {self.max_step}"
            )

    def rule(self) -> optax.GradientTransformation:
        """Gradients to directions. `optax.scale_by_rprop` is one update late (Optax 0.2.8)."""

        def init(parameters: Any) -> RpropState:
            sizes = optax.tree.full_like(parameters, self.initial_step)
            return RpropState(sizes, optax.tree.zeros_like(parameters))

        def update(gradient: Any, state: RpropState, _: Any = None) -> tuple[Any, RpropState]:
            signs = jax.tree.map(jnp.sign, gradient)
            agree = jax.tree.map(jnp.multiply, signs, state.signs)
            sizes = jax.tree.map(self._resized, agree, state.sizes)
            signs = jax.tree.map(lambda a, sign: jnp.where(a < 0, 0.0, sign), agree, signs)
            return jax.tree.map(jnp.multiply, signs, sizes), RpropState(sizes, signs)

        return optax.GradientTransformation(init, update)

    def _resized(self, agree: jax.Array, size: jax.Array) -> jax.Array:
        factor = jnp.where(agree < 0, self.eta_minus, self.eta_plus)
        resized = jnp.clip(size * factor, self.min_step, self.max_step)
        return jnp.where(agree == 0, size, resized)


class RpropState(NamedTuple):
    """Per number: the size of its step, and the sign of its last step; 0 if it rested."""

    sizes: Any
    signs: Any


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """An update rule and its learning rate over steps.

    The paper does not name its optimiser. It searches the learning rate in {.001, .005, .01, .03,
    .05, .07, .1} and a decay of {.2, .4, .6} % every 100,000 or 150,000 steps (CDML 4.1.1), which
    is read here as multiplying the rate by 0.998 (0.996, 0.994) each time.
    """

    rule: Rule = Adam()
    """How a gradient becomes an update."""
    learning_rate: float = 1e-3
    """The learning rate at the start, after the warmup."""
    schedule: Literal["stepwise", "cosine"] = "stepwise"
    """How the learning rate falls. stepwise: by `decay` every `decay_steps`. cosine: along half a
    cosine after the warmup, to zero at the end of the run (of all rounds of a phase); the number of
    steps then cannot be changed once the run is started, and decay is not used."""
    decay: float = 0.002
    """Share by which the learning rate falls every `decay_steps`."""
    decay_steps: int = 100_000
    """Steps between two decays of the learning rate."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from zero."""
    clip_norm: float | None = None
    """Largest global norm of the gradient."""
    weight_decay: float = 0.0
    """Decoupled weight decay: subtract the rate times this times each kernel (not from biases)."""
    average_decay: float | None = None
    """Keep a moving average of the parameters and evaluate it: the mean over the updates so far,
    each weighted by this decay to the power of the number of updates since. Initial parameters have
    no weight. Batch statistics are averaged, too."""
    accumulate: int = 1
    """Batches whose mean gradient makes one update. A batch may have a `weight` f32[] that
    multiplies its gradient: if the weights of all parts of a split have the mean 1, the update uses
    the gradient of the whole split."""

    def __post_init__(self) -> None:
        # Written so that NaN, for which every comparison is false, is refused, too.
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate {self.learning_rate} must be above zero")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm {self.clip_norm} must be above zero, or None")
        if not self.weight_decay >= 0 or self.warmup_steps < 0:
            raise ValueError(
                f"weight_decay {self.weight_decay} and warmup_steps {self.warmup_steps} must be "
                "zero or more"
            )
        if not 0 <= self.decay < 1 or self.decay_steps < 1:
            raise ValueError(
                f"decay {self.decay} (0 to 1) every {self.decay_steps} (1 or more) steps"
            )
        if self.accumulate < 1:
            raise ValueError(f"accumulate {self.accumulate} must be 1 or more")
        if self.average_decay is not None and not 0 < self.average_decay < 1:
            raise ValueError(f"average_decay {self.average_decay} is outside (0, 1)")

    def rate(self, step: int | jnp.ndarray, steps: int | None = None) -> jnp.ndarray:
        """The learning rate of the update that follows step `step`.

        steps: those of the whole run, or of all rounds of a phase; only a cosine needs them, and
        raises ValueError without (`optax.cosine_decay_schedule`; Loshchilov and Hutter, 2017,
        without restarts).
        """
        update = jnp.asarray(step)
        update = update // self.accumulate if self.accumulate > 1 else update
        warm = jnp.minimum(1.0, (update + 1) / max(self.warmup_steps, 1))
        if self.schedule == "stepwise":
            return self.learning_rate * (1 - self.decay) ** (update // self.decay_steps) * warm
        if steps is None:
            raise ValueError("a cosine schedule needs the number of steps of the run")
        falling = optax.cosine_decay_schedule(1.0, self.falling_updates(steps))
        return self.learning_rate * falling(jnp.maximum(update - self.warmup_steps, 0)) * warm

    def falling_updates(self, steps: int) -> int:
        """Updates of a cosine over `steps` steps; ValueError if the warmup leaves none."""
        updates = steps // self.accumulate
        if updates <= self.warmup_steps:
            raise ValueError(
                f"a cosine schedule needs more updates than its warmup, found {updates:,} updates "
                f"and warmup_steps {self.warmup_steps:,}: train longer, or shorten the warmup"
            )
        return updates - self.warmup_steps

    def transformation(self, steps: int | None = None) -> optax.GradientTransformation:
        """The whole update as one Optax transformation; steps: see `rate`."""
        parts = [self.rule.rule()]
        if self.clip_norm is not None:
            parts.insert(0, optax.clip_by_global_norm(self.clip_norm))
        if self.weight_decay:
            kernels = lambda parameters: {n: n.endswith("kernel") for n in parameters}  # noqa: E731
            parts.append(optax.add_decayed_weights(self.weight_decay, mask=kernels))
        # Optax counts updates, but `rate` counts batches.
        every = self.accumulate
        rate = optax.scale_by_learning_rate(lambda updates: self.rate(updates * every, steps))
        chain = optax.chain(*parts, rate)
        if every == 1:
            return chain
        return optax.MultiSteps(chain, every).gradient_transformation()


def average_share(decay: float, step: int | jnp.ndarray) -> jnp.ndarray:
    """The share of the newest parameters in their average, at the update that follows step `step`.

    One at the first update, then falling to 1 - decay: the weights of all updates so far sum to
    one, which equals Adam's bias correction (Kingma and Ba, 2015, section 3) in one step.
    """
    # expm1: in float32, 1 - decay ** 1 is off by a thousandth for a decay of 0.9999.
    weights = -jnp.expm1(math.log(decay) * (jnp.asarray(step) + 1))
    return jnp.minimum(1.0, (1 - decay) / weights)
