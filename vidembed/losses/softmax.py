"""Softmax cross-entropy where no place sees all classes: a part of them a device, or a sample.

The loss of a video with the score s_y for its own class y is log(1 + Σ exp(s_j − s_y)) over the
other classes j. `compare` makes that sum over the candidates at hand, in logarithms; parts of it
from several devices are put together by `Compared.joined`; `cross_entropy` is the loss.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log
from typing import Literal, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np

from vidembed.pairwise import over_blocks


class Candidates(NamedTuple):
    """The classes that are scored for every video of a batch."""

    classes: jax.Array
    """i32[N]; a sample may hold a class more than once."""
    log_count: jax.Array
    """f32[N]: how often each was expected among the candidates, as a logarithm; it is taken off
    the score. 0 where every class occurs once, +inf for padding, which then never counts."""


class Compared(NamedTuple):
    """What some candidates come to, for each video."""

    others: jax.Array
    """f32[b]: log Σ exp(s_j − log_count_j) over the candidates that are not the video's class."""
    best: jax.Array
    """f32[b]: the largest score among these; −inf where there is none."""
    own: jax.Array
    """f32[b]: the score of the video's class, summed over its places among the candidates."""
    hit: jax.Array
    """f32[b]: 1 where the video's class is among the candidates, else 0."""

    def joined(
        self, largest: Callable[..., jax.Array], total: Callable[..., jax.Array]
    ) -> "Compared":
        """With the candidates of other devices: their maximum and sum, element by element."""
        peak = largest(jax.lax.stop_gradient(self.others))
        sums = total(jnp.exp(self.others - _finite(peak)))
        others = _logarithm(sums, peak)
        return Compared(others, largest(self.best), total(self.own), total(self.hit))


class ClassLoss(Protocol):
    """A softmax over classes: over all of them, or over a sample, which the task draws for it."""

    @property
    def block(self) -> int:
        """Videos scored at a time on a device."""


@dataclass(frozen=True, kw_only=True)
class FullSoftmax:
    """Every class is scored for every video: exact, at the price of a product with the table."""

    block: int = 128
    """Videos scored at a time on a device: memory for the scores of so many, twice, is taken."""

    def __post_init__(self) -> None:
        check_block(self.block)

    def candidates(self, classes: jax.Array, count: jax.Array) -> Candidates:
        """All the classes i32[N] of a part of the table; those from `count` on are padding."""
        return Candidates(classes, jnp.where(classes < count, 0.0, jnp.inf))


def compare(
    queries: jax.Array,
    labels: jax.Array,
    vectors: jax.Array,
    candidates: Candidates,
    *,
    block: int,
    remove_hits: bool = True,
) -> Compared:
    """Scores queries f32[b, D] of classes labels i32[b] against the candidates' f32[N, D].

    remove_hits=False counts a video's own class among the others where a sample holds it. Memory:
    about 2·`block`·N·4 bytes; a gradient makes the scores again instead of keeping them.
    """
    chex.assert_equal(len(vectors), len(candidates.classes))

    def reduce(scores: jax.Array, label: jax.Array) -> Compared:
        hit = label[:, None] == candidates.classes[None]
        adjusted = scores - jnp.broadcast_to(candidates.log_count, scores.shape)
        if remove_hits:
            adjusted = jnp.where(hit, -jnp.inf, adjusted)
        peak = jnp.max(jax.lax.stop_gradient(adjusted), axis=1, initial=-jnp.inf)
        total = jnp.sum(jnp.exp(adjusted - _finite(peak)[:, None]), axis=1)
        wrong = ~hit & (candidates.log_count < jnp.inf)[None]
        best = jax.lax.stop_gradient(jnp.where(wrong, scores, -jnp.inf))
        return Compared(
            others=_logarithm(total, peak),
            best=jnp.max(best, axis=1, initial=-jnp.inf),
            own=jnp.sum(jnp.where(hit, scores, 0.0), axis=1),
            hit=jnp.any(hit, axis=1).astype(jnp.float32),
        )

    return over_blocks(reduce, queries, vectors, labels, block=block)


def cross_entropy(own: jax.Array, others: jax.Array) -> jax.Array:
    """−s_y + log(exp s_y + exp others), both f32[b] → f32[b], not reduced.

    As softplus(others − s_y), which neither overflows nor rounds a small loss to zero.
    """
    return jax.nn.softplus(others - own)


def check_block(block: int) -> None:
    """Raises ValueError unless at least one video is scored at a time."""
    if block < 1:
        raise ValueError(f"block is {block}: at least one video is scored at a time")


def _finite(peak: jax.Array) -> jax.Array:
    """What to take off before exponentials: nothing where there was nothing to be the largest."""
    return jnp.where(peak == -jnp.inf, 0.0, peak)


def _logarithm(total: jax.Array, peak: jax.Array) -> jax.Array:
    """log total + peak; −inf, and no gradient, where nothing was summed. NaN stays NaN."""
    nothing = total == 0
    # The inner `where` keeps 1/0 out of the gradient of the branch that is not taken.
    return jnp.where(nothing, -jnp.inf, jnp.log(jnp.where(nothing, 1.0, total)) + _finite(peak))


@dataclass(frozen=True, kw_only=True)
class SampledSoftmax:
    """The video's own class against S drawn ones (Bengio and Senécal 2008; Jean et al. 2015, 3).

    The draws are the same for the whole batch, and each counts 1 / (how often it was expected), so
    that their sum is that over all classes in expectation (the "logQ correction"). The loss is the
    logarithm of such a sum: it, and its gradient, approach the full softmax's as S grows, and equal
    them where every class is drawn. GCML says "sampled softmax" and no more: sampler and size are
    NOT ESTABLISHED.
    """

    samples: int = 1024
    """S, classes drawn a step; with as many as there are, or more, each is taken once."""
    sampler: Literal["uniform", "log_uniform"] = "uniform"
    """uniform draws S different classes. log_uniform draws class c in proportion to
    log((c + 2) / (c + 1)): for classes numbered by falling size, where a few have most of the
    videos. Uniform is the default since it does not depend on the numbering, draws nothing twice,
    and clusters of a graph are made to be of similar size."""
    correct: bool = True
    """Weigh drawn classes by 1 / expected count; without, the sum is too small by about S/C, and
    the loss does not approach the full softmax's until every class is drawn."""
    remove_hits: bool = True
    """Leave out drawn classes that are the video's own; else it competes with itself."""
    block: int = 512
    """Videos scored at a time on a device."""

    def __post_init__(self) -> None:
        check_block(self.block)
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}: at least one class is drawn a step")

    def strata(self, classes: int) -> dict[str, np.ndarray]:
        """What `draw` needs to know of C classes; made on the host, in float64.

        The draws are stratified: the distribution is cut into S parts of equal probability, and one
        class is drawn from each, which takes most of the noise out of the sum. uniform: whole
        classes, {"start": i32[S], "length": i32[S]}; an S that does not divide C makes parts that
        differ by one class. log_uniform: part i is [low_i, low_i · exp(step)) of the line from 1 to
        C + 1, on which class c has [c + 1, c + 2): {"start", "low", "part", "step", "last"}.
        """
        drawn = min(self.samples, classes)
        parts = np.arange(drawn, dtype=np.int64)
        if self.sampler == "uniform" or drawn == classes:
            ends = (np.append(parts, drawn) * classes) // drawn
            return {
                "start": ends[:-1].astype(np.int32),
                "length": np.diff(ends).astype(np.int32),
            }
        step = log(classes + 1) / drawn
        low = np.exp(parts * step)
        return {
            "start": np.floor(low).astype(np.int32) - 1,
            "low": low.astype(np.float32),
            "part": (low - np.floor(low)).astype(np.float32),
            "step": np.float32(step),
            "last": np.int32(classes - 1),
        }

    def draw(self, strata: Mapping[str, jax.Array], key: jax.Array) -> Candidates:
        """S classes and the logarithms of their expected counts, from the key alone.

        Class numbers are never rounded, however many there are: only the distance from the start of
        a part is computed in floating point.
        """
        start = strata["start"]
        if "length" in strata:
            length = strata["length"]
            classes = start + jax.random.randint(key, start.shape, 0, length)
            log_count = -jnp.log(length.astype(jnp.float32))
        else:
            step = strata["step"]
            along = jax.random.uniform(key, start.shape) * step
            beyond = strata["part"] + strata["low"] * jnp.expm1(along)
            classes = start + jnp.floor(beyond).astype(jnp.int32)
            # Rounding may carry the last part's end onto the class after the last.
            classes = jnp.minimum(classes, strata["last"])
            share = jnp.log1p(1 / (classes + 1).astype(jnp.float32))
            log_count = jnp.log(share / step)
        return Candidates(classes, log_count if self.correct else jnp.zeros_like(log_count))
