"""The data to compile a recipe for: the corpus that it names, or imagined data.

The compiler needs shapes, and the shapes of a batch come from opening the recipe's own feed on real
arrays. An imagined corpus has features that take no memory, and random relations among fewer videos
than requested, thinned in proportion: a batch then has as many related pairs as with all videos.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidembed.cli.host_memory import host_memory
from vidembed.cli.imagined_clips import CLIPS, imagined_clips, source_of
from vidembed.cli.imagined_text import (
    CAPTIONS,
    MSRVTT,
    SENTENCE_WIDTH,
    VOCABULARY,
    imagined_text,
)
from vidembed.corpora.captions import CaptionPaths
from vidembed.corpora.clip_files import ClipFilesPaths
from vidembed.corpora.labelled import LabelledCorpus, LabelledPaths
from vidembed.corpora.labels import Labels
from vidembed.corpora.watched import Corpus, CorpusPaths
from vidembed.engine.compiled_cost import Data
from vidembed.engine.recipe import Recipe
from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.relation import RelationGraph
from vidembed.models.text import SENTENCES
from vidembed.records.split import train_rows
from vidembed.records.table import FeatureTable
from vidembed.tasks.spec import Spec

YOUTUBE_8M_WIDTHS = {"visual": 1024, "audio": 128}
VIDEOS = 8_000_000
LABELS, CLUSTERS = 3_862, 100_000
CLUSTER_ROUNDS = 3
"""GCML's."""
LEAST_VIDEOS, VIDEOS_PER_EXAMPLE, EDGES_PER_EXAMPLE = 100_000, 20, 8
"""Least imagined videos, and videos and edges per example of a batch. With fewer, the examples of a
batch would be related to each other, or be drawn repeatedly."""


@dataclass(frozen=True, kw_only=True)
class Imagined:
    """The size of the imagined data if the recipe names no corpus."""

    videos: float | None = None
    """Videos of the corpus; None: 8 million, about YouTube-8M's, with captions 10,000, as
    MSR-VTT's, and of clips 240,000, as Kinetics-400's."""
    degree: float = 50.0
    """Mean relations per video (CDML's lecture keeps at most 50)."""
    classes: int | None = None
    """Classes, for a task that has them; None: 3,862 labels, as YouTube-8M since 2018, or 100,000
    clusters."""

    def __post_init__(self) -> None:
        if not self.number(VIDEOS) >= 2 or self.degree <= 0 or (self.classes or 2) < 2:
            raise ValueError(
                f"videos {self.videos} and classes {self.classes} must be 2 or more, degree "
                f"{self.degree} above 0"
            )

    def number(self, default: int) -> int:
        """The videos that were asked for, or else `default`."""
        return default if self.videos is None else int(self.videos)


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """The data of a step, with a description."""

    data: Data
    source: str
    """Where it comes from, as text for the terminal."""
    host: Mapping[str, float]
    """Memory on every host by purpose, in bytes; {} if unknown."""
    imagined: bool = False
    whole: bool = False
    """Whether an imagined corpus has all its examples, so that passes over it can be counted."""


def known_data(recipe: Recipe, imagined: Imagined) -> Known:
    """The corpus that the recipe names, or else imagined videos with YouTube-8M's widths.

    Raises ValueError if it names none and the feed needs data that cannot be imagined.
    """
    paths = recipe.corpus
    if isinstance(paths, LabelledPaths):
        return _labelled(recipe, paths, imagined)
    if isinstance(paths, CaptionPaths) and not (paths.table or paths.records):
        return _captioned(recipe, paths, imagined)
    if isinstance(paths, ClipFilesPaths) and not (paths.folder or paths.clips):
        return _clips(paths, imagined, getattr(recipe.task, "reads", ()))
    if not isinstance(paths, CorpusPaths):
        given = getattr(paths, "table", "") or getattr(paths, "records", "")
        return Known(data=Data(paths.open()), source=given or str(paths), host={})
    if not paths.table and recipe.feed.unit == "targets":
        raise ValueError(
            "a ridge computes its targets from real data: give --corpus.table and --corpus.edges"
        )
    if not paths.table:
        features = _features(imagined)
        paths_words = "--corpus.table TABLE --corpus.edges EDGES"
        source = _source(imagined, paths_words, "--videos and --degree change")
        return imagined_data(recipe, features, imagined, source)
    corpus = paths.open()
    return Known(
        data=Data(corpus),
        source=f"{paths.table}, {len(corpus.table):,} videos",
        host=_host(recipe, corpus.table.features, 2 * corpus.relations.edges / len(corpus.table)),
    )


def _features(imagined: Imagined) -> dict[str, np.ndarray]:
    videos = imagined.number(VIDEOS)
    widths = YOUTUBE_8M_WIDTHS.items()
    return {name: np.broadcast_to(np.uint8(0), (videos, width)) for name, width in widths}


def _source(imagined: Imagined, paths: str, sizes: str) -> str:
    """What is imagined, the options that give real data instead, and those of its size."""
    return (
        f"IMAGINED, because no table is given: {imagined.number(VIDEOS):,} videos of YouTube-8M's "
        f"widths, uint8 (for your data add {paths}, or a run's --workdir; {sizes} the imagined "
        "size)"
    )


def _labelled(recipe: Recipe, paths: LabelledPaths, imagined: Imagined) -> Known:
    """The labelled videos of an annotation recipe, or imagined ones with random labels."""
    if given := paths.table or paths.records:
        corpus = paths.open()
        source = f"{given}, {len(corpus.table):,} videos"
        return Known(data=Data(corpus), source=source, host={})
    features = _features(imagined)
    videos = min(
        imagined.number(VIDEOS), max(LEAST_VIDEOS, VIDEOS_PER_EXAMPLE * recipe.feed.examples)
    )
    table = _table({name: array[:videos] for name, array in features.items()})
    classes = imagined.classes or LABELS
    values = np.random.default_rng(0).integers(0, classes, videos, np.int32)
    corpus = LabelledCorpus(
        table=table,
        is_train=train_rows(table.ids, seed=paths.split_seed, train_share=paths.train_share),
        is_validation=np.zeros(0, bool),
        labels=Labels(
            offsets=np.arange(videos + 1),
            values=values,
            names=tuple(map("label {}".format, range(classes))),
        ),
    )
    resident = {"features": {m: features[m] for m in recipe.task.reads}, "present": {}}
    source = _source(imagined, "--corpus.table TABLE", "--videos changes")
    source = f"{source}; one of {classes:,} labels each"
    spec = Spec(widths=table.widths, classes=classes)
    return Known(data=Data(corpus, spec, resident), source=source, host={}, imagined=True)


def _captioned(recipe: Recipe, paths: CaptionPaths, imagined: Imagined) -> Known:
    """Imagined videos with captions."""
    task: Any = recipe.task
    sentences = SENTENCES in task.model.text.modalities
    videos = imagined.number(sum(MSRVTT.values()))
    corpus = imagined_text(paths, recipe.task.reads, videos=videos, sentences=sentences)
    features = ", ".join(f"{name} {width:,}" for name, width in corpus.table.widths.items())
    text = f"sentence vectors of {SENTENCE_WIDTH}" if sentences else f"{VOCABULARY:,} words"
    source = (
        f"IMAGINED, because no table is given: {videos:,} videos with {CAPTIONS} captions each, "
        f"split as MSR-VTT, {features}; {text} (for your data add --corpus.table TABLE "
        "--corpus.captions CAPTIONS, or a run's --workdir; --videos changes the imagined size)"
    )
    return Known(data=Data(corpus), source=source, host={}, imagined=True, whole=True)


def _clips(paths: ClipFilesPaths, imagined: Imagined, reads: Sequence[str]) -> Known:
    """Imagined videos as files, or as the features of their frames."""
    data = Data(imagined_clips(videos := imagined.number(CLIPS), *reads or (paths.modality,)))
    return Known(data=data, source=source_of(videos), host={}, imagined=True, whole=True)


def imagined_data(
    recipe: Recipe, features: Mapping[str, np.ndarray], imagined: Imagined, source: str = ""
) -> Known:
    """A table with imagined relations and classes; features: modality → [N, F]."""
    corpus = _imagined_corpus(recipe, features, imagined.degree)
    videos = len(corpus.table)
    thinned = 2 * corpus.relations.edges / videos
    classes = imagined.classes or CLUSTERS
    has_classes = recipe.feed.unit == "videos"
    spec = Spec(widths=corpus.table.widths, classes=classes if has_classes else 0)
    resident = {"features": {m: features[m] for m in recipe.task.reads}, "present": {}}
    return Known(
        data=Data(corpus, spec, resident),
        source=f"{source}; {imagined.degree:g} random relations per video, imagined, thinned "
        f"to {thinned:.2f} among {videos:,} videos for the batches",
        host=_host(recipe, features, imagined.degree),
        imagined=True,
    )


def _host(recipe: Recipe, features: Mapping[str, np.ndarray], degree: float) -> dict[str, float]:
    paths: Any = recipe.corpus
    feed: Any = recipe.feed
    return host_memory(
        len(next(iter(features.values()))),
        sum(array.shape[1] * array.dtype.itemsize for array in features.values()),
        degree,
        train_share=paths.train_share,
        threads=feed.read_threads,
    )


def _imagined_corpus(recipe: Recipe, features: Mapping[str, np.ndarray], degree: float) -> Corpus:
    paths: Any = recipe.corpus
    total = len(next(iter(features.values())))
    examples = recipe.feed.examples
    enough = math.isqrt(int(2 * EDGES_PER_EXAMPLE * examples * total / degree)) + 1
    videos = min(total, max(LEAST_VIDEOS, VIDEOS_PER_EXAMPLE * examples, enough))
    table = _table({name: array[:videos] for name, array in features.items()})
    random = np.random.default_rng(0)
    edges = max(1, round(degree / 2 * videos * videos / total))
    source = random.integers(0, videos, edges)
    target = (source + random.integers(1, videos, edges)) % videos
    weight = np.ones(edges, np.float32)
    relations = RelationGraph.from_edges(source, target, weight, nodes=videos)
    is_train = train_rows(table.ids, seed=paths.split_seed, train_share=paths.train_share)
    train_graph = relations.within(is_train)
    return Corpus(
        table=table,
        is_train=is_train,
        relations=relations,
        train_graph=train_graph,
        simulated=True,
        hierarchy=affinity_clusters(train_graph, is_train, rounds=CLUSTER_ROUNDS),
    )


def _table(features: Mapping[str, np.ndarray]) -> FeatureTable:
    videos = len(next(iter(features.values())))
    return FeatureTable(
        ids=np.arange(videos).astype("S12"),
        features=dict(features),
        label_offsets=np.zeros(videos + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )
