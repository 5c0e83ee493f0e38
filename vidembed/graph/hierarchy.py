"""A hierarchy of clusters of videos: in memory, on disk, and what must hold of it."""

import json
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

REMEDY = "make it anew with `python -m vidembed cluster`"


class HierarchyError(ValueError):
    """A hierarchy that must not be used as it is, or not with this table or graph."""


CLUSTERS = tabular.Kind(
    what="a cluster hierarchy (the Parquet file of `python -m vidembed cluster`)",
    give="the Parquet file that `python -m vidembed cluster` wrote",
    refused=HierarchyError,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Hierarchy:
    """Clusters of N table rows at R levels; level r is what r rounds of merging made.

    clusters: i32[R, N], clusters[r - 1, row] the cluster of a row at level r, numbered 0, 1 ... by
    each cluster's smallest row; -1 for rows outside the train partition. Nested: rows that share a
    cluster share every later one. A train video without edges is a cluster of its own.
    graph_fingerprint: RelationGraph.fingerprint of the train graph it was made from.
    parameters: how it was made: rounds, linkage, min_similarity, max_size, and, once written by
    `python -m vidembed cluster`, split_seed, train_share, max_degree, simulated, and split where a
    file says it. The constructor checks dtype and axes only.
    """

    clusters: np.ndarray
    graph_fingerprint: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = self.clusters
        if found.dtype != np.int32 or found.ndim != 2 or not len(found):
            raise TypeError(
                "Hierarchy.clusters must be int32[levels, videos] with a level at least, found "
                f"{found.dtype}{list(found.shape)}"
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
        """Videos of each cluster of a level, i64[clusters]."""
        cluster = self.level(level)
        return np.bincount(cluster[cluster >= 0]).astype(np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of clusters and graph; how they were found does not matter."""
        digest = xxhash.xxh3_128(self.graph_fingerprint.encode())
        digest.update(f"{self.clusters.shape}".encode())
        digest.update(np.ascontiguousarray(self.clusters).data)
        return digest.hexdigest()

    def check(self, graph: RelationGraph, is_train: np.ndarray) -> None:
        """Raises HierarchyError unless it was made from this graph, split by is_train bool[N].

        Also for numbers out of range, gaps in the numbering, and levels that are not nested.
        """
        if not self.nodes == graph.nodes == len(is_train):
            raise HierarchyError(
                f"the hierarchy is of {self.nodes} videos, the graph of {graph.nodes}, the split "
                f"of {len(is_train)}: open it with the table it was made from, or {REMEDY}"
            )
        if self.graph_fingerprint != graph.fingerprint:
            options = ("split", "split_seed", "train_share", "max_degree")
            known = [name for name in options if name in self.parameters]
            values = [f"--{name.replace('_', '-')} {self.parameters[name]}" for name in known]
            then = f" ({' '.join(values)})" if values else ""
            raise HierarchyError(
                f"the hierarchy was made from the train graph {self.graph_fingerprint}, not from "
                f"this one, {graph.fingerprint}: give the same table, edges, --split, "
                f"--split-seed, --train-share and --max-degree as then{then}, or {REMEDY}"
            )
        for level in range(1, self.levels + 1):
            self._check_numbers(level, is_train)
        for level in range(1, self.levels):
            below, above = self.level(level)[is_train], self.level(level + 1)[is_train]
            parent = np.zeros(len(below), np.int32)
            # One of the values for a place stays; which does not matter: where they differ, any
            # of them differs from another.
            parent[below] = above
            if split := np.unique(below[parent[below] != above]).tolist():
                raise HierarchyError(
                    f"{len(split)} clusters of level {level} lie in several of level {level + 1} "
                    f"(the first: {split[0]}), so that the levels are not nested: {REMEDY}"
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
                f"{level}, the first {inside[wrong[0]]}; clusters are numbered from 0 and no more "
                f"than there are train videos: {REMEDY}"
            )
        if not np.array_equal(first_seen(inside), inside):
            raise HierarchyError(
                f"the clusters of level {level} are not numbered 0, 1 ... by their smallest row: "
                f"{REMEDY}"
            )


def first_seen(labels: np.ndarray) -> np.ndarray:
    """The same groups, i32[N], numbered in the order in which they first appear in i[N].

    labels: not negative, below N.
    """
    first = np.full(len(labels), len(labels))
    # Assigning to repeated places has no promised order; `minimum.at` has a defined result.
    np.minimum.at(first, labels, np.arange(len(labels)))
    begins = np.zeros(len(labels), bool)
    begins[first[labels]] = True
    rank = np.cumsum(begins, dtype=np.int32) - np.int32(1)
    return rank[first[labels]]


def write_hierarchy(hierarchy: Hierarchy, path: str | os.PathLike[str], ids: np.ndarray) -> None:
    """One Parquet file: video_id, level_1 ... level_R; it appears whole or not at all.

    ids: S[N] of the table. A digest of the rows and of what is said of them goes along, for Parquet
    itself does not notice every flipped bit.
    """
    path = local_path(path)
    if len(ids) != hierarchy.nodes:
        raise HierarchyError(f"{len(ids)} ids for a hierarchy of {hierarchy.nodes} videos")
    names = [f"level_{level}" for level in range(1, hierarchy.levels + 1)]
    columns = [_text(ids), *map(pa.array, hierarchy.clusters)]
    made_from, parameters = hierarchy.graph_fingerprint, dict(hierarchy.parameters)
    said = {"graph_fingerprint": made_from, "parameters": parameters}
    mark = {METADATA_KEY: json.dumps({"hierarchy": said}).encode()}
    table = pa.table(columns, names=["video_id", *names], metadata=mark)
    table = table.replace_schema_metadata({**mark, DIGEST_KEY: tabular.digest_of(table)})
    with whole_file(path) as unfinished:
        pq.write_table(table, unfinished, write_page_checksum=True)


def read_hierarchy(path: epath.PathLike, ids: np.ndarray) -> Hierarchy:
    """The hierarchy of the table whose ids are S[N], from a local path or gs://.

    Raises HierarchyError for no such file, another kind of file, a damaged one, and one that was
    made with another table. Whether it fits the graph is what Hierarchy.check tells.
    """
    path = epath.Path(path)
    table = tabular.read_table(path, CLUSTERS)
    with tabular.reading(path, CLUSTERS):
        stored, found, names = table.schema.metadata or {}, table.schema, table.column_names
    levels = [name for name in names if name.startswith("level_")]
    kinds = [pa.string()] + [pa.int32()] * len(levels)
    if not levels or METADATA_KEY not in stored or DIGEST_KEY not in stored or found.types != kinds:
        raise HierarchyError(
            f"{path}: is not a cluster hierarchy as vidembed writes it (video_id, level_1 ... and "
            f"what they were made from), found columns {', '.join(names)}: {REMEDY}"
        )
    tabular.check_digest(path, table, f"Restore it from a copy, or {REMEDY}", CLUSTERS)
    said = tabular.read_mark(path, stored, CLUSTERS)["hierarchy"]
    _same_videos(path, table["video_id"], _text(ids))
    return Hierarchy(
        clusters=np.stack([table[name].to_numpy() for name in levels]),
        graph_fingerprint=said["graph_fingerprint"],
        parameters=said["parameters"],
    )


def _text(ids: np.ndarray) -> pa.Array:
    try:
        return pa.array(ids).cast(pa.string())
    except pa.ArrowInvalid as error:
        bad = [id for id in ids.tolist() if id.decode(errors="ignore").encode() != id]
        raise HierarchyError(
            f"{len(bad)} ids of the table are not UTF-8, the first {bad[0]!r}, and clusters are "
            "stored by id: import the table with other ids"
        ) from error


def _same_videos(path: epath.Path, found: pa.ChunkedArray, wanted: pa.Array) -> None:
    remedy = f"give the table it was made with, or {REMEDY}"
    if len(found) != len(wanted):
        raise HierarchyError(
            f"{path}: is of {len(found)} videos, the table of {len(wanted)}: {remedy}"
        )
    if found.equals(pa.chunked_array([wanted])):
        return
    row = next(row for row, pair in enumerate(zip(found, wanted)) if pair[0] != pair[1])
    raise HierarchyError(
        f"{path}: is of other videos than the table: row {row} is {found[row]}, in the table "
        f"{wanted[row]}: {remedy}"
    )
