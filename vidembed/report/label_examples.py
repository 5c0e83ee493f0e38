"""Videos with their predicted and true labels, for visual inspection of a classifier."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vidembed.corpora.labelled import LabelledCorpus
from vidembed.metrics.class_ranks import top_classes

Scorer = Callable[[np.ndarray], np.ndarray]
"""Rows i64[b] → probabilities f32[b, C]."""


def class_names(corpus: LabelledCorpus, label_names: Mapping[int, str]) -> tuple[str, ...]:
    """The name of each class; those without one ("label 7") have it from label_names, by number."""
    stand_ins = {f"label {number}": name for number, name in label_names.items()}
    return tuple(stand_ins.get(name, name) for name in corpus.labels.names)


def label_examples(
    scorer: Scorer,
    corpus: LabelledCorpus,
    names: tuple[str, ...],
    *,
    videos: int = 12,
    best: int = 5,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Random labelled videos of the test part, with the `best` classes of each.

    names: of the C classes. Returns at most `videos` entries in table order: `id`, `predicted`, by
    falling probability, and `missed`, the true classes that are not among them; both with `name`
    and `probability`, those predicted also with `true`. Raises ValueError for probabilities that
    are not finite.
    """
    drawn = np.flatnonzero(corpus.is_test & corpus.has_labels)
    drawn = np.sort(np.random.default_rng(seed).permutation(drawn)[:videos])
    if not len(drawn):
        return []
    scores = np.asarray(scorer(drawn), np.float32)
    if not (finite := np.isfinite(scores).all(axis=1)).all():
        ids = ", ".join(_text(name) for name in corpus.table.ids[drawn[~finite][:5]])
        raise ValueError(f"some probabilities are not finite: those of videos {ids}")

    def label(number: int, row: np.ndarray) -> dict[str, Any]:
        return {"name": names[number], "probability": float(row[number])}

    entries = []
    for video, row, classes in zip(drawn, scores, top_classes(scores, best)):
        true = corpus.labels.of(np.array([video])).values.tolist()
        top = [number for number in classes.tolist() if number >= 0]
        rest = sorted(set(true) - set(top), key=lambda number: (-row[number], number))
        entries.append(
            {
                "id": _text(corpus.table.ids[video]),
                "predicted": [{**label(number, row), "true": number in true} for number in top],
                "missed": [label(number, row) for number in rest],
            }
        )
    return entries


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
