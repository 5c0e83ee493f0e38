"""Ranks of a search by captions: seconds and memory. `python -m experiments.benchmarks.video_text`.

MSR-VTT's test part by default: 2,990 videos with 20 captions each, two unit vectors of 1,024
dimensions side by side. Ranks in both directions, the same with a dual softmax, and the intervals
of their scores. The limit of the ranks is one bare product of all pairs, at the rate of a 4096³
product in the same rounds; a dual softmax needs two. Intervals have no product: their limit is
reading the captions' weights in all resamples once, at the rate of a copy.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tyro

from experiments.benchmarks.bench import (
    Row,
    against_products,
    in_rounds,
    measure,
    report,
    square_products,
)
from vidembed.metrics.caption_intervals import bootstrap
from vidembed.metrics.caption_ranks import caption_ranks

SQUARE = 4096
COPY = "copy"
RESAMPLES = 1000
INTERVALS = f"intervals, {RESAMPLES:,} resamples"


def main(
    *, videos: int = 2990, captions: int = 20, dimensions: int = 2048, rounds: int = 3
) -> None:
    """Measure all cases and report them; smaller numbers are for trying the benchmark itself."""
    owners = np.repeat(np.arange(videos), captions)
    of_videos = _unit(np.random.default_rng(0), videos, dimensions)
    of_texts = _unit(np.random.default_rng(1), len(owners), dimensions)
    for start in range(0, len(owners), 4096):
        of_texts[start : start + 4096] += 0.1 * of_videos[owners[start : start + 4096]]
    ranks = partial(caption_ranks, of_videos, of_texts, owners)
    works: dict[str, Callable[[], Any]] = {
        "ranks": ranks,
        "ranks, dual softmax": partial(ranks, temperature=0.05),
    }
    products = {"ranks": 1, "ranks, dual softmax": 2}
    intervals = partial(bootstrap, ranks(), owners, at=(1, 5, 10), seed=0, resamples=RESAMPLES)
    line = np.ones(len(owners))
    copy = partial(np.copyto, np.empty_like(line), line)
    cases: dict[str, Callable[[], Any]] = {
        **square_products(SQUARE),
        **works,
        INTERVALS: intervals,
        COPY: copy,
    }
    seconds = in_rounds(cases, rounds=rounds)
    arithmetic = videos * len(owners) * dimensions / SQUARE**3
    rows = [
        against_products(
            name, seconds, arithmetic * products[name], peak_bytes=measure(work, repeats=1)[1]
        )
        for name, work in works.items()
    ]
    peak = measure(intervals, repeats=1)[1]
    limit = RESAMPLES * statistics.median(seconds[COPY])
    took = statistics.median(seconds[INTERVALS])
    rows.append(Row(case=INTERVALS, seconds=took, limit_seconds=limit, peak_bytes=peak))
    report("video_text", rows)


def _unit(random: np.random.Generator, count: int, dimensions: int) -> np.ndarray:
    vectors = random.standard_normal((count, dimensions), np.float32)
    for start in range(0, count, 4096):
        some = vectors[start : start + 4096]
        some /= np.linalg.norm(some, axis=1, keepdims=True)
    return vectors


if __name__ == "__main__":
    tyro.cli(main)
