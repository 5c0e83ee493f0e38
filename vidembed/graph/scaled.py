"""Rescale the weights of a relation graph, by weight and by the degrees of both ends."""

from typing import Literal

import numpy as np

from vidembed.graph.relation import RelationGraph

Weigh = Literal["one", "log"]


def scaled(graph: RelationGraph, *, weigh: Weigh = "one", by_degree: bool = True) -> RelationGraph:
    """Return the same graph with rescaled weights, f32[2E].

    weigh: "one" gives every relation the weight 1, "log" log(1 + weight). by_degree: then divide
    each by the square root of the product of the sums at its two ends, D^-½ A D^-½, so that often
    watched videos do not dominate.
    """
    weights = np.log1p(graph.weights) if weigh == "log" else np.ones_like(graph.weights)
    if by_degree:
        rows = graph.rows()
        sums = np.bincount(rows, weights, minlength=graph.nodes)
        weights = weights / np.sqrt(sums[rows] * sums[graph.neighbours])
    return RelationGraph(
        offsets=graph.offsets, neighbours=graph.neighbours, weights=weights.astype(np.float32)
    )
