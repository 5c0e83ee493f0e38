"""Describe the clusters of the train graph: counts per level, and examples with their labels."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidembed.corpora.watched import Corpus
from vidembed.graph.hierarchy import Hierarchy
from vidembed.graph.relation import RelationGraph

DRAWN_FROM = 4
"""Example clusters have at least this many videos, if there are any."""


def clusters(
    corpus: Corpus,
    label_names: Mapping[int, str],
    *,
    examples: int = 3,
    labels: int = 4,
    videos: int = 3,
    seed: int = 0,
) -> dict[str, Any] | None:
    """The report's section on a corpus's hierarchy; None for a corpus without one.

    `levels` from `describe`, `isolated` (train videos without relations), `train_videos`,
    `simulated_sessions`, and `examples`: for each level its `level` and `clusters`: the largest,
    then random others, each with its `size`, its most frequent `labels` (`name`, `share` of its
    videos, `share_of_all` train videos; ties in the order of their numbers) and the first ids of
    its `videos`.
    """
    hierarchy = corpus.hierarchy
    if hierarchy is None:
        return None
    all_shares = _shares(corpus, np.flatnonzero(corpus.is_train))
    rng = np.random.default_rng(seed)
    shown = []
    for level in range(1, hierarchy.levels + 1):
        cluster, sizes = hierarchy.level(level), hierarchy.sizes(level)
        members = (np.flatnonzero(cluster == number) for number in _chosen(sizes, examples, rng))
        each = [_cluster(corpus, rows, label_names, all_shares, labels, videos) for rows in members]
        shown.append({"level": level, "clusters": each})
    return {
        "levels": describe(hierarchy, corpus.train_graph),
        "isolated": int(np.sum(corpus.is_train & (corpus.train_graph.degrees() == 0))),
        "train_videos": int(corpus.is_train.sum()),
        "simulated_sessions": corpus.simulated,
        "examples": shown,
    }


def describe(hierarchy: Hierarchy, graph: RelationGraph) -> list[dict[str, Any]]:
    """For each level from 1 to R: the number of clusters, their sizes, and the weight inside.

    graph: the train graph behind the hierarchy. Keys: level; clusters; singletons, clusters of one
    video; median_size of the others (0 if there are none) and largest; linked_share, the largest
    cluster's share of the videos with edges; weight_inside, the share of the edge weight between
    videos of the same cluster.
    """
    rows, linked = graph.rows(), int(np.sum(graph.degrees() > 0))
    total = graph.weights.sum(dtype=np.float64)
    levels = []
    for level in range(1, hierarchy.levels + 1):
        cluster, sizes = hierarchy.level(level), hierarchy.sizes(level)
        several = sizes[sizes > 1]
        largest = int(sizes.max(initial=0))
        inside = cluster[rows] == cluster[graph.neighbours]
        levels.append(
            {
                "level": level,
                "clusters": len(sizes),
                "singletons": len(sizes) - len(several),
                "median_size": float(np.median(several)) if len(several) else 0.0,
                "largest": largest,
                "linked_share": largest / max(linked, 1) if largest > 1 else 0.0,
                "weight_inside": float(graph.weights[inside].sum(dtype=np.float64) / total),
            }
        )
    return levels


def _chosen(sizes: np.ndarray, examples: int, rng: np.random.Generator) -> list[int]:
    """Numbers of the largest cluster and of random others of several videos, largest first."""
    several = np.flatnonzero(sizes > 1)
    if not len(several):
        return []
    largest = int(sizes.argmax())
    eligible = several[sizes[several] >= min(DRAWN_FROM, sizes[several].max())]
    drawn = rng.permutation(eligible[eligible != largest])[: examples - 1]
    return [largest, *drawn[np.argsort(-sizes[drawn], kind="stable")].tolist()]


def _cluster(
    corpus: Corpus,
    rows: np.ndarray,
    label_names: Mapping[int, str],
    all_shares: Mapping[int, float],
    labels: int,
    videos: int,
) -> dict[str, Any]:
    shares = _shares(corpus, rows)
    most = sorted(shares, key=lambda label: (-shares[label], label))[:labels]
    return {
        "size": len(rows),
        "labels": [
            {
                "name": label_names.get(label, f"label {label}"),
                "share": shares[label],
                "share_of_all": all_shares[label],
            }
            for label in most
        ],
        "videos": [name.decode(errors="replace") for name in corpus.table.ids[rows[:videos]]],
    }


def _shares(corpus: Corpus, rows: np.ndarray) -> dict[int, float]:
    """Label → the share of these rows that have it."""
    table = corpus.table
    chosen = np.zeros(len(table), bool)
    chosen[rows] = True
    row = np.repeat(np.arange(len(table)), np.diff(table.label_offsets))
    pairs = np.stack([row, table.label_values], axis=1)[chosen[row]]
    # A label that a video has twice counts once.
    labels, counts = np.unique(np.unique(pairs, axis=0)[:, 1], return_counts=True)
    return {int(label): int(count) / len(rows) for label, count in zip(labels, counts)}
