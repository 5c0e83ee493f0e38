"""Softmax cross-entropy over classes that are split over devices, or over a sample of them.

The loss of a video with score s_y for its own class y is log(1 + Σ exp(s_j − s_y)) over the other
classes j. `compare` computes that sum over the given candidates, as a logarithm; `Compared.joined`
combines the parts of several devices; `cross_entropy` is the loss.
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
    """The classes to score for every video of a batch."""

    classes: jax.Array
    """i32[N]; a sample may hold a class more than once."""
    log_count: jax.Array
    """f32[N]: log of the expected count of each class among the candidates, subtracted from the
    score. 0 if every class occurs once; +inf for padding, which then never counts."""


class Compared(NamedTuple):
    """Partial softmax statistics over one block of candidates, per video."""

    others: jax.Array
    """f32[b]: log Σ exp(s_j − log_count_j) over the candidates that are not the video's class."""
    best: jax.Array
    """f32[b]: the largest score among these; −inf if there are none."""
    own: jax.Array
    """f32[b]: the score of the video's class, summed over its occurrences."""
    hit: jax.Array
    """f32[b]: 1 if the video's class is among the candidates, else 0."""

    def joined(
        self, largest: Callable[..., jax.Array], total: Callable[..., jax.Array]
    ) -> "Compared":
        """Combine with the candidates of other devices, given maximum and sum over devices."""
        peak = largest(jax.lax.stop_gradient(self.others))
        sums = total(jnp.exp(self.others - _finite(peak)))
        others = _logarithm(sums, peak)
        return Compared(others, largest(self.best), total(self.own), total(self.hit))


class ClassLoss(Protocol):
    """A softmax over all classes, or over a sample of them that the task draws."""

    @property
    def block(self) -> int:
        """Videos scored at a time on each device."""


@dataclass(frozen=True, kw_only=True)
class FullSoftmax:
    """Score every class for every video: exact, at the cost of a product with the whole table."""

    block: int = 128
    """Videos scored at a time on each device; memory holds their scores twice."""

    def __post_init__(self) -> None:
        check_block(self.block)

    def candidates(self, classes: jax.Array, count: jax.Array) -> Candidates:
        """All classes i32[N] of a part of the table; numbers from `count` on are padding."""
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
    """Score queries f32[b, D] with class labels i32[b] against the candidates' vectors f32[N, D].

    remove_hits=False counts a video's own class among the others if the sample contains it.
    Memory: about 2·`block`·N·4 bytes; the gradient recomputes the scores instead of storing them.
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
    """Unreduced loss −s_y + log(exp s_y + exp others); both f32[b] → f32[b].

    Computed as softplus(others − s_y), which neither overflows nor rounds a small loss to zero.
    """
    return jax.nn.softplus(others - own)


def check_block(block: int) -> None:
    """Raise ValueError unless at least one video is scored at a time."""
    if block < 1:
        raise ValueError(f"block is {block}, but must be at least 1 (videos scored at a time)")


def _finite(peak: jax.Array) -> jax.Array:
    """The offset to subtract before exponentials: 0 if there was no score to be the largest."""
    return jnp.where(peak == -jnp.inf, 0.0, peak)


def _logarithm(total: jax.Array, peak: jax.Array) -> jax.Array:
    """log total + peak; −inf with zero gradient if nothing was summed. NaN stays NaN."""
    nothing = total == 0
    # The inner `where` keeps 1/0 out of the gradient of the unused branch.
    return jnp.where(nothing, -jnp.inf, jnp.log(jnp.where(nothing, 1.0, total)) + _finite(peak))


@dataclass(frozen=True, kw_only=True)
class SampledSoftmax:
    """Score the video's own class against S drawn ones.

    Bengio and Senécal 2008; Jean et al. 2015, section 3. The whole batch shares the draws. Each is
    weighted by 1 / expected count, so that their sum equals the sum over all classes in expectation
    (the "logQ correction"). The loss is the logarithm of such a sum: the loss and its gradient
    approach those of the full softmax as S grows, and equal them if every class is drawn. GCML only
    says "sampled softmax": sampler and size are NOT ESTABLISHED.
    """

    samples: int = 1024
    """S, classes drawn per step; if S is at least the number of classes, each is taken once."""
    sampler: Literal["uniform", "log_uniform"] = "uniform"
    """uniform draws S different classes. log_uniform draws class c in proportion to
    log((c + 2) / (c + 1)): for classes numbered by descending size, if a few hold most videos.
    Uniform is the default since it does not depend on the numbering, draws no class twice, and
    graph clusters are built to be of similar size."""
    correct: bool = True
    """Weight drawn classes by 1 / expected count. Without it the sum is too small, by a factor of
    about S/C, and the loss approaches the full softmax only when every class is drawn."""
    remove_hits: bool = True
    """Remove draws of the video's own class, which would otherwise compete with itself."""
    block: int = 512
    """Videos scored at a time on each device."""

    def __post_init__(self) -> None:
        check_block(self.block)
        if self.samples < 1:
            raise ValueError(
                f"samples is {self.samples}, but must be at least 1 (classes per step)"
            )

    def strata(self, classes: int) -> dict[str, np.ndarray]:
        """Precompute what `draw` needs for C classes, on the host in float64.

        Draws are stratified: the distribution is cut into S parts of equal probability, and one
        class is drawn from each, which removes most of the noise from the sum. uniform: parts are
        whole classes, {"start": i32[S], "length": i32[S]}; if S does not divide C, parts differ by
        one class. log_uniform: part i is [low_i, low_i · exp(step)) of the line from 1 to C + 1, on
        which class c covers [c + 1, c + 2): {"start", "low", "part", "step", "last"}.
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
        """Draw S classes, with the logs of their expected counts; depends only on the key.

        Class numbers are exact for any number of classes: only the distance from the start of a
        part is computed in floating point.
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
            # Rounding may push the end of the last part beyond the last class.
            classes = jnp.minimum(classes, strata["last"])
            share = jnp.log1p(1 / (classes + 1).astype(jnp.float32))
            log_count = jnp.log(share / step)
        return Candidates(classes, log_count if self.correct else jnp.zeros_like(log_count))
