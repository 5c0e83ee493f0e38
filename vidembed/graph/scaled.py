"""How much a relation counts for in a matrix over videos: its weight, and its ends' degrees."""

from typing import Literal

import numpy as np

from vidembed.graph.relation import RelationGraph

Weigh = Literal["one", "log"]


def scaled(graph: RelationGraph, *, weigh: Weigh = "one", by_degree: bool = True) -> RelationGraph:
    """The same graph with other weights, f32[2E].

    weigh: every relation counts 1, or log(1 + weight). by_degree: then each is divided by the
    square root of the product of its ends' sums, D^-½ A D^-½: no video counts for much more than
    another, however much it is watched.
    """
    weights = np.log1p(graph.weights) if weigh == "log" else np.ones_like(graph.weights)
    if by_degree:
        rows = graph.rows()
        sums = np.bincount(rows, weights, minlength=graph.nodes)
        weights = weights / np.sqrt(sums[rows] * sums[graph.neighbours])
    return RelationGraph(
        offsets=graph.offsets, neighbours=graph.neighbours, weights=weights.astype(np.float32)
    )
