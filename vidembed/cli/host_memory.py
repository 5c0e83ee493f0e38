"""What every host holds in memory: each reads the whole table and makes the whole batch."""

BUILDING_BYTES = 65
"""Bytes an edge at the peak of `RelationGraph.from_edges`, what stays included (traced)."""


def host_memory(
    videos: int, row_bytes: int, degree: float, *, train_share: float, threads: int
) -> dict[str, float]:
    """Bytes of a host for so many videos with `degree` relations each.

    Relations as `RelationGraph`: 8 bytes a video and 8 an entry, each edge in both its rows; the
    train graph has the edges with both ends in the train split; the sampler has 8 bytes for each
    of these; a thread that makes forbidden lists has 4 bytes a video. While a graph is built from
    edges it takes about 65 bytes an edge, of which 16 stay; the file's own bytes come on top.
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
