"""How many of GCML's negatives are of their anchor's kind: pairs of videos that share a label."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse

from vidembed.corpora.watched import Corpus
from vidembed.graph.hierarchy import HierarchyError
from vidembed.graph.siblings import Siblings
from vidembed.records.table import FeatureTable

TIMES = 20
"""Negatives drawn for each anchor."""


def shared_labels(corpus: Corpus, *, seed: int) -> dict[str, float]:
    """Kind of pair → the share of such pairs whose videos have a label in common.

    Anchors are the train videos with a relation, each TIMES times: with negatives at each sibling
    level of the anchor's cluster, and from all train videos. Beside them the pairs that are
    related, in training and between the partitions. Kinds of which there is no pair are left out.
    """
    labels = labels_of(corpus.table)
    pairs = _pairs(corpus, seed)
    return {name: _shared(labels, one, other) for name, one, other in pairs if len(one)}


def labels_of(table: FeatureTable) -> scipy.sparse.csr_array:
    """Which labels each video bears, i32[N, labels], 1 where it does."""
    values = np.asarray(table.label_values, np.int64)
    shape = (len(table), int(values.max(initial=-1)) + 1)
    ones = np.ones(len(values), np.int32)
    return scipy.sparse.csr_array((ones, values, table.label_offsets), shape=shape)


def _pairs(corpus: Corpus, seed: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    assert corpus.hierarchy is not None
    for name, graph in (
        ("related in training", corpus.train_graph),
        ("related between the partitions", corpus.relevance),
    ):
        yield name, graph.rows(), graph.neighbours
    try:
        siblings = Siblings.of(
            corpus.hierarchy,
            corpus.train_graph,
            corpus.is_train,
            relations=corpus.train_relations,
        )
    except HierarchyError:
        return  # no video has a sibling
    anchors = np.repeat(np.flatnonzero(corpus.train_graph.degrees()), TIMES)
    rng = np.random.default_rng(seed)
    for level in range(siblings.levels + 1):
        drawn, _ = siblings.draw(rng.random(len(anchors)), anchors, level)
        place = f"sibling level {level}" if level < siblings.levels else "all train videos"
        yield f"negatives from {place}", anchors, drawn


def _shared(labels: scipy.sparse.csr_array, one: np.ndarray, other: np.ndarray) -> float:
    common = labels[one].multiply(labels[other]).sum(axis=1)
    return float(np.mean(common > 0))
