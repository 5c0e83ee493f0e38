"""Detect in a run's journal that its training has collapsed, and warn.

Every network shrinks at first: within ten steps the spread of the embeddings falls to 0.2 to 0.6
and the loss is at the margin; within 20 to 80 steps of 512 triplets it leaves that state. So a sign
only counts if it holds in every line of the last quarter of the run and, while the run is still
training, of the last 200 steps.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from vidembed.losses.triplet import TripletLoss

Line = Mapping[str, Any]
"""One line of metrics.jsonl: `step` and measures."""
QUARTER, STEPS, LINES = 0.75, 200, 5
"""A sign must hold from this share of the steps on, and for this many steps and lines."""
FEWEST = 50
"""A finished run with fewer steps gives no warnings."""
ONE_POINT = 0.1
"""Below this spread all videos have nearly the same embedding."""
SHRUNK = 0.5
"""Below this spread a loss at the margin is a sign. Above it is not: among many candidates the
nearest farther negative is hardly farther than the positive (4,096 triplets, step 10 of a healthy
training: loss 0.0986 of 0.1, 99.7 % with a loss, spread 0.83)."""
NEARLY_ALL = 0.9
"""Above this share of variances at their lowest value, clips are points."""
DROWNED = 2.0
"""Above this total variance, two samples of one clip are farther apart on average, in squared
distance, than any two means of length 1."""
AT_MARGIN = 0.02
"""A loss within this share of its value at equal distances is at the margin."""
REMEDY = (
    "Try a lower --optimiser.learning-rate; a miner that does not take the hardest negatives "
    "(task.miner:semi-hard-random, task.miner:no-mining, or --task.miner.inside-margin); more "
    "reliable relations (cowatch --min-weight); or a larger batch. Or use the closed form, which "
    "cannot collapse (`vidembed train linear`); `evaluate` shows it and raw features beside the run"
)


def one_point(
    lines: Sequence[Line],
    *,
    finished: bool,
    remedy: str = REMEDY,
    of_texts: bool = False,
) -> dict[str, str]:
    """Warn if the embeddings of videos, or those of texts, are nearly one point; {} or one message
    by name."""
    measure, all_of = ("text_spread", "texts") if of_texts else ("spread", "videos")
    what = "the embeddings of texts" if of_texts else "the embeddings"
    last = _while(lines, lambda line: _of(line, measure, 1.0) < ONE_POINT, finished=finished)
    if not last:
        return {}
    return {
        "one point of texts" if of_texts else "one point": (
            f"{what} have collapsed: {_steps(last)} their spread is {_range(last, measure)} "
            f"(0: all {all_of} are one point). {remedy}"
        )
    }


def at_margin(lines: Sequence[Line], *, loss: TripletLoss, finished: bool) -> dict[str, str]:
    """Warn if the loss stays where positives are as far as negatives; {} or one message by name."""

    def shrunk(line: Line) -> bool:
        return _of(line, "spread", 1.0) < SHRUNK and _of(line, "active", 0.0) >= 0.99

    last = _while(lines, shrunk, finished=finished)
    if not last:
        return {}
    equal = float(loss(jnp.zeros(()), jnp.zeros(())))
    if any(abs(_of(line, "loss", math.inf) - equal) > AT_MARGIN * equal for line in last):
        return {}
    return {
        "at the margin": (
            f"the training does not leave the margin: {_steps(last)} the loss is "
            f"{_range(last, 'loss')}, the value if positives are as far as negatives "
            f"({equal:.4f}), {_range(last, 'active')} of the triplets have a loss, and the spread "
            f"is {_range(last, 'spread')}. Related videos are not nearer than others. {REMEDY}"
        )
    }


def nothing_trains(lines: Sequence[Line], *, finished: bool) -> dict[str, str]:
    """Warn if nearly all triplets are dropped; {} or one message by name."""
    last = _while(lines, lambda line: _of(line, "trained", 1.0) < 0.01, finished=finished)
    if finished and all(_of(line, "trained", 1.0) == 0 for line in lines):
        last = lines  # however short the run
    if not last:
        return {}
    return {
        "nothing trains": (
            f"almost no triplets are trained on: {_steps(last)} {_range(last, 'trained')} of the "
            "triplets have a negative. If nearly all videos are related, use more reliable "
            "relations (cowatch --min-weight) or more videos; else try --task.unfound keep, "
            "--task.pool all, another miner (task.miner:...) or a larger batch"
        )
    }


def no_variance(lines: Sequence[Line], *, finished: bool) -> dict[str, str]:
    """Warn if the clips of a probabilistic task are points; {} or one message by name."""
    last = _while(lines, lambda line: _of(line, "at_lowest", 0.0) > NEARLY_ALL, finished=finished)
    if not last:
        return {}
    return {
        "no variance": (
            f"the variances have vanished: {_steps(last)} {_range(last, 'at_lowest')} of them are "
            f"at the lowest value, a deviation of {_range(last, 'deviation')}, so that the "
            "uncertainty of a video says nothing. Try a lower --optimiser.learning-rate, a larger "
            "--task.loss.uncertainty.kl-weight, or a smaller --task.loss.uncertainty.regulariser"
        )
    }


def drowned(lines: Sequence[Line], *, finished: bool) -> dict[str, str]:
    """Warn if noise is larger than any distance of a probabilistic task; {} or one message."""
    last = _while(lines, lambda line: _of(line, "within", 0.0) > DROWNED, finished=finished)
    if not last:
        return {}
    return {
        "drowned": (
            f"the variances have exploded: {_steps(last)} the total variance of a clip is "
            f"{_range(last, 'within')}, beside means of length 1. Samples of all videos are "
            "equally far from each other, and nothing is learnt. Try a lower "
            "--optimiser.learning-rate or --task.heads.highest, or a larger "
            "--task.loss.uncertainty.regulariser"
        )
    }


def single_clips(lines: Sequence[Line], *, finished: bool) -> dict[str, str]:
    """Warn if no video has two clips to compare; {} or one message by name."""
    last = _while(lines, lambda line: _of(line, "trained", 1.0) == 0, finished=finished)
    if finished and all(_of(line, "trained", 1.0) == 0 for line in lines):
        last = lines  # however short the run
    if not last:
        return {}
    return {
        "single clips": (
            f"{_steps(last)} no video has two clips, and the loss compares halves of a video's "
            "clips: videos that are shorter than a clip have one. Use shorter clips "
            "(--feed.frames, --feed.stride)"
        )
    }


def nothing_mined(lines: Sequence[Line], *, finished: bool) -> dict[str, str]:
    """Warn if the threshold makes no pair of two videos positive; {} or one message by name."""
    last = _while(lines, lambda line: _of(line, "mined", 1.0) == 0, finished=finished)
    if not last:
        return {}
    return {
        "nothing mined": (
            f"no two videos are a positive pair: {_steps(last)} the threshold is "
            f"{_range(last, 'threshold')}, and the mean distance of two videos is "
            f"{_range(last, 'distance')}, so that a video is positive with itself only. Raise "
            "--task.loss.threshold.distance, or take a share of the pairs instead "
            "(task.loss.threshold:quantile, --task.loss.threshold.share) and more videos in a batch"
        )
    }


def _while(
    lines: Sequence[Line], sign: Callable[[Line], bool], *, finished: bool
) -> Sequence[Line]:
    """The last lines, if there are enough and all show the sign; else []."""
    if not lines:
        return []
    step = lines[-1]["step"]
    if step < (FEWEST if finished else lines[0]["step"] + STEPS) or not sign(lines[-1]):
        return []
    begin = QUARTER * step if finished else min(QUARTER * step, step - STEPS)
    last = [line for line in lines if line["step"] >= begin]
    enough = finished or len(last) >= LINES
    return last if enough and all(map(sign, last)) else []


def _of(line: Line, measure: str, default: float) -> float:
    value = line.get(measure)
    return default if value is None else float(value)


def _steps(lines: Sequence[Line]) -> str:
    first, last = lines[0]["step"], lines[-1]["step"]
    return f"at step {last:,}" if first == last else f"from step {first:,} to {last:,}"


def _range(lines: Sequence[Line], measure: str) -> str:
    values = sorted(_of(line, measure, 0.0) for line in lines)
    low, high = f"{values[0]:.4g}", f"{values[-1]:.4g}"
    return low if low == high else f"{low} to {high}"
