"""`python -m vidembed cluster`: co-watch edges to a hierarchy of clusters of the train videos."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console

from vidembed.corpora.watched import Corpus, CorpusPaths
from vidembed.graph.affinity import Linkage, affinity_clusters, check_options
from vidembed.graph.hierarchy import write_hierarchy
from vidembed.progress import Progress
from vidembed.records.outputs import CLUSTERS
from vidembed.report.clusters import describe

GIANT_SHARE = 0.5
"""From this share of the videos with edges on, a cluster is warned of."""


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
    """Co-watch edges to a hierarchy of clusters; the exit code is 1 where nothing was merged.

    Only videos of the train partition are clustered, along edges within it: table, split, split
    seed, train share and max degree must be those of the training run.

    Args:
        edges: co-watch edges, made by `python -m vidembed cowatch`, or source,target,weight.
        hierarchy: the Parquet file to write.
        table: the feature table whose videos the edges join; must be given.
        split: the file of the run's --corpus.split, if it has one.
        split_seed: seed of the hash that puts a video into its partition.
        train_share: share of the videos in the train partition.
        max_unknown_share: edges may name unknown videos up to this share; they are dropped.
        max_degree: strongest edges of either end that count, taken within the train partition.
        rounds: rounds of merging; each makes a level.
        linkage: similarity of two clusters from the weights of the edges between them: their sum
            by the product of the sizes, their mean, their maximum, or their sum.
        min_similarity: clusters less similar than this are not linked.
        max_size: videos of a cluster at most; no limit if not given.
    """
    if not table:
        raise ValueError("no table given: set --table PATH, made by `python -m vidembed import`")
    check_options(rounds, linkage, min_similarity, max_size)
    path, progress = CLUSTERS.check(hierarchy, [edges, table, split]), Progress()
    paths = CorpusPaths(
        table=table,
        edges=edges,
        split=split,
        split_seed=split_seed,
        train_share=train_share,
        max_unknown_share=max_unknown_share,
        max_degree=max_degree,
    )
    with progress.stage(f"reading {table} and {edges}"):
        corpus = paths.open()
    with progress.stage("clustering", rounds, "rounds") as stage:
        made = affinity_clusters(
            corpus.train_graph,
            corpus.is_train,
            rounds=rounds,
            linkage=linkage,
            min_similarity=min_similarity,
            max_size=max_size,
            on_round=stage.update,
        )
    data = {"split_seed": split_seed, "train_share": train_share, "max_degree": max_degree}
    of_file = {"split": split} if split else {}
    said = {**made.parameters, **data, "simulated": corpus.simulated, **of_file}
    made = replace(made, parameters=said)
    write_hierarchy(made, path, corpus.table.ids)
    levels = describe(made, corpus.train_graph)
    console = Console(highlight=False, soft_wrap=True)
    notes = [*corpus.edges_report["notes"], *corpus.split_notes]
    for line in [*notes, *_lines(levels, corpus)]:
        console.print(line, markup=False)
    console.print(f"{path} written", markup=False)
    merged = levels[-1]["largest"] > 1
    nothing = (
        "no two videos were merged, and nothing can be learned from such clusters: lower "
        f"--min-similarity (now {min_similarity:g})"
    )
    if warning := _giant(levels) if merged else nothing:
        console.print(f"warning: {warning}", style="bold red", markup=False)
    return 0 if merged else 1


def _lines(levels: list[dict[str, Any]], corpus: Corpus) -> Iterator[str]:
    degrees = corpus.train_graph.degrees()[corpus.is_train]
    told = "SIMULATED sessions" if corpus.simulated else "sessions"
    yield (
        f"{len(degrees):,} train videos, {int(np.sum(degrees == 0)):,} of them without edges; "
        f"{corpus.train_graph.edges:,} edges of {told}"
    )
    for level in levels:
        yield (
            f"level {level['level']}: {level['clusters']:,} clusters, {level['singletons']:,} of "
            f"one video, the others of {level['median_size']:g} in the median; the largest of "
            f"{level['largest']:,}; {level['weight_inside']:.1%} of the edge weight inside"
        )


def _giant(levels: list[dict[str, Any]]) -> str | None:
    for level in levels:
        if level["linked_share"] > GIANT_SHARE:
            return (
                f"at level {level['level']} one cluster holds {level['largest']:,} videos, "
                f"{level['linked_share']:.0%} of those with edges, and tells little about them: "
                "take a lower level, fewer --rounds, a --max-size, or a higher --min-similarity"
            )
    return None
