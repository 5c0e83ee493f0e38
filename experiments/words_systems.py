"""Search by words in closed form: maps from features to sentence vectors, and controls.

Every system gives vectors of videos and of texts whose dot products are its scores.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.linalg

from experiments.words_data import Worded
from vidembed.models.ridge import ridge_map

Encode = Callable[[Sequence[str]], np.ndarray]
"""n texts → f32[n, E]."""
CHANCE, SHUFFLED, CCA = "chance", "ridge, features shuffled", "CCA"
RIDGE, EVERY, APART = (
    "ridge to sentence vectors",
    "ridge to sentence vectors of every caption",
    "the same, a space for each modality",
)
LARGE = 100.0
"""Features with values above this have scales that differ widely."""
VARIANCE = 1e-8
"""Features of less variance than this share of the largest are constant."""


class Question(NamedTuple):
    """A text, and the labels that it asks for, if known."""

    text: str
    labels: frozenset[int] = frozenset()


class Answers(NamedTuple):
    """A fitted system: videos f64[N, D], and a map from questions to f64[n, D]."""

    videos: np.ndarray
    texts: Callable[[Sequence[Question]], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Penalties:
    """What is added to sums of products of standardised features, a share of the train videos."""

    features: float = 0.3
    sentences: float = 0.1
    """Of the sums of sentence vectors, for CCA: a share of their mean variance."""
    components: int = 128
    """Of CCA."""


def systems(
    data: Worded, encode: Encode, penalties: Penalties, seed: int
) -> Iterator[tuple[str, Answers]]:
    """All closed forms and controls, by name.

    A ridge regresses on the caption that says all of a video, or on the direction of the mean of
    every caption: shorter texts, such as names of single labels, are nearer to that.
    """
    train, modalities = data.parts["train"], data.modalities
    whole, every = (_targets(data, encode, every=each) for each in (False, True))
    mean, of_every = (target[train].mean(axis=0) for target in (whole, every))

    def asked(mean: np.ndarray, spaces: int = 1) -> Callable[[Sequence[Question]], np.ndarray]:
        def texts(of: Sequence[Question]) -> np.ndarray:
            vectors = units(encode([each.text for each in of]).astype(np.float64) - mean)
            return np.concatenate([vectors] * spaces, axis=1)

        return texts

    def predicted(names: Sequence[str], target: np.ndarray) -> np.ndarray:
        return units(ridge(standardised(data, names), target, train, penalties.features))

    videos = predicted(modalities, whole)
    rng = np.random.default_rng(seed)
    yield CHANCE, Answers(rng.standard_normal(videos.shape), asked(mean))
    yield SHUFFLED, Answers(videos[rng.permutation(len(videos))], asked(mean))
    yield RIDGE, Answers(videos, asked(mean))
    goal = units(every - of_every)
    yield EVERY, Answers(predicted(modalities, goal), asked(of_every))
    if len(modalities) > 1:
        apart = np.concatenate([predicted([name], goal) for name in modalities], axis=1)
        yield APART, Answers(apart, asked(of_every, len(modalities)))
    goal = units(whole - mean)
    yield CCA, _cca(standardised(data, modalities), goal, train, asked(mean), penalties)
    if data.names:
        yield "ridge to labels, which it knows", _labels(data, train, penalties.features)


def standardised(data: Worded, modalities: Sequence[str]) -> np.ndarray:
    """f64[N, F]: z-scores by train videos; signed logarithms first where scales differ widely.

    Zeros for values that are missing, not finite or constant.
    """
    train, parts = data.parts["train"], []
    for name in modalities:
        rows = compressed(data.table.floats(name).astype(np.float64))
        there = data.table.has(name)
        rows[~np.isfinite(rows)] = 0
        some = rows[train & there]
        spread = some.std(axis=0)
        live = spread**2 > VARIANCE * max(float(np.square(spread).max(initial=0)), 1e-300)
        scores = (rows - some.mean(axis=0)) / np.where(live, spread, 1)
        parts.append(np.where(there[:, None] & live, scores, 0))
    return np.concatenate(parts, axis=1)


def compressed(rows: np.ndarray) -> np.ndarray:
    """Signed logarithms log(1 + |x|) if scales differ widely, else the same rows."""
    if np.nanmax(np.abs(rows[np.isfinite(rows)]), initial=0) > LARGE:
        return np.sign(rows) * np.log1p(np.abs(rows))
    return rows


def ridge(rows: np.ndarray, target: np.ndarray, train: np.ndarray, penalty: float) -> np.ndarray:
    """f64[N, k]: what a ridge regression on train videos predicts for all, without intercept."""
    some, count = rows[train], int(train.sum())
    goal = target[train] - target[train].mean(axis=0)
    weights = ridge_map(some.T @ some, some.T @ goal, penalty=penalty * count)
    return rows @ weights


def units(rows: np.ndarray) -> np.ndarray:
    """Rows of unit length; zero rows stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _targets(data: Worded, encode: Encode, *, every: bool) -> np.ndarray:
    """f64[N, E]: the mean sentence vector of the captions of each video by which it is asked for,
    or of every caption; zeros without."""
    asked = [data.queries_of(part) for part in data.parts]
    captions = np.arange(len(data.texts)) if every else np.concatenate(asked)
    vectors = encode([data.texts[n] for n in captions.tolist()])
    videos = data.videos[captions]
    sums = np.zeros((len(data.table), vectors.shape[1]))
    np.add.at(sums, videos, vectors)
    counts = np.bincount(videos, minlength=len(sums))
    return sums / np.maximum(counts, 1)[:, None]


def _cca(
    rows: np.ndarray,
    goal: np.ndarray,
    train: np.ndarray,
    sentences: Callable[[Sequence[Question]], np.ndarray],
    penalties: Penalties,
) -> Answers:
    """Regularised canonical correlations, directions weighted by them (Hardoon et al., 2004)."""
    x, y, count = rows[train], goal[train], int(train.sum())
    middle = y.mean(axis=0)
    y = y - middle
    xx = x.T @ x / count + penalties.features * np.eye(x.shape[1])
    yy = y.T @ y / count
    yy += penalties.sentences * np.trace(yy) / len(yy) * np.eye(len(yy))
    left, right = (np.linalg.cholesky(each) for each in (xx, yy))
    between = scipy.linalg.solve_triangular(left, x.T @ y / count, lower=True)
    between = scipy.linalg.solve_triangular(right, between.T, lower=True).T
    u, correlations, v = np.linalg.svd(between, full_matrices=False)
    size = min(penalties.components, len(correlations))
    of_videos = scipy.linalg.solve_triangular(left.T, u[:, :size]) * correlations[:size]
    of_texts = scipy.linalg.solve_triangular(right.T, v[:size].T) * correlations[:size]
    return Answers(units(rows @ of_videos), lambda of: units((sentences(of) - middle) @ of_texts))


def _labels(data: Worded, train: np.ndarray, penalty: float) -> Answers:
    """A ridge to the labels of train videos themselves; a question is the sum of its labels."""
    known: Mapping[int, int] = {
        int(label): place
        for place, label in enumerate(np.setdiff1d(data.table.label_values, data.unseen))
    }
    borne = np.zeros((len(data.table), len(known)))
    row = np.repeat(np.arange(len(borne)), np.diff(data.table.label_offsets))
    taught = np.isin(data.table.label_values, list(known))
    borne[row[taught], [known[int(label)] for label in data.table.label_values[taught]]] = 1
    videos = ridge(standardised(data, data.modalities), borne, train, penalty)

    def texts(of: Sequence[Question]) -> np.ndarray:
        asked = np.zeros((len(of), len(known)))
        for place, each in enumerate(of):
            asked[place, [known[label] for label in each.labels if label in known]] = 1
        return units(asked)

    return Answers(videos, texts)
