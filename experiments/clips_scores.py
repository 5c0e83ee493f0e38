"""Scores of vectors for each test clip, and differences of systems paired by clip."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vidembed.evaluators import clip_scores
from vidembed.evaluators.clip_scores import LabelledClips, Measured
from vidembed.media.clip_frames import ClipFrames
from vidembed.metrics.intervals import Interval


class Scores(NamedTuple):
    """What is kept of a system: metrics of all test clips, same source, and those of the pair."""

    clips: Mapping[str, np.ndarray]
    source: Mapping[str, np.ndarray]
    pair: Mapping[str, np.ndarray]


def scored(
    vectors: np.ndarray, known: LabelledClips, of_pair: LabelledClips | None
) -> dict[str, dict[str, list[float]]]:
    """The `Scores` of vectors f32[N, D], as JSON values."""
    first, second = clip_scores.measured(vectors, known)
    pair = {} if of_pair is None else clip_scores.measured(vectors, of_pair)[0].values
    parts = first.values, second.values, pair
    return {
        name: {metric: values.tolist() for metric, values in part.items()}
        for name, part in zip(Scores._fields, parts)
    }


def thumbnails(paths: Sequence[str], side: int) -> np.ndarray:
    """The mean frame of each clip, f32[N, side · side · 3]."""
    pictures = ClipFrames(rate=8, height=side, width=side, fit="crop", longest_seconds=60)
    frames = map(pictures.read, paths)
    return np.stack([of.mean(axis=0, dtype=np.float32).reshape(-1) for of in frames])


def standardised(vectors: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Each dimension by mean and deviation over the train clips, bool[N]."""
    own = vectors[train]
    deviation = own.std(axis=0)
    return np.asarray((vectors - own.mean(axis=0)) / np.where(deviation > 1e-6, deviation, 1))


def mean_of(scores: Sequence[Scores], part: str) -> dict[str, np.ndarray]:
    """Each clip's values, as means over seeds."""
    each = [getattr(of, part) for of in scores]
    return {name: np.mean([of[name] for of in each], axis=0) for name in each[0]}


def paired(
    ones: Sequence[Scores],
    others: Sequence[Scores],
    known: LabelledClips,
    of_pair: LabelledClips | None,
) -> dict[str, Interval]:
    """Means of `ones` − `others` over seeds and test clips, with intervals that resample sources;
    those of the pair are named pair/..."""
    first, second = clip_scores.chance(known)
    parts = {"clips": (known, first.rows), "source": (known, second.rows)}
    if of_pair is not None:
        parts["pair"] = (of_pair, np.flatnonzero(of_pair.test))
    results = {}
    for part, (clips, rows) in parts.items():
        one, other = (Measured(rows, mean_of(of, part)) for of in (ones, others))
        for name, interval in clip_scores.paired(one, other, clips).items():
            results[f"pair/{name}" if part == "pair" else name] = interval
    return results
