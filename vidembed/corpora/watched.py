"""The videos of a run: their features, who is in which partition, and what is related to what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import xxhash

from vidembed import PATH
from vidembed.graph.edges import read_edges
from vidembed.graph.hierarchy import Hierarchy, read_hierarchy
from vidembed.graph.relation import LeakError, RelationGraph
from vidembed.records.split import train_rows
from vidembed.records.table import FeatureTable


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A feature table of N videos with the relations between them, split by video."""

    table: FeatureTable
    is_train: np.ndarray
    """bool[N]: the partition of each video."""
    relations: RelationGraph
    """Every relation above the threshold, before the degree cap, whatever the partition."""
    train_graph: RelationGraph
    """Relations within the train partition, after the degree cap: anchors and positives."""
    simulated: bool
    """Whether the relations come from simulated sessions."""
    hierarchy: Hierarchy | None = None
    """Clusters of the train graph, where the run names them. No part of the fingerprint: what is
    measured does not depend on it, and a feed that draws by it says so in its own."""
    edges_report: Mapping[str, Any] = field(default_factory=dict)
    """What reading the edges found: rows, unknown ids, loops, repeats."""

    @cached_property
    def train_relations(self) -> RelationGraph:
        """Relations within the train partition, before the degree cap: what no negative may be.

        Shares the memory of the train graph where the cap left nothing out.
        """
        within = self.relations.within(self.is_train)
        return self.train_graph if within.edges == self.train_graph.edges else within

    @cached_property
    def relevance(self) -> RelationGraph:
        """Relations between the partitions, before the degree cap: what retrieval is scored on."""
        return self.relations.between(self.is_train)

    @cached_property
    def eval_relevance(self) -> RelationGraph:
        """Relations within the eval partition, before the cap: new videos among themselves."""
        return self.relations.within(~self.is_train)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of features, relations and split: the same data gives the same, anywhere."""
        digest = xxhash.xxh3_128()
        for part in (
            self.table.fingerprint,
            self.relations.fingerprint,
            self.train_graph.fingerprint,
        ):
            digest.update(part.encode())
        digest.update(np.packbits(self.is_train).tobytes())
        return digest.hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say of the data, for people: of the edges, then the counts."""
        edges, notes = self.edges_report, []
        if edges.get("unknown_edges"):
            notes.append(
                f"WARNING: {edges['unknown_edges']} edges name one of {edges['unknown_ids']} "
                f"videos that are not in the table, and are left out: {', '.join(edges['unknown'])}"
            )
        simulated = " (SIMULATED sessions)" if self.simulated else ""
        counts = (
            f"{len(self.table):,} videos, {int(self.is_train.sum()):,} of them to train on; "
            f"{self.train_graph.edges:,} relations to train on, {self.relevance.edges:,} to be "
            f"measured by{simulated}"
        )
        return (*notes, *edges.get("notes", ()), counts)

    def check(self, rows: np.ndarray) -> None:
        """Raises LeakError if rows i[...] of a batch hold a video of the eval partition.

        Checks the batch itself, not the settings of what drew it.
        """
        leaked = np.unique(rows[~self.is_train[rows]])
        if len(leaked):
            shown = ", ".join(i.decode(errors="replace") for i in self.table.ids[leaked[:10]])
            raise LeakError(
                f"{len(leaked)} videos of the eval partition are in a training batch: {shown}. "
                "Nothing measured after that could be believed; this is a fault of the feed or the "
                "split"
            )

    def report(self) -> dict[str, object]:
        """Counts of videos and relations, for people to read."""
        return {
            "videos": len(self.table),
            "train_videos": int(self.is_train.sum()),
            "eval_videos": int((~self.is_train).sum()),
            "simulated_sessions": self.simulated,
            "relations": self.relations.report(),
            "train_relations": self.train_graph.edges,
            "relations_between_partitions": self.relevance.edges,
            "edge_file": dict(self.edges_report),
        }


@dataclass(frozen=True, kw_only=True)
class CorpusPaths:
    """Where the videos of a run are, and how they are split."""

    table: Annotated[str, PATH] = ""
    """A feature table, made by `python -m vidembed import`; local or gs://."""
    edges: Annotated[str, PATH] = ""
    """Co-watch edges, made by `python -m vidembed cowatch`, or source,target,weight."""
    hierarchy: Annotated[str, PATH] = ""
    """Clusters of the train graph, made by `python -m vidembed cluster`; for what draws by them."""
    split_seed: int = 0
    """Seed of the hash that puts a video into its partition."""
    train_share: float = 0.7
    """Share of the videos in the train partition (the paper: 7:3)."""
    max_unknown_share: float = 0.01
    """Edges may name unknown videos up to this share; they are dropped and counted."""
    max_degree: int = 50
    """Strongest relations of either end that triplets come from, taken within the train partition
    (CDML's lecture: at most 50). Negatives and scores heed all relations."""

    def __post_init__(self) -> None:
        if not 0 < self.train_share < 1:
            raise ValueError(f"train_share {self.train_share} must lie between 0 and 1")
        if not 0 <= self.max_unknown_share <= 1:
            raise ValueError(f"max_unknown_share {self.max_unknown_share} must lie in [0, 1]")
        if self.max_degree < 1:
            raise ValueError(f"max_degree {self.max_degree} must be at least 1")

    def open(self) -> Corpus:
        """Reads, checks and splits; raises where a file is missing or does not fit."""
        for name, path in (("table", self.table), ("edges", self.edges)):
            if not path:
                raise ValueError(f"no {name} given: set --corpus.{name} PATH")
        table = FeatureTable.open(self.table)
        edges = read_edges(self.edges, table, max_unknown_share=self.max_unknown_share)
        is_train = train_rows(table.ids, seed=self.split_seed, train_share=self.train_share)
        nodes = len(table)
        relations = RelationGraph.from_edges(edges.source, edges.target, edges.weight, nodes=nodes)
        # Split, then cap: a place among the strongest is of no use to a video of the other side.
        train_graph = relations.within(is_train).capped(self.max_degree)
        hierarchy = None
        if self.hierarchy:
            hierarchy = read_hierarchy(self.hierarchy, table.ids)
            hierarchy.check(train_graph, is_train)
        return Corpus(
            table=table,
            is_train=is_train,
            relations=relations,
            train_graph=train_graph,
            simulated=edges.simulated,
            hierarchy=hierarchy,
            edges_report=edges.report,
        )
