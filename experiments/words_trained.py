"""Search by words by trained spaces: alone, beside a closed form, and with hubs corrected."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from experiments.words_data import Worded
from experiments.words_runs import answers_of, train
from experiments.words_systems import Answers, Question
from vidembed.corpora.sentence_vectors import sentence_vectors

HUB_TEXTS, HUB_SHARE = 10, 0.5
"""A video loses half of its mean score with its ten best train captions."""
BLOCK = 512


def trained(
    data: Worded,
    beside: Answers,
    place: Path,
    given: Sequence[str],
    encoder: str,
    seed: int,
) -> Iterator[tuple[str, Answers]]:
    """Two spaces of InfoNCE on sentence vectors (`train jemc --preset recommended`), trained in
    `place` unless that is done; the same with the space of a closed form, in equal parts; and that
    with hubs corrected."""
    spaces = ("--task.model.spaces", "visual", "visual+audio")
    recipe = ("--preset", "recommended", "--corpus.encoder", encoder, *spaces)
    train(place, given, *recipe, seed=seed)
    learned = answers_of(place, data, lambda texts: sentence_vectors(encoder, texts).vectors)
    yield "two spaces, InfoNCE", learned

    def both(of: Sequence[Question]) -> np.ndarray:
        return np.concatenate([learned.texts(of), beside.texts(of)], axis=1)

    joined = Answers(np.concatenate([learned.videos, beside.videos], axis=1), both)
    yield "two spaces and ridge as a third", joined
    yield "the same, hubs corrected", corrected(joined, [Question(text) for text in _train(data)])


def corrected(answers: Answers, texts: Sequence[Question]) -> Answers:
    """One more dimension, so that a video near many train captions loses score for every text."""
    known, lost = answers.texts(texts), []
    for start in range(0, len(answers.videos), BLOCK):
        scores = answers.videos[start : start + BLOCK] @ known.T
        count = min(HUB_TEXTS, scores.shape[1])
        best = np.partition(scores, scores.shape[1] - count, axis=1)[:, -count:]
        lost.append(-HUB_SHARE * best.mean(axis=1))
    videos = np.concatenate([answers.videos, np.concatenate(lost)[:, None]], axis=1)

    def with_one(of: Sequence[Question]) -> np.ndarray:
        of_texts = answers.texts(of)
        return np.concatenate([of_texts, np.ones((len(of_texts), 1))], axis=1)

    return Answers(videos, with_one)


def _train(data: Worded) -> list[str]:
    inside = data.parts["train"][data.videos]
    return list(dict.fromkeys(itertools.compress(data.texts, inside)))
