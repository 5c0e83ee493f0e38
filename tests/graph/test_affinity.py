"""Affinity clustering against a slow version that follows the definition, on small graphs."""

import itertools

import numpy as np
import pytest
import scipy.sparse.csgraph

from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.relation import LeakError, RelationGraph

LINKAGES = ("average", "mean", "max", "sum")


def similarity(one, other, edges, linkage):
    """Similarity of two sets of rows from the edges {(row, row): weight}; None without edges."""
    between = [
        weight
        for (a, b), weight in edges.items()
        if (a in one and b in other) or (a in other and b in one)
    ]
    if not between:
        return None
    return {
        "average": sum(between) / (len(one) * len(other)),
        "mean": sum(between) / len(between),
        "max": max(between),
        "sum": sum(between),
    }[linkage]


def joined(clusters, links):
    """Merge clusters along links (pairs of sets), one at a time."""
    clusters = set(clusters)
    for first, second in links:
        ends = {cluster for cluster in clusters if first <= cluster or second <= cluster}
        clusters = clusters - ends | {frozenset().union(*ends)}
    return clusters


def one_round(clusters, edges, linkage, min_similarity, max_size):
    """Sets of rows -> sets of rows."""
    links = {}
    for cluster in clusters:
        choices = []
        for other in clusters - {cluster}:
            alike = similarity(cluster, other, edges, linkage)
            fits = max_size is None or len(cluster) + len(other) <= max_size
            if alike is not None and alike >= min_similarity and fits:
                choices.append((-alike, min(other), other))
        if choices:
            links[cluster] = min(choices, key=lambda choice: choice[:2])
    made = set()
    for whole in joined(clusters, [(one, link[2]) for one, link in links.items()]):
        members = {cluster for cluster in clusters if cluster <= whole}
        if max_size is None or len(whole) <= max_size:
            made.add(whole)
            continue
        falling = sorted(
            (links[one][0], *sorted([min(one), links[one][1]]), one, links[one][2])
            for one in members
            if one in links
        )
        for _, _, _, one, other in falling:
            after = joined(members, [(one, other)])
            if max(map(len, after)) <= max_size:
                members = after
        made |= members
    return made


def slow_clusters(edges, is_train, rounds, linkage, min_similarity, max_size):
    """The clusters i[R, N], numbered by their smallest row."""
    clusters = {frozenset([row]) for row in np.flatnonzero(is_train).tolist()}
    levels = np.full((rounds, len(is_train)), -1)
    for level in levels:
        clusters = one_round(clusters, edges, linkage, min_similarity, max_size)
        for number, cluster in enumerate(sorted(clusters, key=min)):
            level[list(cluster)] = number
    return levels


def random_graph(rng):
    """A small random graph {(row, row): weight} with ties, isolated rows and evaluation rows."""
    nodes = int(rng.integers(2, 20))
    is_train = rng.random(nodes) < 0.85
    pairs = list(itertools.combinations(np.flatnonzero(is_train).tolist(), 2))
    if not pairs:
        return random_graph(rng)
    count = int(rng.integers(1, 2 * nodes))
    chosen = rng.choice(len(pairs), min(count, len(pairs)), replace=False)
    kinds = int(rng.choice([1, 3, 40]))
    # Quarters: their sums are exact in any order, and so are ties.
    return {pairs[place]: rng.integers(1, kinds + 1) / 4 for place in chosen}, is_train


def graph_of(edges, nodes):
    source, target = np.array(list(edges)).T
    return RelationGraph.from_edges(source, target, list(edges.values()), nodes=nodes)


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize(
    ("min_similarity", "max_size"), [(0, None), (0.5, None), (0, 3), (0, 5), (0.25, 4)]
)
def test_many_small_graphs(linkage, min_similarity, max_size):
    rng = np.random.default_rng(0)
    merged = 0
    for _ in range(60):
        edges, is_train = random_graph(rng)
        graph = graph_of(edges, len(is_train))
        options = {"linkage": linkage, "min_similarity": min_similarity, "max_size": max_size}
        hierarchy = affinity_clusters(graph, is_train, rounds=4, **options)
        expected = slow_clusters(edges, is_train, 4, **options)
        assert hierarchy.clusters.tolist() == expected.tolist(), (edges, options)
        assert (hierarchy.clusters[:, ~is_train] == -1).all()
        hierarchy.check(graph, is_train)
        assert max_size is None or all(hierarchy.sizes(r).max() <= max_size for r in range(1, 5))
        merged += hierarchy.clusters.max() < is_train.sum() - 1
    assert merged > 30


def test_the_linkages_differ():
    # Three clusters after one round: {0, 1}, {2, 3} and {4 ... 8}. Two edges of weight 2 join the
    # first and second, one of weight 3 the first and third.
    edges = {(0, 1): 9, (2, 3): 9, (0, 2): 2, (1, 3): 2, (0, 4): 3}
    edges |= {(4, row): 9 for row in (5, 6, 7, 8)}
    level_2 = {}
    for linkage in LINKAGES:
        graph = graph_of(edges, 9)
        hierarchy = affinity_clusters(graph, np.ones(9, bool), rounds=2, linkage=linkage)
        assert hierarchy.level(1).tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 2]
        cut = affinity_clusters(
            graph, np.ones(9, bool), rounds=2, linkage=linkage, min_similarity=2.5
        )
        level_2[linkage] = cut.level(2).tolist()
    assert level_2["average"] == [0, 0, 1, 1, 2, 2, 2, 2, 2], "4 / (2 * 2) and 3 / (2 * 5)"
    assert level_2["mean"] == level_2["max"] == [0, 0, 1, 1, 0, 0, 0, 0, 0], "2 and 3"
    assert level_2["sum"] == [0] * 9, "4 and 3"


@pytest.mark.parametrize("seed", range(4))
def test_maximum_linkage_on_the_spanning_forest_alone(seed):
    rng = np.random.default_rng(seed)
    nodes, count = 600, 1200
    source = rng.integers(0, nodes, count)
    target = (source + rng.integers(1, nodes, count)) % nodes
    pairs = sorted({(min(a, b), max(a, b)) for a, b in zip(source.tolist(), target.tolist())})
    weight = rng.permutation(len(pairs)) + 1.0
    graph = graph_of(dict(zip(pairs, weight.tolist())), nodes)
    # scipy selects the lightest edges and treats 0 as no edge.
    lightest = graph.matrix().astype(np.float64)
    lightest.data = weight.max() + 1 - lightest.data
    tree = scipy.sparse.csgraph.minimum_spanning_tree(lightest).tocoo()
    forest = RelationGraph.from_edges(
        *tree.coords, weight.max() + 1 - tree.data, nodes=nodes
    )  # fmt: skip
    assert forest.edges < graph.edges
    is_train = np.ones(nodes, bool)
    whole = affinity_clusters(graph, is_train, rounds=4, linkage="max")
    part = affinity_clusters(forest, is_train, rounds=4, linkage="max")
    assert np.array_equal(whole.clusters, part.clusters)
    assert whole.sizes(1).max() > 2


def test_the_order_of_the_edges_does_not_matter():
    rng = np.random.default_rng(0)
    nodes = 300
    pairs = np.array(list(itertools.combinations(range(nodes), 2)))
    pairs = pairs[rng.choice(len(pairs), 2000, replace=False)]
    # Sums of these weights are rounded.
    weight = rng.random(len(pairs)).astype(np.float32)
    fingerprints = set()
    for _ in range(5):
        order = rng.permutation(len(pairs))
        shuffled = np.where(rng.random((len(pairs), 1)) < 0.5, pairs, pairs[:, ::-1])[order]
        graph = RelationGraph.from_edges(*shuffled.T, weight[order], nodes=nodes)
        for max_size in (None, 20):
            hierarchy = affinity_clusters(graph, np.ones(nodes, bool), max_size=max_size)
            fingerprints.add((max_size, hierarchy.fingerprint))
    assert len(fingerprints) == 2


def test_rounds_that_merge_nothing_repeat_and_are_reported():
    graph = RelationGraph.from_edges([0, 2], [1, 3], [1, 1], nodes=5)
    reported = []
    hierarchy = affinity_clusters(graph, np.ones(5, bool), rounds=3, on_round=reported.append)
    assert hierarchy.clusters.tolist() == [[0, 0, 1, 1, 2]] * 3
    assert reported == [1, 2, 3]
    unmerged = affinity_clusters(graph, np.ones(5, bool), min_similarity=2)
    assert unmerged.clusters.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert unmerged.parameters == {
        "rounds": 3,
        "linkage": "average",
        "min_similarity": 2,
        "max_size": None,
    }
    assert unmerged.graph_fingerprint == graph.fingerprint


def test_without_a_limit_every_video_with_neighbours_merges():
    rng = np.random.default_rng(0)
    graph = RelationGraph.from_edges(
        rng.integers(0, 500, 900), rng.integers(500, 1000, 900), np.ones(900), nodes=1000
    )
    hierarchy = affinity_clusters(graph, np.ones(1000, bool))
    # Isolated videos stay singletons; no other video does.
    assert np.array_equal(hierarchy.sizes(1)[hierarchy.level(1)] == 1, graph.degrees() == 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds must be at least 1, found 0"),
        ({"linkage": "ward"}, "one of average, mean, max, sum: found ward"),
        ({"min_similarity": -1.0}, "min_similarity must be finite, 0 or more, found -1"),
        ({"min_similarity": float("nan")}, "found nan"),
        ({"min_similarity": float("inf")}, "found inf"),
        ({"max_size": 1}, "max_size must be at least 2.*found 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    graph = RelationGraph.from_edges([0], [1], [1], nodes=2)
    with pytest.raises(ValueError, match=message):
        affinity_clusters(graph, np.ones(2, bool), **options)


@pytest.mark.fault(
    "Relations and sessions: a train graph without edges, an edge that leaks, nothing merged",
)
def test_a_graph_without_edges_is_refused():
    graph = RelationGraph.from_edges([], [], [], nodes=3)
    with pytest.raises(ValueError, match=r"no edges among 2 train videos.*--min-weight"):
        affinity_clusters(graph, np.array([True, False, True]))


@pytest.mark.fault(
    "Relations and sessions: a train graph without edges, an edge that leaks, nothing merged",
)
def test_an_edge_outside_the_train_partition_is_refused():
    graph = RelationGraph.from_edges([0, 1], [1, 2], [1, 1], nodes=3)
    with pytest.raises(LeakError, match="1 of 2 training edges"):
        affinity_clusters(graph, np.array([True, True, False]))
