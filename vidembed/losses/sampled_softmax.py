"""A softmax over a sample of the classes (Bengio and Senécal 2008; Jean et al. 2015, section 3).

A video's own class is always scored; of the others S are drawn, the same for the whole batch, and
each counts 1 / (how often it was expected), so that their sum is that over all classes in
expectation (the "logQ correction"). The loss is the logarithm of such a sum: it, and its gradient,
approach the full softmax's as S grows, and equal them where every class is drawn. GCML says
"sampled softmax" and no more: sampler and size are NOT ESTABLISHED.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from vidembed.losses.softmax import Candidates, check_block


@dataclass(frozen=True, kw_only=True)
class SampledSoftmax:
    """The video's own class against S drawn ones."""

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
