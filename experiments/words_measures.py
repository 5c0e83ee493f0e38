"""What a search by words is worth: ranks of own videos, and average precision of labels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.words_data import Worded
from experiments.words_systems import Answers, Question
from vidembed.metrics.caption_intervals import bootstrap
from vidembed.metrics.caption_ranks import BothRanks, caption_ranks
from vidembed.metrics.intervals import Interval, interval_over_runs, times_drawn

AT = (1, 5, 10)
LEAST = 5
"""Videos of the gallery that bear a label which is asked for."""
QUERIES, LABELS, BY_NAME, BY_DESCRIPTION = (
    "label sets", "seen labels", "unseen by name", "unseen by description"
)  # fmt: skip


class Asked(NamedTuple):
    """Questions with their right answers bool[n, V] among the videos i64[V]."""

    questions: Sequence[Question]
    right: np.ndarray
    gallery: np.ndarray


def questions(data: Worded) -> dict[str, Asked]:
    """Label sets and seen labels among test videos; unseen labels among those and all that were
    kept out. Labels need `LEAST` right answers, sets one; {} for data without labels."""
    if not data.names:
        return {}
    test = np.flatnonzero(data.parts["test"])
    wider = np.flatnonzero(data.parts["test"] | data.kept_out)
    labels = np.unique(data.table.label_values).tolist()
    bearing = {label: data.bearing(label) for label in labels}
    named = [label for label in labels if label in data.names]
    seen = [Question(data.names[n], frozenset([n])) for n in named if n not in data.unseen]
    unseen = [label for label in named if label in data.unseen]
    asked = {
        QUERIES: ([Question(text, each) for each, text in data.label_sets("test")], test),
        LABELS: (seen, test),
        BY_NAME: ([Question(data.names[n], frozenset([n])) for n in unseen], wider),
        BY_DESCRIPTION: (
            [Question(data.descriptions.get(n, data.names[n]), frozenset([n])) for n in unseen],
            wider,
        ),
    }
    result = {}
    for name, (of, gallery) in asked.items():
        right = np.stack(
            [np.logical_and.reduce([bearing[n][gallery] for n in each.labels]) for each in of]
        )
        some = right.sum(axis=1) >= (1 if name == QUERIES else LEAST)
        chosen = [each for each, kept in zip(of, some) if kept]
        result[name] = Asked(chosen, right[some], gallery)
    return result


class Ranked(NamedTuple):
    """Ranks of V test videos by their captions, and the reverse."""

    ranks: BothRanks
    owners: np.ndarray
    """i64[M]: for each caption, the place of its video in `videos`."""
    videos: np.ndarray
    """i64[V]: rows of the table."""


def ranked(data: Worded, answers: Answers) -> Ranked:
    """Rank the test videos by the captions that ask for them."""
    captions = data.queries_of("test")
    test, owners = np.unique(data.videos[captions], return_inverse=True)
    texts = answers.texts([Question(data.texts[n], data.asked[n]) for n in captions])
    vectors = answers.videos[test].astype(np.float32)
    return Ranked(caption_ranks(vectors, texts.astype(np.float32), owners), owners, test)


def measured(
    data: Worded,
    answers: Answers,
    asked: dict[str, Asked],
    *,
    seed: int,
    resamples: int,
    of: Ranked | None = None,
) -> dict[str, Interval]:
    """Ranks of test videos and the reverse (`of`, if known), and mean average precision.

    Intervals resample videos for ranks, and questions for average precision.
    """
    ranks, owners, _ = of or ranked(data, answers)
    result = dict(bootstrap(ranks, owners, at=AT, seed=seed, resamples=resamples))
    for name, each in asked.items():
        texts = answers.texts(each.questions)
        if not texts.any():
            continue  # the system knows none of them
        scores = texts @ answers.videos[each.gallery].T
        values = average_precisions(scores, each.right)
        drawn = times_drawn(len(values), seed=seed, resamples=resamples)
        means = np.concatenate([block @ values / len(values) for block in drawn])
        result[name] = interval_over_runs([float(values.mean())], means[:, None])
    return result


def average_precisions(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """f64[n]: of scores f[n, V], where right bool[n, V] has at least one in each row.

    Equal scores stay in the order of the videos, which says nothing of them.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(right, order, axis=1)
    precision = np.cumsum(hits, axis=1) / np.arange(1, right.shape[1] + 1)
    return (precision * hits).sum(axis=1) / hits.sum(axis=1)
