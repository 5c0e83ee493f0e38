"""The videos of a run: their features, who is in which part, and what is related to what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import xxhash
from etils import epath

from vidembed import PATH
from vidembed.corpora.held_out import HeldOut, Part
from vidembed.graph.edges import read_edges
from vidembed.graph.hierarchy import Hierarchy, read_hierarchy
from vidembed.graph.relation import LeakError, RelationGraph
from vidembed.records.split import by_hash, check_shares
from vidembed.records.split_file import read_split
from vidembed.records.table import FeatureTable


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A feature table of N videos with the relations between them, split by video."""

    table: FeatureTable
    is_train: np.ndarray
    """bool[N]: who is trained on."""
    relations: RelationGraph
    """Every relation above the threshold, before the degree cap, whatever the part."""
    train_graph: RelationGraph
    """Relations within the train partition, after the degree cap: anchors and positives."""
    simulated: bool
    """Whether the relations come from simulated sessions."""
    is_validation: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    """bool[N]: by whom checkpoints are chosen; nobody if not given. Who is neither here nor in
    is_train is for testing."""
    hierarchy: Hierarchy | None = None
    """Clusters of the train graph, where the run names them. No part of `rows`: what is measured
    does not depend on it, and a feed that draws by it says so in its own fingerprint."""
    edges_report: Mapping[str, Any] = field(default_factory=dict)
    """What reading the edges found: rows, unknown ids, loops, repeats."""
    split_notes: tuple[str, ...] = ()
    """What reading the split found."""

    def __post_init__(self) -> None:
        if not len(self.is_validation):
            object.__setattr__(self, "is_validation", np.zeros(len(self.is_train), bool))
        both = self.is_train & self.is_validation
        if both.any():
            raise ValueError(f"{int(both.sum())} videos are both in train and in validation")

    @property
    def space(self) -> Mapping[str, str]:
        """Modality → what made its numbers."""
        return self.table.space

    @cached_property
    def train_relations(self) -> RelationGraph:
        """Relations within the train partition, before the degree cap: what no negative may be.

        Shares the memory of the train graph where the cap left nothing out.
        """
        within = self.relations.within(self.is_train)
        return self.train_graph if within.edges == self.train_graph.edges else within

    @cached_property
    def held_out(self) -> Mapping[Part, HeldOut]:
        """What is measured, by part: test, and validation where there is any."""
        parts: dict[Part, np.ndarray] = {"test": ~self.is_train & ~self.is_validation}
        if self.is_validation.any():
            parts["validation"] = self.is_validation
        return {
            part: HeldOut(videos=videos, is_train=self.is_train, relations=self.relations)
            for part, videos in parts.items()
        }

    @property
    def relevance(self) -> RelationGraph:
        """Relations between train and test, before the degree cap: what retrieval is scored on."""
        return self.held_out["test"].relevance

    @cached_property
    def rows(self) -> str:
        """Digest of features, relations and split: the same data gives the same, anywhere."""
        digest = xxhash.xxh3_128()
        for part in (
            self.table.fingerprint,
            self.relations.fingerprint,
            self.train_graph.fingerprint,
        ):
            digest.update(part.encode())
        digest.update(np.packbits(self.is_train).tobytes())
        if self.is_validation.any():
            digest.update(np.packbits(self.is_validation).tobytes())
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
        parts, measured = "", f"{self.relevance.edges:,} to be measured by"
        if "validation" in self.held_out:
            validation, test = (self.held_out[part] for part in ("validation", "test"))
            parts = (
                f", {int(validation.videos.sum()):,} for validation and "
                f"{int(test.videos.sum()):,} for testing"
            )
            measured = (
                f"{validation.relevance.edges:,} to choose checkpoints by and {measured} in the end"
            )
        counts = (
            f"{len(self.table):,} videos, {int(self.is_train.sum()):,} of them to train on{parts}; "
            f"{self.train_graph.edges:,} relations to train on, {measured}{simulated}"
        )
        return (*notes, *edges.get("notes", ()), *self.split_notes, counts)

    def check(self, batch: Mapping[str, Any]) -> None:
        """Raises LeakError if a batch holds a video outside train: `rows`, i[...], of the table.

        Checks the batch itself, not the settings of what drew it. ValueError for a batch that does
        not say which rows it holds.
        """
        if "rows" not in batch:
            raise ValueError(
                f"a batch of {', '.join(batch)} does not say which videos are in it: a feed puts "
                "the numbers of their rows under `rows`"
            )
        rows = np.asarray(batch["rows"])
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
        counts = {f"{part}_videos": int(of.videos.sum()) for part, of in self.held_out.items()}
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
class CorpusPaths:
    """Where the videos of a run are, and how they are split."""

    table: Annotated[str, PATH] = ""
    """A feature table, made by `python -m vidembed import`; local or gs://."""
    edges: Annotated[str, PATH] = ""
    """Co-watch edges, made by `python -m vidembed cowatch`, or source,target,weight."""
    hierarchy: Annotated[str, PATH] = ""
    """Clusters of the train graph, made by `python -m vidembed cluster`; for what draws by them."""
    split: Annotated[str, PATH] = ""
    """A split to use instead of the hash of ids: `id, split` (train, validation or test), Parquet
    or CSV; or `id, group`, to hash the group, so that its videos stay together."""
    split_seed: int = 0
    """Seed of the hashes that put a video into its part."""
    train_share: float = 0.7
    """Share of the videos to train on (the paper: 7:3)."""
    validation_share: float = 0.0
    """Share of the other videos that checkpoints are chosen by; scores then speak of the rest."""
    max_unknown_share: float = 0.01
    """Edges may name unknown videos up to this share; they are dropped and counted."""
    max_degree: int = 50
    """Strongest relations of either end that triplets come from, taken within the train partition
    (CDML's lecture: at most 50). Negatives and scores heed all relations."""

    def __post_init__(self) -> None:
        check_shares(self.train_share, self.validation_share)
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
        shares = {"train_share": self.train_share, "validation_share": self.validation_share}
        if self.split:
            split = read_split(self.split, table, seed=self.split_seed, **shares)
        else:
            split = by_hash(table.ids, seed=self.split_seed, **shares)
        if self.validation_share and not split.validation.any():
            raise ValueError(
                f"validation_share {self.validation_share} of the {int((~split.train).sum())} "
                "videos outside train leaves nobody for validation: take a larger one, or another "
                "--corpus.split-seed"
            )
        is_train, nodes = split.train, len(table)
        relations = RelationGraph.from_edges(edges.source, edges.target, edges.weight, nodes=nodes)
        # Split, then cap: a place among the strongest is of no use to a video of the other side.
        train_graph = relations.within(is_train).capped(self.max_degree)
        hierarchy, notes = None, split.notes
        if self.hierarchy and not epath.Path(self.hierarchy).exists():
            # Only some feeds need it, and refuse without; no evaluation does.
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
