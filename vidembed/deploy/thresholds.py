"""Thresholds of an annotation run: chosen on its validation videos, checked on its test videos."""

from typing import Any

import numpy as np

from vidembed.engine.model import Model
from vidembed.metrics.multilabel import Accumulator, Predictions
from vidembed.metrics.thresholds import Chosen, Reached, class_thresholds, reached
from vidembed.progress import Progress

SCORES_AT_ONCE = 1 << 24


def thresholds_of(
    model: Model, *, precision: float, top: int, progress: Progress
) -> tuple[str, np.ndarray]:
    """(how they were chosen, thresholds f32[C]) for a wanted precision of a label.

    Opens the data of the run. Prints what the thresholds reach on validation videos, on which they
    are chosen, and on test videos. Raises ValueError for a precision outside (0, 1], and if the run
    has no validation videos.
    """
    if not 0 < precision <= 1:
        raise ValueError(f"precision {precision} must lie above 0 and at most at 1")
    recipe: Any = model.recipe
    with progress.stage("reading the run's data"):
        corpus = recipe.corpus.open()
    if "validation" not in corpus.parts:
        raise ValueError(
            "thresholds are chosen on validation videos, and this run has none "
            "(--corpus.validation-share 0): leave out --precision"
        )
    parts = {
        name: _predictions(model, corpus, inside, top, progress, name)
        for name, inside in corpus.parts.items()
    }
    known = parts["validation"]
    count = corpus.labels.classes
    chosen = class_thresholds(
        known.scores, known.classes, known.hits, count=count, precision=precision
    )
    for name in ("validation", "test"):
        progress.say(_sentence(name, _reached(parts[name], chosen), chosen, count))
    if np.isinf(chosen.thresholds).all():
        progress.say(
            f"WARNING: no threshold reaches a precision of {precision:g}: no video is labelled"
        )
    return f"precision {precision} on validation", chosen.thresholds


def _predictions(
    model: Model, corpus: Any, inside: np.ndarray, top: int, progress: Progress, name: str
) -> Predictions:
    accumulator = Accumulator(k=top)
    rows = np.flatnonzero(inside & corpus.has_labels)
    size = max(1, SCORES_AT_ONCE // corpus.labels.classes)
    with progress.stage(f"scoring {name} videos", len(rows), "videos") as stage:
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            accumulator.add(some, model["labels"](corpus.table, some), corpus.labels.of(some))
            stage.update(start + len(some))
    return accumulator.result()


def _reached(known: Predictions, chosen: Chosen) -> Reached:
    return reached(
        known.scores,
        known.classes,
        known.hits,
        positives=len(known.labels),
        thresholds=chosen.thresholds,
    )


def _sentence(name: str, result: Reached, chosen: Chosen, count: int) -> str:
    where = (
        f"{chosen.own:,} of {count:,} classes have their own threshold, chosen here"
        if name == "validation"
        else "videos that nothing was chosen on"
    )
    return f"{name}: precision {result.precision:.3f}, recall {result.recall:.3f} ({where})"
