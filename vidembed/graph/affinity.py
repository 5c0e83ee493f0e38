"""Affinity clustering: a hierarchy of clusters from rounds of merging along the strongest edges."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from vidembed.graph.contraction import ClusterEdges
from vidembed.graph.hierarchy import Hierarchy, first_seen
from vidembed.graph.relation import RelationGraph, check_no_leak

Linkage = Literal["average", "mean", "max", "sum"]


def affinity_clusters(
    graph: RelationGraph,
    is_train: np.ndarray,
    *,
    rounds: int = 3,
    linkage: Linkage = "average",
    min_similarity: float = 0.0,
    max_size: int | None = None,
    on_round: Callable[[int], None] | None = None,
) -> Hierarchy:
    """Cluster the train videos by `rounds` rounds of Borůvka-style merging; one level per round.

    In each round every cluster links to its most similar neighbour (ties: the smaller number, that
    is, the smaller first row). Linked clusters merge, and the edges between two clusters become one
    edge (Bateni et al., NIPS 2017). Round 1 starts with one cluster per video. If a round merges
    nothing, its level repeats the one before. Every cluster that links merges, so without limits
    each round at least halves the number of clusters that have neighbours.

    graph: edges within the train partition only. is_train: bool[N].
    linkage: how the weights of the edges between clusters X and Y become their similarity:
    "average" is sum / (|X| |Y|), with absent edges counted as 0; "mean" is sum / number of edges;
    "max" is the largest weight; "sum" is the sum. "average" is the default of the authors'
    published implementation; which one GCML used is NOT ESTABLISHED.
    min_similarity: edges below this similarity are not followed.
    max_size: hard limit on the videos per cluster; None for no limit. Two clusters that together
    exceed it do not link. If a chain of links exceeds it, the links are followed from the most
    similar down (ties: smaller numbers first), each only if the merged cluster fits the limit.
    on_round: called with the number of each finished round.

    Sums are float64, in an order fixed by the graph. Raises LeakError if an edge touches a row
    outside is_train, and ValueError for a graph without edges or an option out of range.
    """
    check_options(rounds, linkage, min_similarity, max_size)
    check_no_leak(graph, is_train)
    if not graph.edges:
        raise ValueError(
            f"the train graph has no edges among {int(is_train.sum())} train videos, so there is "
            "nothing to cluster: lower --min-weight of `python -m vidembed cowatch`, or add more "
            "sessions"
        )
    videos = np.flatnonzero(is_train)
    clusters = np.full((rounds, graph.nodes), -1, np.int32)
    cluster = np.arange(len(videos), dtype=np.int32)
    number = np.full(graph.nodes, -1, np.int32)
    number[videos] = cluster
    edges, sizes = ClusterEdges.between_videos(graph, number), np.ones(len(videos), np.int64)
    for finished in range(rounds):
        parent = _round(edges, sizes, linkage, min_similarity, max_size)
        sizes = np.bincount(parent, sizes).astype(np.int64)
        cluster = parent[cluster]
        clusters[finished, videos] = cluster
        if finished < rounds - 1:
            join = np.maximum if linkage == "max" else np.add
            edges = edges.contract(parent, len(sizes), join)
        if on_round is not None:
            on_round(finished + 1)
    parameters: Mapping[str, Any] = {
        "rounds": rounds,
        "linkage": linkage,
        "min_similarity": min_similarity,
        "max_size": max_size,
    }
    return Hierarchy(clusters=clusters, graph_fingerprint=graph.fingerprint, parameters=parameters)


def check_options(
    rounds: int, linkage: Linkage, min_similarity: float, max_size: int | None
) -> None:
    """Raise ValueError if an option of `affinity_clusters` is out of range; needs no data."""
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, found {rounds}")
    if linkage not in get_args(Linkage):
        raise ValueError(f"linkage must be one of {', '.join(get_args(Linkage))}: found {linkage}")
    if not (min_similarity >= 0 and math.isfinite(min_similarity)):
        raise ValueError(f"min_similarity must be finite, 0 or more, found {min_similarity}")
    if max_size is not None and max_size < 2:
        raise ValueError(f"max_size must be at least 2, since 1 allows no merge; found {max_size}")


def _round(
    edges: ClusterEdges,
    sizes: np.ndarray,
    linkage: Linkage,
    min_similarity: float,
    max_size: int | None,
) -> np.ndarray:
    """Return the new number i32[C] of each cluster after one round.

    sizes: i64[C], videos per cluster.
    """
    similarity = _similarity(edges, sizes, linkage)
    similarity[similarity < min_similarity] = -np.inf
    if max_size is not None:
        similarity[sizes[edges.low] + sizes[edges.high] > max_size] = -np.inf
    neighbour, best = edges.most_similar(similarity, len(sizes))
    every_cluster = np.arange(len(sizes), dtype=np.int32)
    component = _components(every_cluster, neighbour)
    if max_size is None:
        return component
    oversized = np.bincount(component, sizes) > max_size
    if not oversized.any():
        return component
    inside = np.flatnonzero(oversized[component])
    links = neighbour.copy()
    links[inside] = inside
    source, target = _within(max_size, sizes, inside, neighbour[inside], best[inside])
    return _components(
        np.concatenate([every_cluster, source]), np.concatenate([links, target]), len(sizes)
    )


def _similarity(edges: ClusterEdges, sizes: np.ndarray, linkage: Linkage) -> np.ndarray:
    """Similarity f64[E] of each edge's two clusters, in a new array."""
    if linkage == "average":
        videos = sizes.astype(np.float64)
        return edges.weight / (videos[edges.low] * videos[edges.high])
    return edges.weight / edges.count if linkage == "mean" else edges.weight.copy()


def _components(source: np.ndarray, target: np.ndarray, clusters: int | None = None) -> np.ndarray:
    """Connected components i32[C] of links i32[L], numbered by their smallest cluster."""
    clusters = len(source) if clusters is None else clusters
    shape = (clusters, clusters)
    links = scipy.sparse.coo_array((np.ones(len(source), bool), (source, target)), shape=shape)
    _, component = scipy.sparse.csgraph.connected_components(links, directed=False)
    return first_seen(component)


def _within(
    max_size: int,
    sizes: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    similarity: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Select the links i32[L] to follow, most similar first, so no cluster exceeds max_size."""
    low, high = np.minimum(source, target), np.maximum(source, target)
    order = np.lexsort((high, low, -similarity))
    root = {cluster: cluster for cluster in source.tolist()}
    size = dict(zip(source.tolist(), sizes[source].tolist()))
    followed = []
    for link in order.tolist():
        ends = []
        for end in (int(low[link]), int(high[link])):
            while root[end] != end:
                root[end] = root[root[end]]
                end = root[end]
            ends.append(end)
        first, second = ends
        if first != second and size[first] + size[second] <= max_size:
            root[second] = first
            size[first] += size[second]
            followed.append(link)
    return low[followed].astype(np.int32), high[followed].astype(np.int32)
