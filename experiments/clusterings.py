"""Ways of clustering the train videos that have relations: ours, and others to hold it against."""

import importlib.util
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import scipy.sparse.csgraph

from vidembed.corpora.watched import Corpus
from vidembed.evaluators.baselines import raw_features
from vidembed.graph.hierarchy import Hierarchy
from vidembed.graph.relation import RelationGraph

NO_IGRAPH = (
    "igraph is not installed, so the rows Louvain and Leiden are left out: install what the tests "
    "need, `pip install -e '.[test]'`"
)
KMEANS: Mapping[str, Any] = {"init": "random", "n_init": 4, "max_iter": 50}
"""From k-means++ it took minutes, not seconds, on 40 shards; at level 1 label purity and AMI were
then 0.282 and 0.195, and are 0.269 and 0.190 so."""


def linked_videos(corpus: Corpus) -> np.ndarray:
    """Rows i64[V] of the train videos with at least one relation to another train video."""
    return np.flatnonzero(corpus.train_graph.degrees() > 0)


def has_igraph() -> bool:
    """Whether Louvain and Leiden can be had."""
    return importlib.util.find_spec("igraph") is not None


def clusterings(
    corpus: Corpus, hierarchy: Hierarchy, *, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and cluster i64[V] of each of `linked_videos`, one way after the other.

    For each level of the hierarchy: its clusters; clusters of the same sizes with the videos
    shuffled at random, which know nothing; and k-means on the raw features with as many clusters.
    Then the graph's connected components, and where igraph is installed Louvain and Leiden, both
    for modularity at resolution 1 with the edges' weights. The same seed gives the same clusters.

    Raw features stand side by side as they are, and all of a video's are then scaled to unit
    length, as where they are searched: without that k-means gathers up to half of YouTube-8M's
    videos in one cluster of short vectors, and agrees less with the labels.
    """
    videos, graph = linked_videos(corpus), corpus.train_graph
    features = raw_features(corpus.table, tuple(corpus.table.features))[videos]
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    rng = np.random.default_rng(seed)
    for level in range(1, hierarchy.levels + 1):
        cluster = hierarchy.level(level)[videos].astype(np.int64)
        yield f"level {level}", cluster
        yield f"level {level}, random", rng.permutation(cluster)
        yield f"level {level}, k-means", kmeans(features, len(np.unique(cluster)), seed=seed)
    _, component = scipy.sparse.csgraph.connected_components(graph.matrix(), directed=False)
    yield "components", component[videos].astype(np.int64)
    if has_igraph():
        yield from communities(graph, videos, seed=seed)


def kmeans(features: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
    """Cluster i64[V] of features f32[V, F]: Lloyd's algorithm, the best of a few beginnings."""
    from sklearn.cluster import KMeans

    lloyd = KMeans(clusters, random_state=seed, **KMEANS)
    return lloyd.fit_predict(features).astype(np.int64)


def communities(
    graph: RelationGraph, videos: np.ndarray, *, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Louvain and Leiden of the graph over the rows i64[V] that bear its edges, by igraph."""
    import igraph

    number = np.zeros(graph.nodes, np.int64)
    number[videos] = np.arange(len(videos))
    rows = graph.rows()
    once = rows < graph.neighbours
    ends = np.stack([number[rows[once]], number[graph.neighbours[once]]], axis=1)
    whole = igraph.Graph(n=len(videos), edges=ends)
    weights = graph.weights[once].tolist()
    # igraph draws from Python's generator, which is everybody's.
    igraph.set_random_number_generator(random.Random(seed))
    try:
        louvain = whole.community_multilevel(weights=weights)
        leiden = whole.community_leiden("modularity", weights=weights, n_iterations=-1)
    finally:
        igraph.set_random_number_generator(random)
    yield "Louvain", np.array(louvain.membership, np.int64)
    yield "Leiden", np.array(leiden.membership, np.int64)
