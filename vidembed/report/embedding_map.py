"""Map an embedding in two dimensions: its directions of greatest variance (PCA)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from vidembed.corpora.watched import Corpus
from vidembed.report import charts

FITTED, DRAWN = 20_000, 1_500
"""Numbers of random videos that the directions are fitted to, and that are shown."""
COLOURS = 7
"""Number of groups with their own colour; all others are grey."""


def principal_components(vectors: np.ndarray, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Project vectors f32[N, D]: (coordinates f64[N, count], shares f64[count] of the variance).

    The sign of each direction makes its largest coefficient, by magnitude, positive.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values, directions = np.linalg.eigh(centred.T @ centred)
    values, directions = values[::-1], directions[:, ::-1][:, :count]
    greatest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    shares = np.maximum(values[:count], 0) / max(values.sum(), np.finfo(float).tiny)
    return centred @ (directions * np.sign(greatest)), shares


def embedding_map(
    embeddings: np.ndarray,
    corpus: Any,
    label_names: Mapping[int, str],
    *,
    classes: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Any] | None:
    """The map of embeddings f32[N, D], coloured by label, else by cluster, else by partition.

    classes: i[N], one label per video, in the place of those of the table.
    None if there is nothing to see: fewer than three videos, or equal vectors. Keys: `svg`;
    `shares`, two shares of the variance; `coloured_by` (label, cluster, part); `groups`, each with
    `series`, `name` and number of `videos`; `other`, number of grey videos; `drawn` of `videos`.
    """
    rng, table = np.random.default_rng(seed), corpus.table
    fitted = np.sort(rng.permutation(len(table))[:FITTED])
    if len(fitted) < 3 or embeddings.shape[1] < 2:
        return None
    points, shares = principal_components(embeddings[fitted])
    if not np.ptp(points, axis=0).all():
        return None
    shown = np.sort(rng.permutation(len(fitted))[:DRAWN])
    rows, points = fitted[shown], points[shown]
    coloured_by, group, names = _groups(corpus, rows, label_names, classes)
    title = "The first two principal components of the embedding"
    return {
        "svg": _picture(title, points, group),
        "title": title,
        "shares": shares.tolist(),
        "coloured_by": coloured_by,
        "groups": [
            {"series": number + 1, "name": name, "videos": int((group == number).sum())}
            for number, name in enumerate(names)
        ],
        "other": int((group < 0).sum()),
        "drawn": len(rows),
        "videos": len(table),
        "dimensions": embeddings.shape[1],
    }


def _picture(title: str, points: np.ndarray, group: np.ndarray) -> str:
    def draw(axes: Axes) -> None:
        for number in range(-1, int(group.max()) + 1):
            colour = charts.MUTED if number < 0 else charts.series_colour(number)
            x, y = points[group == number].T.round(4)
            alpha = 0.35 if number < 0 else 0.8
            axes.plot(x, y, "o", color=colour, alpha=alpha, ms=2.6, mew=0)
        axes.set_xlabel("first component")
        axes.set_ylabel("second component")
        axes.tick_params(labelbottom=False, labelleft=False, length=0)
        axes.grid(visible=False)
        axes.set_aspect("equal", adjustable="datalim")

    return charts.svg(title, draw, 3.6)


def _groups(
    corpus: Corpus,
    rows: np.ndarray,
    label_names: Mapping[int, str],
    classes: np.ndarray | None = None,
) -> tuple[str, np.ndarray, list[str]]:
    """(kind of the groups, group of each row i64[R] or -1, names of the groups)."""
    if classes is not None:
        counts = np.bincount(classes[rows])
        largest = np.argsort(-counts, kind="stable")[:COLOURS]
        largest = largest[counts[largest] > 0]
        place = np.full(len(counts), -1)
        place[largest] = np.arange(len(largest))
        return "label", place[classes[rows]], [label_names[label] for label in largest.tolist()]
    if len(corpus.table.label_values):
        group, labels = commonest(corpus, rows)
        return "label", group, [label_names.get(label, f"label {label}") for label in labels]
    if corpus.hierarchy is not None:
        level = _level(corpus)
        cluster, sizes = corpus.hierarchy.level(level), corpus.hierarchy.sizes(level)
        largest = np.argsort(-sizes, kind="stable")[:COLOURS]
        largest = largest[sizes[largest] > 1]
        place = np.full(len(sizes) + 1, -1)  # the last is for videos outside the train graph
        place[largest] = np.arange(len(largest))
        names = [f"cluster {number} of level {level}" for number in largest.tolist()]
        return "cluster", place[cluster[rows]], names
    return "part", np.where(corpus.is_train[rows], 0, 1), ["to train on", "held out"]


def commonest(corpus: Corpus, rows: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Group rows by common labels: (group i64[R] or -1, labels).

    Each label in turn is the most common one among the rows without a group; rows that have it
    become its group.
    """
    table = corpus.table
    each = [table.labels(row) for row in rows.tolist()]
    owner = np.repeat(np.arange(len(rows)), [len(labels) for labels in each])
    values = np.concatenate([*each, np.zeros(0, np.int32)]).astype(np.int64)
    group, chosen = np.full(len(rows), -1), list[int]()
    for number in range(COLOURS):
        open_pairs = np.unique(np.stack([owner, values])[:, group[owner] < 0], axis=1)
        if not open_pairs.shape[1]:
            break
        labels, counts = np.unique(open_pairs[1], return_counts=True)
        label = int(labels[counts.argmax()])
        group[open_pairs[0, open_pairs[1] == label]] = number
        chosen.append(label)
    return group, chosen


def _level(corpus: Corpus) -> int:
    """The highest level with more clusters of several videos than there are colours, or 1."""
    assert corpus.hierarchy is not None
    for level in range(corpus.hierarchy.levels, 1, -1):
        if np.sum(corpus.hierarchy.sizes(level) > 1) > COLOURS:
            return level
    return 1
