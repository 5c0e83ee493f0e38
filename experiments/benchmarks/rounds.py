"""Cases timed in turn, round by round, for ratios that a busy machine does not spoil."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

FULL, NARROW = "product, float32", "product, bfloat16"


def square_products(side: int) -> dict[str, Callable[[], Any]]:
    """FULL and NARROW: the bare product of side³ whose rate is a limit.

    The float32 one at the precision that the network and the miners ask for: at the default, an
    accelerator would round its operands. The other, with float32 sums, is the most that the matrix
    units of an accelerator give.
    """
    full = jax.random.normal(jax.random.key(0), (side, side))
    narrow = full.astype(jnp.bfloat16)
    exact = jax.jit(partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST))
    fast = jax.jit(partial(jnp.matmul, preferred_element_type=jnp.float32))
    return {FULL: partial(exact, full, full), NARROW: partial(fast, narrow, narrow)}


def in_rounds(works: Mapping[str, Callable[[], Any]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each case in each of `rounds` rounds, after one that compiles and is not counted.

    A round runs every case once, so that what slows the machine for a while slows all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for round_number in range(rounds + 1):
        for name, work in works.items():
            began = time.perf_counter()
            jax.block_until_ready(work())
            if round_number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def against(
    case: Sequence[float], seconds_of: Mapping[str, Sequence[float]], arithmetic: float
) -> tuple[float, float, str]:
    """(median seconds, limit in seconds, note) of a case beside its limit in the same rounds.

    arithmetic: the case's, in bare products. The limit is scaled so that seconds / limit is the
    median of the ratios within rounds; the note has their range, and the case's rate as a share of
    the bfloat16 product's.
    """
    ratios = sorted(a / (b * arithmetic) for a, b in zip(case, seconds_of[FULL]))
    shares = [b * arithmetic / a for a, b in zip(case, seconds_of[NARROW])]
    seconds = statistics.median(case)
    note = f"ratio {ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} rounds"
    note += f", {statistics.median(shares):.0%} of the bfloat16 rate"
    return seconds, seconds / statistics.median(ratios), note
