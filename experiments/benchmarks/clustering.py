"""Affinity clustering: `python -m experiments.benchmarks.clustering [--edges 10000000]`.

Three rounds over 1,000,000 videos with 10,000,000 edges between random videos, every linkage and a
size limit, and over a graph in which few videos have most of the edges. The limit is scipy's
minimum_spanning_tree of the same graph in the same run, each edge given once: of the tree alone all
clusters with maximum linkage could be read. A minute on two cores, and 3 GB.
"""

from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import tyro

from experiments.benchmarks.bench import measure, measured, report
from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.relation import RelationGraph

CASES: dict[str, dict[str, Any]] = {
    "average": {},
    "mean": {"linkage": "mean"},
    "max": {"linkage": "max"},
    "sum": {"linkage": "sum"},
    "average, at most 100 videos": {"max_size": 100},
}


def main(
    *, videos: int = 1_000_000, edges: int = 10_000_000, rounds: int = 3, repeats: int = 2
) -> None:
    """Measure all cases and report them; smaller numbers are for trying the benchmark itself."""
    rows = []
    is_train = np.ones(videos, bool)
    for kind, skew, cases in (("random", 1.0, list(CASES)), ("few with most", 3.0, ["average"])):
        graph = drawn(videos, edges, skew)
        limit, _ = measure(spanning_tree(graph), repeats=repeats)
        for case in cases:
            work = partial(affinity_clusters, graph, is_train, rounds=rounds, **CASES[case])
            made = work()
            levels = [made.sizes(level) for level in range(1, rounds + 1)]
            note = f"{graph.edges:,} edges; clusters (largest): " + ", ".join(
                f"{len(sizes):,} ({sizes.max():,})" for sizes in levels
            )
            rows.append(measured(f"{kind}, {case}", work, limit, repeats=repeats, note=note))
    report("clustering", rows)


def drawn(videos: int, edges: int, skew: float) -> RelationGraph:
    """Edges with weights 1 to 49 between videos drawn as a uniform number to the power of skew."""
    random = np.random.default_rng(0)
    source, target = (
        np.minimum((random.random(edges) ** skew * videos).astype(np.int32), videos - 1)
        for _ in range(2)
    )
    apart = source != target
    weight = random.integers(1, 50, edges).astype(np.float32)
    return RelationGraph.from_edges(source[apart], target[apart], weight[apart], nodes=videos)


def spanning_tree(graph: RelationGraph) -> partial:
    """scipy's tree of the heaviest edges."""
    once = scipy.sparse.triu(graph.matrix(), format="csr").astype(np.float64)
    once.data = graph.weights.max() + 1 - once.data
    return partial(scipy.sparse.csgraph.minimum_spanning_tree, once)


if __name__ == "__main__":
    tyro.cli(main)
