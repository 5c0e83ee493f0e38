"""What a person checks of a hierarchy before training on it."""

from typing import Any

import numpy as np

from vidembed.graph.hierarchy import Hierarchy
from vidembed.graph.relation import RelationGraph


def describe(hierarchy: Hierarchy, graph: RelationGraph) -> list[dict[str, Any]]:
    """Of each level from 1 to R: how many clusters, how large, and what lies inside them.

    graph: the train graph it was made from. Keys: level; clusters; singletons, clusters of one
    video; median_size of the others (0 where there is none) and largest; linked_share, the largest
    cluster's share of the videos that have edges; weight_inside, the share of the edge weight that
    joins videos of one cluster.
    """
    rows, linked = graph.rows(), int(np.sum(graph.degrees() > 0))
    total = graph.weights.sum(dtype=np.float64)
    found = []
    for level in range(1, hierarchy.levels + 1):
        cluster, sizes = hierarchy.level(level), hierarchy.sizes(level)
        several = sizes[sizes > 1]
        largest = int(sizes.max(initial=0))
        inside = cluster[rows] == cluster[graph.neighbours]
        found.append(
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
    return found
