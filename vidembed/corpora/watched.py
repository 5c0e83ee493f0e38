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
from vidembed.graph.edges import read_edges
from vidembed.graph.hierarchy import Hierarchy, read_hierarchy
from vidembed.graph.relation import LeakError, RelationGraph
from vidembed.records.split import by_hash, check_shares
from vidembed.records.split_file import read_split
from vidembed.records.stored_options import options_of
from vidembed.records.table import FeatureTable


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A feature table of N videos with the relations between them, split by video."""

    table: FeatureTable
    is_train: np.ndarray
    """bool[N]: the videos for training."""
    relations: RelationGraph
    """Every relation above the threshold, before the degree cap, in any part."""
    train_graph: RelationGraph
    """Relations within the train partition, after the degree cap: anchors and positives."""
    simulated: bool
    """Whether the relations come from simulated sessions."""
    is_validation: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    """bool[N]: the videos by which checkpoints are chosen; none if not given. Videos neither here
    nor in is_train are for testing."""
    hierarchy: Hierarchy | None = None
    """Clusters of the train graph, if given. Not part of `rows`: evaluation does not depend on
    them, and a feed that draws by them includes them in its own fingerprint."""
    edges_report: Mapping[str, Any] = field(default_factory=dict)
    """Counts from reading the edges: rows, unknown ids, loops, repeats."""
    split_notes: tuple[str, ...] = ()
    """Remarks from reading the split."""

    def __post_init__(self) -> None:
        if not len(self.is_validation):
            object.__setattr__(self, "is_validation", np.zeros(len(self.is_train), bool))
        both = self.is_train & self.is_validation
        if both.any():
            raise ValueError(f"{int(both.sum())} videos are both in train and in validation")

    @property
    def space(self) -> Mapping[str, str]:
        """Modality → its space."""
        return self.table.space

    @property
    def imported(self) -> Mapping[str, Any]:
        """The options of the table's import, which read further records of its kind."""
        return options_of(self.table.manifest)

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
        parts: dict[Part, np.ndarray] = {"test": ~self.is_train & ~self.is_validation}
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
        digest.update(np.packbits(self.is_train).tobytes())
        if self.is_validation.any():
            digest.update(np.packbits(self.is_validation).tobytes())
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

    def check(self, batch: Mapping[str, Any]) -> None:
        """Raise LeakError if a batch holds a video outside train: `rows`, i[...], of the table.

        Checks the rows in the batch itself, not the sampler's settings. ValueError for a batch
        without `rows`.
        """
        if "rows" not in batch:
            raise ValueError(
                f"a batch of {', '.join(batch)} does not say which videos it holds: a feed must "
                "put their row numbers under `rows`"
            )
        rows = np.asarray(batch["rows"])
        leaked = np.unique(rows[~self.is_train[rows]])
        if len(leaked):
            shown = ", ".join(i.decode(errors="replace") for i in self.table.ids[leaked[:10]])
            raise LeakError(
                f"{len(leaked)} videos of the eval partition are in a training batch: {shown}. "
                "Scores after that would be invalid; this is a fault of the feed or the split"
            )

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
class CorpusPaths:
    """The paths to the data of a run, and the options of its split."""

    table: Annotated[str, PATH] = ""
    """A feature table, made by `python -m vidembed import`; local or gs://."""
    edges: Annotated[str, PATH] = ""
    """Co-watch edges, made by `python -m vidembed cowatch`, or source,target,weight."""
    hierarchy: Annotated[str, PATH] = ""
    """Clusters of the train graph, made by `python -m vidembed cluster`. Smart triplets and cluster
    labels need them."""
    split: Annotated[str, PATH] = ""
    """A split to use instead of the hash of ids: `id, split` (train, validation or test), Parquet
    or CSV; or `id, group`, to hash the group so that its videos stay together."""
    split_seed: int = 0
    """Seed of the hashes that assign each video to a part."""
    train_share: float = 0.7
    """Share of the videos to train on (the paper: 7:3)."""
    validation_share: float = 0.0
    """Share of the other videos by which checkpoints are chosen; final scores use the rest."""
    max_unknown_share: float = 0.01
    """Largest share of edges that may name unknown videos; these are dropped and counted."""
    max_degree: int = 50
    """Number of strongest relations per video used for triplets, within the train partition
    (CDML's lecture: at most 50). Negatives and scores take all relations into account."""

    def __post_init__(self) -> None:
        check_shares(self.train_share, self.validation_share)
        if not 0 <= self.max_unknown_share <= 1:
            raise ValueError(f"max_unknown_share {self.max_unknown_share} must lie in [0, 1]")
        if self.max_degree < 1:
            raise ValueError(f"max_degree {self.max_degree} must be at least 1")

    def open(self) -> Corpus:
        """Read, check and split the data; raises if a file is missing or does not fit."""
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
                "videos outside train leaves no video for validation: use a larger share, or "
                "another --corpus.split-seed"
            )
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
