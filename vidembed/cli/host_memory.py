"""Estimate the memory of one host: each reads the whole table and builds the whole batch."""

BUILDING_BYTES = 65
"""Bytes per edge at the peak of `RelationGraph.from_edges`, result included (traced)."""


def host_memory(
    videos: int, row_bytes: int, degree: float, *, train_share: float, threads: int
) -> dict[str, float]:
    """Bytes on one host for `videos` videos with `degree` relations each.

    A `RelationGraph` takes 8 bytes per video and 8 per entry, with two entries per edge. The train
    graph has the edges with both ends in the train split, and the sampler takes 8 bytes for each of
    these. Each thread that builds forbidden lists takes 4 bytes per video. Building a graph takes
    about 65 bytes per edge, of which 16 remain; the edge file's own bytes are not included.
    """
    edges = videos * degree / 2
    train = edges * train_share**2
    return {
        "feature table": float(videos * row_bytes),
        "ids": 11.0 * videos,
        "relations": 8.0 * videos + 16 * edges,
        "train relations": 8.0 * videos + 16 * train,
        "train edges to sample": 8 * train + 4 * train_share * videos,
        "forbidden lists, scratch": 4.0 * videos * max(threads, 1),
        "while the graph is built": (BUILDING_BYTES - 16) * edges,
    }
