import tracemalloc

import numpy as np
import pytest

from vidembed.cli.host_memory import BUILDING_BYTES, host_memory
from vidembed.graph.relation import RelationGraph


def test_the_host_holds_what_a_relation_graph_holds():
    nodes, rng = 500, np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, nodes, (4000, 2)), axis=0)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    graph = RelationGraph.from_edges(*pairs.T, np.ones(len(pairs)), nodes=nodes)
    held = sum(a.nbytes for a in (graph.offsets, graph.neighbours, graph.weights))
    degree = 2 * graph.edges / nodes
    parts = host_memory(nodes, 1152, degree, train_share=0.7, threads=2)
    assert parts["relations"] == held - 8  # the last offset
    assert parts["feature table"] == nodes * 1152


def test_building_a_graph_takes_what_the_host_is_told():
    nodes, edges = 20_000, 300_000
    rng = np.random.default_rng(0)
    source = rng.integers(0, nodes, edges)
    target = (source + 1 + rng.integers(0, nodes - 1, edges)) % nodes
    weight = np.ones(edges, np.float32)
    tracemalloc.start()
    RelationGraph.from_edges(source, target, weight, nodes=nodes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / edges == pytest.approx(BUILDING_BYTES, rel=0.1)
