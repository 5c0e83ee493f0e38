"""`python -m vidembed cluster`: make a hierarchy of clusters from co-watch edges."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from vidembed.corpora.watched import CorpusPaths
from vidembed.graph.affinity import Linkage, affinity_clusters, check_options
from vidembed.graph.bare_edges import read_bare_edges
from vidembed.graph.hierarchy import write_hierarchy
from vidembed.graph.relation import RelationGraph
from vidembed.progress import Progress
from vidembed.records.outputs import CLUSTERS
from vidembed.report.clusters import describe

GIANT_SHARE = 0.5
"""Warn if one cluster holds more than this share of the videos with edges."""


def main(
    edges: str,
    hierarchy: str,
    *,
    table: str = "",
    split: str = "",
    split_seed: int = 0,
    train_share: float = 0.7,
    max_unknown_share: float = 0.01,
    max_degree: int = CorpusPaths.max_degree,
    rounds: int = 3,
    linkage: Linkage = "average",
    min_similarity: float = 0.0,
    max_size: int | None = None,
) -> int:
    """Make a hierarchy of clusters from co-watch edges; exit code 1 if nothing was merged.

    To train on the clusters, give the table, split, split seed, train share and max degree of the
    training run: only videos of the train partition are clustered, along edges within it. Without a
    table, every video of the edges is in the train partition.

    Args:
        edges: co-watch edges, made by `python -m vidembed cowatch`, or source,target,weight.
        hierarchy: the Parquet file to write.
        table: the feature table of the videos; without it every video in the edge file is
            clustered, which is for inspection and not for training.
        split: the file of the run's --corpus.split, if it has one.
        split_seed: seed of the hash that assigns each video to a partition.
        train_share: share of the videos in the train partition.
        max_unknown_share: largest share of edges that may name unknown videos; they are dropped.
        max_degree: strongest edges kept per video, within the train partition.
        rounds: rounds of merging; each makes one level.
        linkage: similarity of two clusters from the weights of the edges between them: their sum
            over the product of the sizes, their mean, their maximum, or their sum.
        min_similarity: clusters less similar than this are not linked.
        max_size: most videos in one cluster; no limit if not given.
    """
    check_options(rounds, linkage, min_similarity, max_size)
    path, progress = CLUSTERS.check(hierarchy, [edges, table, split]), Progress()
    if split and not table:
        raise ValueError(f"--split {split} needs a feature table: give --table as well")
    paths = CorpusPaths(
        table=table,
        edges=edges,
        split=split,
        split_seed=split_seed,
        train_share=train_share,
        max_unknown_share=max_unknown_share,
        max_degree=max_degree,
    )
    with progress.stage(f"reading {f'{table} and ' if table else ''}{edges}"):
        data = _of_corpus(paths) if table else _of_edges(edges, max_degree)
    with progress.stage("clustering", rounds, "rounds") as stage:
        made = affinity_clusters(
            data.graph,
            data.is_train,
            rounds=rounds,
            linkage=linkage,
            min_similarity=min_similarity,
            max_size=max_size,
            on_round=stage.update,
        )
    made = replace(made, parameters={**made.parameters, **data.parameters})
    levels = describe(made, data.graph)
    console = Console(highlight=False, soft_wrap=True)
    # Print the results before writing them: a failed write must not lose them.
    for line in [*data.notes, *_lines(levels, data)]:
        console.print(line, markup=False)
    write_hierarchy(made, path, data.ids)
    console.print(f"{path} written", markup=False)
    merged = levels[-1]["largest"] > 1
    nothing = (
        "no two videos were merged, so there is nothing to learn from these clusters: lower "
        f"--min-similarity (now {min_similarity:g})"
    )
    if warning := _giant(levels) if merged else nothing:
        console.print(f"warning: {warning}", style="bold red", markup=False)
    return 0 if merged else 1


class _Data(NamedTuple):
    """The graph to cluster."""

    ids: np.ndarray
    """S[N]"""
    graph: RelationGraph
    """Of the train videos, after the degree cap."""
    is_train: np.ndarray
    """bool[N]"""
    parameters: dict[str, Any]
    """Recorded with the hierarchy; a training run compares them with its own."""
    notes: list[str]


def _of_corpus(paths: CorpusPaths) -> _Data:
    corpus = paths.open()
    names = ("split_seed", "train_share", "max_degree")
    parameters = {name: getattr(paths, name) for name in names} | {"simulated": corpus.simulated}
    parameters |= {"split": paths.split} if paths.split else {}
    notes = [*corpus.edges_report["notes"], *corpus.split_notes]
    return _Data(corpus.table.ids, corpus.train_graph, corpus.is_train, parameters, notes)


def _of_edges(path: str, max_degree: int) -> _Data:
    ids, edges = read_bare_edges(path)
    graph = RelationGraph.from_edges(edges.source, edges.target, edges.weight, nodes=len(ids))
    note = (
        f"no --table: all {len(ids):,} videos of {path} are clustered and none is held out. "
        "To train on the clusters, give the table of the training run"
    )
    parameters = {"max_degree": max_degree, "simulated": edges.simulated}
    notes = [*edges.report["notes"], note]
    return _Data(ids, graph.capped(max_degree), np.ones(len(ids), bool), parameters, notes)


def _lines(levels: list[dict[str, Any]], data: _Data) -> Iterator[str]:
    degrees = data.graph.degrees()[data.is_train]
    simulated = " from SIMULATED sessions" if data.parameters["simulated"] else ""
    yield (
        f"{len(degrees):,} train videos, {int(np.sum(degrees == 0)):,} of them without edges; "
        f"{data.graph.edges:,} edges{simulated}"
    )
    for level in levels:
        yield (
            f"level {level['level']}: {level['clusters']:,} clusters, {level['singletons']:,} with "
            f"one video; median size of the others {level['median_size']:g}, largest "
            f"{level['largest']:,}; {level['weight_inside']:.1%} of the edge weight inside"
        )


def _giant(levels: list[dict[str, Any]]) -> str | None:
    for level in levels:
        if level["linked_share"] > GIANT_SHARE:
            return (
                f"at level {level['level']} one cluster holds {level['largest']:,} videos, "
                f"{level['linked_share']:.0%} of those with edges, and says little about them: "
                "use a lower level, fewer --rounds, a --max-size, or a higher --min-similarity"
            )
    return None
