"""The data that a recipe is compiled for: the corpus that it names, else one that is imagined.

The compiler needs shapes, and those of a batch come from opening the recipe's own feed on real
arrays. An imagined corpus has features without memory, and random relations among fewer videos
than asked for, thinned in proportion: a batch then holds as many related pairs as it would among
all of them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vidembed.corpora.watched import Corpus
from vidembed.engine.recipe import Recipe
from vidembed.engine.step import spec_of
from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.relation import RelationGraph
from vidembed.records.split import train_rows
from vidembed.records.table import FeatureTable
from vidembed.tasks.spec import Spec

YOUTUBE_8M_WIDTHS = {"visual": 1024, "audio": 128}
CLUSTER_ROUNDS = 3
"""GCML's."""
LEAST_VIDEOS, VIDEOS_PER_EXAMPLE, EDGES_PER_EXAMPLE = 100_000, 20, 8
"""Relations are imagined among so many videos, and are so many, beside a batch: with fewer, its
examples would be related to each other, or drawn again and again."""


@dataclass(frozen=True, kw_only=True)
class Imagined:
    """The size of the data, where the recipe names none."""

    videos: float = 8e6
    """Videos of the corpus."""
    degree: float = 50.0
    """Mean relations of a video (CDML's lecture: at most 50 are kept)."""
    classes: int = 100_000
    """Classes, for a task that has them."""

    def __post_init__(self) -> None:
        if self.videos < 2 or self.degree <= 0 or self.classes < 2:
            raise ValueError(
                f"videos {self.videos} and classes {self.classes} must be 2 or more, degree "
                f"{self.degree} above 0"
            )


class Rows(NamedTuple):
    """The arrays of a feature table: features [N, F] and, where some videos lack one, bool[N]."""

    features: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """What the shapes of a step follow from, besides the recipe."""

    corpus: Corpus
    """What the feed is opened on."""
    rows: Rows
    """The whole table, with or without content."""
    spec: Spec
    degree: float
    """Mean relations of a video."""
    source: str
    """Where it comes from, for people."""


def data_of(recipe: Recipe, imagined: Imagined) -> Data:
    """The corpus that the recipe names, or YouTube-8M's widths without content if it names none."""
    if not recipe.corpus.table:
        videos = int(imagined.videos)
        features = {
            name: np.broadcast_to(np.uint8(0), (videos, width))
            for name, width in YOUTUBE_8M_WIDTHS.items()
        }
        source = f"none named: {videos:,} videos of YouTube-8M's widths, uint8"
        return imagined_data(recipe, Rows(features, {}), imagined, source)
    corpus = recipe.corpus.open()
    table = corpus.table
    return Data(
        corpus=corpus,
        rows=Rows(table.features, table.present),
        spec=spec_of(recipe, corpus),
        degree=2 * corpus.relations.edges / len(table),
        source=f"{recipe.corpus.table}, {len(table):,} videos",
    )


def imagined_data(recipe: Recipe, rows: Rows, imagined: Imagined, source: str = "") -> Data:
    """A table with imagined relations and classes."""
    corpus = _imagined_corpus(recipe, rows, imagined.degree)
    videos = len(corpus.table)
    thinned = 2 * corpus.relations.edges / videos
    return Data(
        corpus=corpus,
        rows=rows,
        spec=Spec(
            widths=corpus.table.widths,
            classes=imagined.classes if recipe.feed.unit == "videos" else 0,
        ),
        degree=imagined.degree,
        source=f"{source}; {imagined.degree:g} random relations a video are imagined, in batches "
        f"as {thinned:.2f} among {videos:,} videos",
    )


def _imagined_corpus(recipe: Recipe, rows: Rows, degree: float) -> Corpus:
    total = len(next(iter(rows.features.values())))
    examples = recipe.feed.examples
    enough = math.isqrt(int(2 * EDGES_PER_EXAMPLE * examples * total / degree)) + 1
    videos = min(total, max(LEAST_VIDEOS, VIDEOS_PER_EXAMPLE * examples, enough))
    table = FeatureTable(
        ids=np.arange(videos).astype("S12"),
        features={name: array[:videos] for name, array in rows.features.items()},
        label_offsets=np.zeros(videos + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )
    random = np.random.default_rng(0)
    edges = max(1, round(degree / 2 * videos * videos / total))
    source = random.integers(0, videos, edges)
    target = (source + random.integers(1, videos, edges)) % videos
    weight = np.ones(edges, np.float32)
    relations = RelationGraph.from_edges(source, target, weight, nodes=videos)
    is_train = train_rows(
        table.ids, seed=recipe.corpus.split_seed, train_share=recipe.corpus.train_share
    )
    train_graph = relations.within(is_train)
    return Corpus(
        table=table,
        is_train=is_train,
        relations=relations,
        train_graph=train_graph,
        simulated=True,
        hierarchy=affinity_clusters(train_graph, is_train, rounds=CLUSTER_ROUNDS),
    )
