"""Break results down by kind of video: popular or not, with few neighbours, without a modality.

The means that evaluators report hide where a system fails. These are the same results per video
(`PerQuery` of related videos, `Measured.per_item` of recommendation), averaged over subsets.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from vidembed.corpora.watched import Corpus
from vidembed.metrics.intervals import Interval, bootstrap
from vidembed.records.scores_file import PerQuery
from vidembed.records.table import FeatureTable

HEAD, TORSO = 0.1, 0.5
"""The most popular tenth of the videos is the head, the next four tenths are the torso."""
NEIGHBOURS = (0, 1, 3, 10, 30)
"""Smallest number of neighbours of each slice."""
LABELS = 8
"""Number of labels, the most common ones, that get their own slice."""
RESAMPLES = 1000


class Slice(NamedTuple):
    """Mean results of a subset of the measured videos."""

    videos: int
    scores: dict[str, Interval]


LabelKinds = Mapping[str, Mapping[int, str]]
"""Kind, such as `label` or `vertical` → label → name."""
Slices = Mapping[str, Mapping[str, Slice]]
"""Kind → name → slice; each measured video is in exactly one slice of a kind."""


def slices_of(
    table: FeatureTable,
    *,
    popularity: np.ndarray | None = None,
    neighbours: np.ndarray | None = None,
    seconds: np.ndarray | None = None,
    label_kinds: LabelKinds | None = None,
) -> dict[str, np.ndarray]:
    """Kind → the slice name of each row of the table, U[N].

    popularity: f64[N] or i64[N], from the train data if an item is in it. neighbours: i64[N].
    seconds: f64[N], when each video appeared, NaN if unknown. label_kinds: `label` or `vertical` →
    label → its name, or its vertical; a video counts for its first label.
    """
    slices: dict[str, np.ndarray] = {}
    if popularity is not None:
        rank = np.empty(len(table))
        rank[np.argsort(-popularity, kind="stable")] = np.arange(len(table)) / len(table)
        names = np.where(rank < HEAD, "head", np.where(rank < TORSO, "torso", "tail"))
        slices["popularity"] = np.where(popularity > 0, names, "never watched")
    if neighbours is not None:
        ends = [f"to {end - 1}" for end in NEIGHBOURS[2:]] + ["or more"]
        bins = np.array(["none", *(f"{begin} {end}" for begin, end in zip(NEIGHBOURS[1:], ends))])
        slices["neighbours"] = bins[np.digitize(neighbours, NEIGHBOURS) - 1]
    if any(not table.has(name).all() for name in table.features):
        lacking = [np.where(table.has(name), "", f" {name}") for name in table.features]
        without = np.array(["".join(names) for names in zip(*lacking)])
        slices["modalities"] = np.where(without == "", "all", np.char.add("without", without))
    for kind, label_names in (label_kinds or {}).items():
        if not label_names or not len(table.label_values):
            continue
        has = np.diff(table.label_offsets) > 0
        first = table.label_values[np.where(has, table.label_offsets[:-1], 0)]
        missing = "label {}" if kind == "label" else f"no {kind}"
        names = np.array([label_names.get(int(n), missing.format(n)) for n in first])
        each, count = np.unique(names[has], return_counts=True)
        common = each[np.argsort(-count, kind="stable")][:LABELS]
        other = np.where(has, "other", f"no {kind}")
        slices[kind] = np.where(np.isin(names, common) & has, names, other)
    if seconds is not None and np.isfinite(seconds).any():
        bounds = np.nanquantile(seconds, [1 / 3, 2 / 3])
        thirds = np.array(["oldest third", "middle third", "newest third"])
        known = np.isfinite(seconds)
        slices["age"] = np.where(known, thirds[np.digitize(seconds, bounds)], "not known")
    return slices


def slices_of_videos(corpus: Corpus, label_kinds: LabelKinds) -> dict[str, np.ndarray]:
    """`slices_of` by all relations of a corpus: popularity is the sum of their weights."""
    graph = corpus.relations
    return slices_of(
        corpus.table,
        popularity=graph.strengths(),
        neighbours=graph.degrees(),
        label_kinds=label_kinds,
    )


def sliced(
    measured: PerQuery, table: FeatureTable, slices: Mapping[str, np.ndarray], *, seed: int = 0
) -> dict[str, dict[str, Slice]]:
    """Mean results of each slice U[N], largest slice first, with 95 % intervals.

    Raises ValueError if the table lacks one of the measured videos.
    """
    rows = table.find(measured.ids)
    if (rows < 0).any():
        raise ValueError(f"{int((rows < 0).sum())} of {len(rows)} videos are not in the table")
    results: dict[str, dict[str, Slice]] = {}
    for kind, names in slices.items():
        each, count = np.unique(names[rows], return_counts=True)
        for name in each[np.argsort(-count, kind="stable")].tolist():
            inside = names[rows] == name
            values = {metric: v[inside] for metric, v in measured.values.items()}
            scores = bootstrap([values], seed=seed, resamples=RESAMPLES)
            results.setdefault(kind, {})[name] = Slice(int(inside.sum()), scores)
    return results
