"""A hierarchy of video clusters: in memory, on disk, and its validity checks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from etils import epath

from vidembed.files import local_path, whole_file
from vidembed.graph.relation import RelationGraph
from vidembed.records import tabular
from vidembed.records.tabular import DIGEST_KEY, METADATA_KEY

REMEDY = "make it again with `python -m vidembed cluster`"


class HierarchyError(ValueError):
    """A hierarchy that cannot be used as it is, or not with this table or graph."""


CLUSTERS = tabular.Kind(
    what="a cluster hierarchy (the Parquet file of `python -m vidembed cluster`)",
    give="the Parquet file that `python -m vidembed cluster` wrote",
    refused=HierarchyError,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Hierarchy:
    """Clusters of N table rows at R levels; level r is the result of r rounds of merging.

    clusters: i32[R, N]; clusters[r - 1, row] is the cluster of a row at level r, numbered 0, 1 ...
    by each cluster's smallest row, and -1 outside the train partition. Levels are nested: rows that
    share a cluster share one at every higher level. A train video without edges is its own cluster.
    graph_fingerprint: RelationGraph.fingerprint of the train graph it was made from.
    parameters: rounds, linkage, min_similarity, max_size, and, if written by
    `python -m vidembed cluster`, split_seed, train_share, max_degree, simulated, and split if the
    split came from a file. The constructor checks dtype and axes only.
    """

    clusters: np.ndarray
    graph_fingerprint: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        clusters = self.clusters
        if clusters.dtype != np.int32 or clusters.ndim != 2 or not len(clusters):
            raise TypeError(
                "Hierarchy.clusters must be int32[levels, videos] with at least one level, found "
                f"{clusters.dtype}{list(clusters.shape)}"
            )

    @property
    def levels(self) -> int:
        """R."""
        return len(self.clusters)

    @property
    def nodes(self) -> int:
        """N: the rows of the table, in the train partition or not."""
        return self.clusters.shape[1]

    def level(self, level: int) -> np.ndarray:
        """Cluster of each row at a level from 1 to R, i32[N]; -1 outside the train partition."""
        if not 1 <= level <= self.levels:
            raise HierarchyError(
                f"there is no level {level}: the hierarchy has levels 1 to {self.levels}; choose "
                "one of them, or cluster again with more --rounds"
            )
        return self.clusters[level - 1]

    def sizes(self, level: int) -> np.ndarray:
        """Videos per cluster of a level, i64[clusters]."""
        cluster = self.level(level)
        return np.bincount(cluster[cluster >= 0]).astype(np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of clusters and graph; the parameters are not part of it."""
        digest = xxhash.xxh3_128(self.graph_fingerprint.encode())
        digest.update(f"{self.clusters.shape}".encode())
        digest.update(np.ascontiguousarray(self.clusters).data)
        return digest.hexdigest()

    def check(self, graph: RelationGraph, is_train: np.ndarray) -> None:
        """Raise HierarchyError unless it was made from this graph, split by is_train bool[N].

        Also raises it for numbers out of range, gaps in the numbering, and levels not nested.
        """
        if not self.nodes == graph.nodes == len(is_train):
            raise HierarchyError(
                f"the hierarchy has {self.nodes} videos, the graph {graph.nodes}, the split "
                f"{len(is_train)}: open it with the table it was made from, or {REMEDY}"
            )
        if self.graph_fingerprint != graph.fingerprint:
            options = ("split", "split_seed", "train_share", "max_degree")
            names = [name for name in options if name in self.parameters]
            values = [f"--{name.replace('_', '-')} {self.parameters[name]}" for name in names]
            before = f" ({' '.join(values)})" if values else ""
            raise HierarchyError(
                f"the hierarchy was made from the train graph {self.graph_fingerprint}, not from "
                f"this one, {graph.fingerprint}: give the same table, edges, --split, "
                f"--split-seed, --train-share and --max-degree as before{before}, or {REMEDY}"
            )
        for level in range(1, self.levels + 1):
            self._check_numbers(level, is_train)
        for level in range(1, self.levels):
            below, above = self.level(level)[is_train], self.level(level + 1)[is_train]
            parent = np.zeros(len(below), np.int32)
            # Of repeated assignments one stays, no matter which: if they differ, some entry below
            # differs from it.
            parent[below] = above
            if split := np.unique(below[parent[below] != above]).tolist():
                raise HierarchyError(
                    f"{len(split)} clusters of level {level} lie in several of level {level + 1} "
                    f"(the first: {split[0]}), so the levels are not nested: {REMEDY}"
                )

    def _check_numbers(self, level: int, is_train: np.ndarray) -> None:
        cluster = self.level(level)
        if outside := int(np.sum(cluster[~is_train] != -1)):
            raise HierarchyError(
                f"{outside} videos of the evaluation partition are in clusters of level {level}: "
                f"training would see them; cluster the train graph only, or {REMEDY}"
            )
        inside = cluster[is_train]
        wrong = np.flatnonzero((inside < 0) | (inside >= len(inside)))
        if len(wrong):
            raise HierarchyError(
                f"{len(wrong)} of {len(inside)} train videos have numbers out of range at level "
                f"{level}, the first {inside[wrong[0]]}; numbers start at 0 and stay below the "
                f"number of train videos: {REMEDY}"
            )
        if not np.array_equal(first_seen(inside), inside):
            raise HierarchyError(
                f"the clusters of level {level} are not numbered 0, 1 ... by their smallest row: "
                f"{REMEDY}"
            )


def first_seen(labels: np.ndarray) -> np.ndarray:
    """Renumber groups in the order of their first appearance: i32[N].

    labels: i[N], from 0 to N - 1.
    """
    first = np.full(len(labels), len(labels))
    # Assignment to repeated indices has no defined order; `minimum.at` has a defined result.
    np.minimum.at(first, labels, np.arange(len(labels)))
    begins = np.zeros(len(labels), bool)
    begins[first[labels]] = True
    rank = np.cumsum(begins, dtype=np.int32) - np.int32(1)
    return rank[first[labels]]


def write_hierarchy(hierarchy: Hierarchy, path: str | os.PathLike[str], ids: np.ndarray) -> None:
    """Write one Parquet file (video_id, level_1 ... level_R), whole or not at all.

    ids: S[N] of the table. The file holds a digest of its rows and metadata, because Parquet itself
    does not detect every flipped bit.
    """
    path = local_path(path)
    if len(ids) != hierarchy.nodes:
        raise HierarchyError(f"{len(ids)} ids for a hierarchy of {hierarchy.nodes} videos")
    names = [f"level_{level}" for level in range(1, hierarchy.levels + 1)]
    columns = [_text(ids), *map(pa.array, hierarchy.clusters)]
    made_from, parameters = hierarchy.graph_fingerprint, dict(hierarchy.parameters)
    description = {"graph_fingerprint": made_from, "parameters": parameters}
    table = pa.table(columns, names=["video_id", *names])
    table = tabular.marked(table, {"hierarchy": description})
    with whole_file(path) as unfinished:
        pq.write_table(table, unfinished, write_page_checksum=True)


def read_hierarchy(path: epath.PathLike, ids: np.ndarray) -> Hierarchy:
    """Read the hierarchy of the table with ids S[N], from a local path or gs://.

    Raises HierarchyError for a missing file, another kind of file, a damaged file, and one made
    with another table. `Hierarchy.check` tells whether it fits the graph.
    """
    path = epath.Path(path)
    table = tabular.read_table(path, CLUSTERS)
    with tabular.reading(path, CLUSTERS):
        stored, schema, names = table.schema.metadata or {}, table.schema, table.column_names
    levels = [name for name in names if name.startswith("level_")]
    kinds = [pa.string()] + [pa.int32()] * len(levels)
    if (
        not levels
        or METADATA_KEY not in stored
        or DIGEST_KEY not in stored
        or schema.types != kinds
    ):
        raise HierarchyError(
            f"{path}: is not a cluster hierarchy written by vidembed (video_id, level_1 ... and "
            f"metadata), found columns {', '.join(names)}: {REMEDY}"
        )
    tabular.check_digest(path, table, f"Restore it from a copy, or {REMEDY}", CLUSTERS)
    description = tabular.read_mark(path, stored, CLUSTERS)["hierarchy"]
    _same_videos(path, table["video_id"], _text(ids))
    return Hierarchy(
        clusters=np.stack([table[name].to_numpy() for name in levels]),
        graph_fingerprint=description["graph_fingerprint"],
        parameters=description["parameters"],
    )


def _text(ids: np.ndarray) -> pa.Array:
    try:
        return pa.array(ids).cast(pa.string())
    except pa.ArrowInvalid as error:
        bad = [id for id in ids.tolist() if id.decode(errors="ignore").encode() != id]
        raise HierarchyError(
            f"{len(bad)} ids of the table are not UTF-8, the first {bad[0]!r}, but clusters are "
            "stored by id: import the table with other ids"
        ) from error


def _same_videos(path: epath.Path, stored_ids: pa.ChunkedArray, table_ids: pa.Array) -> None:
    remedy = f"give the table it was made with, or {REMEDY}"
    if len(stored_ids) != len(table_ids):
        raise HierarchyError(
            f"{path}: has {len(stored_ids)} videos, the table {len(table_ids)}: {remedy}"
        )
    if stored_ids.equals(pa.chunked_array([table_ids])):
        return
    row = next(row for row, pair in enumerate(zip(stored_ids, table_ids)) if pair[0] != pair[1])
    raise HierarchyError(
        f"{path}: lists other videos than the table: row {row} is {stored_ids[row]}, in the table "
        f"{table_ids[row]}: {remedy}"
    )
