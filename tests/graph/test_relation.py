import numpy as np
import pytest

from vidembed.graph.relation import LeakError, RelationGraph, check_no_leak


def random_edges(rng, nodes, edges):
    """Random pairs without loops, some repeated or reversed, and their summed weights as a dict."""
    source = rng.integers(0, nodes, edges)
    target = (source + rng.integers(1, nodes, edges)) % nodes
    weight = rng.integers(1, 9, edges).astype(np.float32)
    sums = {}
    for a, b, w in zip(source.tolist(), target.tolist(), weight.tolist(), strict=True):
        for pair in ((a, b), (b, a)):
            sums[pair] = sums.get(pair, 0.0) + w
    return source, target, weight, sums


def as_dict(graph):
    entries = zip(graph.rows().tolist(), graph.neighbours.tolist(), graph.weights, strict=True)
    return {(row, other): float(weight) for row, other, weight in entries}


def components(sums, nodes):
    """Sizes of the connected components with more than one node, by following edges."""
    left, sizes = set(range(nodes)), []
    while left:
        front, seen = [left.pop()], 1
        while front:
            row = front.pop()
            near = {b for a, b in sums if a == row} & left
            left -= near
            front += near
            seen += len(near)
        sizes.append(seen)
    return [size for size in sizes if size > 1]


@pytest.mark.parametrize("seed", range(8))
def test_graph_holds_each_pair_both_ways_with_summed_weights(seed):
    rng = np.random.default_rng(seed)
    nodes, edges = int(rng.integers(2, 40)), int(rng.integers(1, 60))
    source, target, weight, sums = random_edges(rng, nodes, edges)
    graph = RelationGraph.from_edges(source, target, weight, nodes=nodes)

    assert as_dict(graph) == sums
    assert (graph.nodes, graph.edges) == (nodes, len(sums) // 2)
    assert graph.degrees().tolist() == [sum(a == row for a, _ in sums) for row in range(nodes)]
    strengths = [sum(w for (a, _), w in sums.items() if a == row) for row in range(nodes)]
    assert graph.strengths().tolist() == strengths
    assert list(as_dict(graph)) == sorted(sums), "columns ascend within a row"
    assert (graph.offsets.dtype, graph.neighbours.dtype, graph.weights.dtype) == (
        np.int64,
        np.int32,
        np.float32,
    )
    assert np.array_equal(graph.matrix().todense()[source, target] > 0, np.ones(edges, bool))

    mask = rng.random(nodes) < 0.6
    inside = {(a, b): w for (a, b), w in sums.items() if mask[a] and mask[b]}
    across = {(a, b): w for (a, b), w in sums.items() if mask[a] != mask[b]}
    assert as_dict(graph.within(mask)) == inside
    assert as_dict(graph.between(mask)) == across
    assert graph.within(mask).nodes == nodes

    sizes = components(sums, nodes)
    linked = {a for a, _ in sums}
    report = graph.report()
    assert report["components"] == len(sizes)
    assert report["giant_component_nodes"] == max(sizes)
    assert report["giant_component_share"] == pytest.approx(max(sizes) / len(linked))
    assert report["isolated_nodes"] == nodes - len(linked)
    assert report["coverage"] == pytest.approx(len(linked) / nodes)
    assert sum(report["degree_histogram"].values()) == nodes
    assert report["weight_sum"] == pytest.approx(weight.sum())


@pytest.mark.fault("Relations and sessions: loops, repeats, bad weights, isolated videos")
def test_report_of_a_graph_worked_by_hand():
    # 0-1-2 is a path, 3-4 a pair, 5 is isolated.
    graph = RelationGraph.from_edges([0, 2, 3], [1, 1, 4], [2, 3, 7], nodes=6)
    report = graph.report()
    assert report == {
        "nodes": 6,
        "edges": 3,
        "isolated_nodes": 1,
        "coverage": pytest.approx(5 / 6),
        "components": 2,
        "giant_component_nodes": 3,
        "giant_component_share": pytest.approx(3 / 5),
        "degree_mean": pytest.approx(6 / 5),
        "degree_median": 1.0,
        "degree_max": 2,
        "degree_histogram": {"0": 1, "1": 4, "2-3": 1},
        "weight_min": 2.0,
        "weight_max": 7.0,
        "weight_sum": 12.0,
    }


def test_report_of_a_graph_without_edges():
    graph = RelationGraph.from_edges([], [], [], nodes=3)
    report = graph.report()
    assert graph.edges == 0
    assert graph.degrees().tolist() == [0, 0, 0]
    assert (report["components"], report["giant_component_share"]) == (0, 0.0)
    assert (report["coverage"], report["degree_histogram"]) == (0.0, {"0": 3})


def test_fingerprint_tells_content_not_order():
    graph = RelationGraph.from_edges([0, 1], [1, 2], [1, 2], nodes=3)
    same = RelationGraph.from_edges([2, 1], [1, 0], [2, 1], nodes=3)
    assert graph.fingerprint == same.fingerprint
    others = [
        RelationGraph.from_edges([0, 1], [1, 2], [1, 3], nodes=3),
        RelationGraph.from_edges([0, 0], [1, 2], [1, 2], nodes=3),
        RelationGraph.from_edges([0, 1], [1, 2], [1, 2], nodes=4),
    ]
    assert len({other.fingerprint for other in [graph, *others]}) == 4


@pytest.mark.parametrize(
    ("source", "target", "weight", "message"),
    [
        ([0, 1], [1, 1], [1, 1], "1 of 2 edges are self loops .*1-1"),
        ([0, 1], [1, 2], [1, 0], r"bad weights .*1-2 \(0"),
        ([0], [1], [-1], "bad weights"),
        ([0], [1], [np.nan], "bad weights"),
        ([0], [1], [np.inf], "bad weights"),
        ([0], [3], [1], r"rows in \[0, 3\), found 0 to 3"),
        ([-1], [1], [1], "found -1 to 1"),
        ([0, 1], [1], [1], "one target and one weight per source"),
    ],
)
def test_edges_that_no_graph_may_hold_are_refused(source, target, weight, message):
    with pytest.raises(ValueError, match=message):
        RelationGraph.from_edges(source, target, weight, nodes=3)


def test_arrays_that_do_not_fit_each_other_are_refused():
    offsets, neighbours = np.array([0, 1, 2]), np.array([1, 0], np.int32)
    weights = np.ones(2, np.float32)
    RelationGraph(offsets=offsets, neighbours=neighbours, weights=weights)
    with pytest.raises(TypeError, match="neighbours must be a flat int32"):
        RelationGraph(offsets=offsets, neighbours=offsets[1:], weights=weights)
    for bad in (np.array([0, 1, 3]), np.array([0, 3, 2]), np.array([1, 1, 2]), offsets[:0]):
        with pytest.raises(ValueError, match="offsets must"):
            RelationGraph(offsets=bad, neighbours=neighbours, weights=weights)
    with pytest.raises(ValueError, match="3 weights"):
        RelationGraph(offsets=offsets, neighbours=neighbours, weights=np.ones(3, np.float32))


@pytest.mark.parametrize("seed", range(12))
def test_the_cap_keeps_the_strongest_edges_of_either_end(seed):
    rng = np.random.default_rng(seed)
    nodes, cap = int(rng.integers(2, 15)), int(rng.integers(1, 5))
    source, target = np.triu_indices(nodes, 1)
    weight = rng.integers(1, 4, len(source)) * (rng.random(len(source)) < 0.6)  # ties are common
    edges = {(a, b): w for a, b, w in zip(source.tolist(), target.tolist(), weight.tolist()) if w}
    strong = set()
    for row in range(nodes):
        edges_of_row = [(-w, sum(pair) - row, pair) for pair, w in edges.items() if row in pair]
        strong |= {pair for *_, pair in sorted(edges_of_row)[:cap]}
    graph = RelationGraph.from_edges(source[weight > 0], target[weight > 0], weight[weight > 0],
                                     nodes=nodes)  # fmt: skip
    capped = graph.capped(cap)
    capped_edges = zip(capped.rows().tolist(), capped.neighbours.tolist(), capped.weights.tolist())
    assert {(a, b): w for a, b, w in capped_edges if a < b} == {p: edges[p] for p in strong}
    assert (capped.matrix() != capped.matrix().T).nnz == 0
    assert (capped is graph) == (graph.degrees().max(initial=0) <= cap)


def test_a_cap_below_one_is_refused():
    with pytest.raises(ValueError, match="max_degree must be at least 1, found 0"):
        RelationGraph.from_edges([0], [1], [1], nodes=2).capped(0)


@pytest.mark.parametrize("mask", [np.ones(2, bool), np.ones(3, np.int8)])
def test_masks_of_another_length_or_type_are_refused(mask):
    graph = RelationGraph.from_edges([0], [1], [1], nodes=3)
    for method in (graph.within, graph.between):
        with pytest.raises(ValueError, match=r"bool\[3\]"):
            method(mask)


def test_leaks_are_named():
    graph = RelationGraph.from_edges([0, 1, 2, 3], [1, 2, 3, 4], [1, 1, 1, 1], nodes=5)
    is_train = np.array([True, True, True, False, False])
    with pytest.raises(LeakError) as by_row:
        check_no_leak(graph, is_train)
    assert "2 of 4 training edges" in str(by_row.value)
    assert "2 (train) - 3 (evaluation); 3 (evaluation) - 4 (evaluation)" in str(by_row.value)
    check_no_leak(graph.within(is_train), is_train)
    with pytest.raises(ValueError, match=r"bool\[5\]"):
        check_no_leak(graph, is_train[:4])


def test_ten_leaks_are_named_and_all_are_counted():
    rows = np.arange(1, 31)
    graph = RelationGraph.from_edges(np.zeros(30, int), rows, np.ones(30), nodes=31)
    with pytest.raises(LeakError) as error:
        check_no_leak(graph, np.arange(31) == 0)
    assert "30 of 30" in str(error.value)
    assert str(error.value).count("0 (train) -") == 10
