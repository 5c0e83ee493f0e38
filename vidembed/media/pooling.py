"""Pool the features of a video's frames, or windows of sound, to one row."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

Pooling = Literal["mean", "statistics", "first", "motion"]
TOP = 5


def pool(values: np.ndarray, how: Pooling) -> np.ndarray | None:
    """One row f32[P] of the features f32[T, D] of T frames in order, T at least 1.

    mean        the mean of all frames; P = D
    statistics  mean, standard deviation and the mean of the five largest values of each feature, as
                one vector; P = 3 D. The video-level features of the YouTube-8M paper (Abu-El-Haija
                et al., 2016) give the five largest apart, which makes 7 D.
    first       the first frame alone, as a thumbnail; P = D
    motion      mean absolute difference between consecutive frames; P = D. None for one frame,
                because it says nothing of motion.
    """
    if not len(values):
        raise ValueError("no frames to pool")
    pooled = POOLS[how](np.asarray(values, np.float64))
    return None if pooled is None else pooled.astype(np.float32)


def pooled_width(width: int, how: Pooling) -> int:
    """The size of a pooled row of features of this width."""
    return 3 * width if how == "statistics" else width


def _statistics(values: np.ndarray) -> np.ndarray:
    top = np.sort(values, axis=0)[-TOP:].mean(axis=0)
    return np.concatenate([values.mean(axis=0), values.std(axis=0), top])


def _motion(values: np.ndarray) -> np.ndarray | None:
    if len(values) < 2:
        return None
    return np.asarray(np.abs(np.diff(values, axis=0)).mean(axis=0))


POOLS: Mapping[Pooling, Callable[[np.ndarray], np.ndarray | None]] = {
    "mean": lambda values: values.mean(axis=0),
    "statistics": _statistics,
    "first": lambda values: values[0],
    "motion": _motion,
}
