"""Cases timed in turn, round by round, for ratios that a busy machine does not spoil."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


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


def against(case: list[float], limit: list[float]) -> tuple[float, float, str]:
    """(median seconds, limit in seconds, note) of a case beside its limit in the same rounds.

    The limit is scaled so that seconds / limit is the median of the ratios within rounds.
    """
    ratios = sorted(a / b for a, b in zip(case, limit))
    seconds = statistics.median(case)
    note = f"ratio {ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} rounds"
    return seconds, seconds / statistics.median(ratios), note
