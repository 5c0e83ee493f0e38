"""The videos of a run: their features, their split into parts, and their relations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import xxhash
from etils import epath

from vidembed import PATH
from vidembed.corpora.held_out import HeldOut, Part
from vidembed.corpora.split_videos import SplitPaths, SplitVideos
from vidembed.graph.edges import read_edges
from vidembed.graph.hierarchy import Hierarchy, read_hierarchy
from vidembed.graph.relation import RelationGraph


@dataclass(frozen=True, kw_only=True)
class Corpus(SplitVideos):
    """A feature table of N videos with the relations between them, split by video."""

    is_validation: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    """See `SplitVideos`; none by default."""
    relations: RelationGraph
    """Every relation above the threshold, before the degree cap, in any part."""
    train_graph: RelationGraph
    """Relations within the train partition, after the degree cap: anchors and positives."""
    simulated: bool
    """Whether the relations come from simulated sessions."""
    hierarchy: Hierarchy | None = None
    """Clusters of the train graph, if given. Not part of `rows`: evaluation does not depend on
    them, and a feed that draws by them includes them in its own fingerprint."""
    edges_report: Mapping[str, Any] = field(default_factory=dict)
    """Counts from reading the edges: rows, unknown ids, loops, repeats."""
    split_notes: tuple[str, ...] = ()
    """Remarks from reading the split."""

    @cached_property
    def train_relations(self) -> RelationGraph:
        """Relations within the train partition, before the degree cap, excluded from negatives.

        Shares the memory of the train graph if the cap removed nothing.
        """
        within = self.relations.within(self.is_train)
        return self.train_graph if within.edges == self.train_graph.edges else within

    @cached_property
    def held_out(self) -> Mapping[Part, HeldOut]:
        """The videos to evaluate, by part: test, and validation if there is any."""
        parts: dict[Part, np.ndarray] = {"test": self.is_test}
        if self.is_validation.any():
            parts["validation"] = self.is_validation
        return {
            part: HeldOut(videos=videos, is_train=self.is_train, relations=self.relations)
            for part, videos in parts.items()
        }

    @property
    def relevance(self) -> RelationGraph:
        """Relations between train and test, before the degree cap: ground truth of retrieval."""
        return self.held_out["test"].relevance

    @cached_property
    def rows(self) -> str:
        """Digest of features, relations and split: equal for equal data, on any machine."""
        digest = xxhash.xxh3_128()
        for part in (
            self.table.fingerprint,
            self.relations.fingerprint,
            self.train_graph.fingerprint,
        ):
            digest.update(part.encode())
        digest.update(self.split_bytes)
        return digest.hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the data for the user: on the edges, then the counts."""
        edges, notes = self.edges_report, []
        if edges.get("unknown_edges"):
            notes.append(
                f"WARNING: {edges['unknown_edges']} edges name one of {edges['unknown_ids']} "
                f"videos that are not in the table, and are left out: {', '.join(edges['unknown'])}"
            )
        simulated = " (SIMULATED sessions)" if self.simulated else ""
        parts, measured = "", f"{self.relevance.edges:,} held out for evaluation"
        if "validation" in self.held_out:
            validation, test = (self.held_out[part] for part in ("validation", "test"))
            parts = (
                f", {int(validation.videos.sum()):,} for validation and "
                f"{int(test.videos.sum()):,} for testing"
            )
            choosing = f"{validation.relevance.edges:,} to choose checkpoints by"
            measured = f"{choosing}, and {measured} at the end"
        counts = (
            f"{len(self.table):,} videos, {int(self.is_train.sum()):,} of them for training"
            f"{parts}; {self.train_graph.edges:,} training pairs, {measured}{simulated}"
        )
        return (*notes, *edges.get("notes", ()), *self.split_notes, counts)

    def report(self) -> dict[str, object]:
        """Counts of videos and relations, for reports."""
        counts = {f"{name}_videos": int(part.videos.sum()) for name, part in self.held_out.items()}
        if len(counts) == 1:
            counts = {"eval_videos": counts["test_videos"]}
        return {
            "videos": len(self.table),
            "train_videos": int(self.is_train.sum()),
            **counts,
            "simulated_sessions": self.simulated,
            "relations": self.relations.report(),
            "train_relations": self.train_graph.edges,
            "relations_between_partitions": self.relevance.edges,
            "edge_file": dict(self.edges_report),
        }


@dataclass(frozen=True, kw_only=True)
class CorpusPaths(SplitPaths):
    """The paths to the data of a run, and the options of its split."""

    edges: Annotated[str, PATH] = ""
    """Co-watch edges, made by `python -m vidembed cowatch`, or source,target,weight."""
    hierarchy: Annotated[str, PATH] = ""
    """Clusters of the train graph, made by `python -m vidembed cluster`. Smart triplets and cluster
    labels need them."""
    max_unknown_share: float = 0.01
    """Largest share of edges that may name unknown videos; these are dropped and counted."""
    max_degree: int = 50
    """Number of strongest relations per video used for triplets, within the train partition
    (CDML's lecture: at most 50). Negatives and scores take all relations into account."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.max_unknown_share <= 1:
            raise ValueError(f"max_unknown_share {self.max_unknown_share} must lie in [0, 1]")
        if self.max_degree < 1:
            raise ValueError(f"max_degree {self.max_degree} must be at least 1")

    def open(self) -> Corpus:
        """Read, check and split the data; raises if a file is missing or does not fit."""
        if self.table and not self.edges:
            raise ValueError("no edges given: set --corpus.edges PATH")
        table = self.open_table()
        edges = read_edges(self.edges, table, max_unknown_share=self.max_unknown_share)
        split = self.split_of(table)
        is_train, nodes = split.train, len(table)
        relations = RelationGraph.from_edges(edges.source, edges.target, edges.weight, nodes=nodes)
        # Split, then cap: relations to videos of other parts must not count towards the cap.
        train_graph = relations.within(is_train).capped(self.max_degree)
        hierarchy, notes = None, split.notes
        if self.hierarchy and not epath.Path(self.hierarchy).exists():
            # Only some feeds need clusters and raise without them; no evaluation does.
            notes += (f"no clusters: there is no {self.hierarchy} (--corpus.hierarchy)",)
        elif self.hierarchy:
            hierarchy = read_hierarchy(self.hierarchy, table.ids)
            hierarchy.check(train_graph, is_train)
        return Corpus(
            table=table,
            is_train=is_train,
            is_validation=split.validation,
            relations=relations,
            train_graph=train_graph,
            simulated=edges.simulated,
            hierarchy=hierarchy,
            edges_report=edges.report,
            split_notes=notes,
        )
