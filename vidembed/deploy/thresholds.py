"""Thresholds of an annotation run: chosen on its validation videos, checked on its test videos."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vidembed.engine.model import Model
from vidembed.metrics.multilabel import Accumulator, Predictions
from vidembed.metrics.thresholds import Chosen, Reached, class_thresholds, reached
from vidembed.progress import Progress

SCORES_AT_ONCE = 1 << 24
FEW = 10
"""True labels from which on a class's own threshold is chosen without a warning."""


def thresholds_of(
    model: Model,
    *,
    names: Sequence[str],
    rows: str,
    precision: float,
    top: int,
    progress: Progress,
) -> tuple[str, np.ndarray]:
    """(how they were chosen, thresholds f32[C]) for a wanted precision of a label.

    Opens the data of the run. Prints what the thresholds reach on validation videos, on which they
    are chosen, and on test videos, and warns if the data are not those of the training. names: the
    C classes of the run. rows: the digest of its data (`LabelledCorpus.rows`); empty if it is not
    stored. Raises ValueError for a precision outside (0, 1], if the run has no validation videos,
    and if the data now have other classes.
    """
    if not 0 < precision <= 1:
        raise ValueError(f"precision {precision} must lie above 0 and at most at 1")
    recipe: Any = model.recipe
    with progress.stage("reading the run's data"):
        corpus = recipe.corpus.open()
    if tuple(names) != corpus.labels.names:
        raise ValueError(
            f"the run's data now have other classes than when it was trained ({len(names):,} then, "
            f"{corpus.labels.classes:,} now{_first_difference(names, corpus.labels.names)}), so no "
            "thresholds can be chosen on them: restore the labels and the vocabulary, or leave out "
            "--precision"
        )
    if rows and rows != corpus.rows:
        progress.say(
            "WARNING: the videos, labels or split have changed since this run was trained: if "
            "train videos are now validation videos, precision is overstated"
        )
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
    few = np.flatnonzero((chosen.positives >= 0) & (chosen.positives < FEW))
    if len(few):
        rarest = int(few[np.argmin(chosen.positives[few])])
        progress.say(
            f"WARNING: the thresholds of {len(few):,} classes rest on fewer than {FEW} true labels "
            f"of validation videos, {names[rarest]!r} on {chosen.positives[rarest]}: on other "
            "videos their precision may be lower. More videos (--corpus.validation-share) help"
        )
    if np.isinf(chosen.thresholds).all():
        progress.say(
            f"WARNING: no threshold reaches a precision of {precision:g}: no video is labelled"
        )
    return f"precision {precision} on validation", chosen.thresholds


def _first_difference(then: Sequence[str], now: Sequence[str]) -> str:
    for place, (one, other) in enumerate(zip(then, now)):
        if one != other:
            return f"; class {place} was {one!r} and is {other!r}"
    return ""


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
