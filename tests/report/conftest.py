import dataclasses

import numpy as np
import pytest

from vidembed.corpora.watched import Corpus
from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.relation import RelationGraph
from vidembed.records.table import FeatureTable
from vidembed.report.clusters import clusters
from vidembed.report.page import write_report

METRICS = ("ndcg@10", "map", "recall@10")
DIRECTIONS = ("eval_to_train", "train_to_eval")
SYSTEMS = (
    "trained",
    "trained_visual_only",
    "visual",
    "audio",
    "concatenated",
    "untrained",
    "popularity",
    "random",
)


@pytest.fixture(scope="session")
def corpus():
    rng = np.random.default_rng(3)
    rows = 60
    labels = rng.integers(0, 9, 2 * rows).astype(np.int32)
    table = FeatureTable(
        ids=np.array([f"v{i:03}" for i in range(rows)], "S4"),
        features={"visual": rng.standard_normal((rows, 4)).astype(np.float32)},
        label_offsets=np.arange(0, 2 * rows + 1, 2, dtype=np.int64),
        label_values=labels,
    )
    pairs = rng.integers(0, rows, (300, 2))
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    weights = rng.integers(2, 6, len(pairs)).astype(np.float32)
    graph = RelationGraph.from_edges(*pairs.T, weights, nodes=rows)
    is_train = rng.random(rows) < 0.7
    return Corpus(
        table=table,
        is_train=is_train,
        relations=graph,
        train_graph=graph.within(is_train),
        simulated=True,
    )


@pytest.fixture(scope="session")
def clustered(corpus):
    """`corpus` with a hierarchy of three levels."""
    return with_hierarchy(corpus)


def with_hierarchy(corpus):
    made = affinity_clusters(corpus.train_graph, corpus.is_train, rounds=3)
    return dataclasses.replace(corpus, hierarchy=made)


def interval(rng):
    value = round(0.1 + 0.8 * rng.random(), 6)
    return {"value": value, "low": round(value - 0.03, 6), "high": round(value + 0.04, 6)}


@pytest.fixture
def inputs(corpus):
    """The contents of a full report, as keyword arguments of `write_report`."""
    return full(corpus)


@pytest.fixture(scope="session")
def full_page(corpus, tmp_path_factory):
    """The page of `inputs`, rendered once for the tests that only read it."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, **full(corpus))
    return path.read_text(encoding="ascii")


def full(corpus):
    rng = np.random.default_rng(0)
    runs = ("seed0/trained", "seed1/trained", "seed0-permuted/trained")
    scores = [f"{direction}/{metric}" for direction in DIRECTIONS for metric in METRICS]
    return {
        "title": "A report",
        "summary": {
            "simulated_sessions": True,
            "related_videos": {
                d: {s: {m: interval(rng) for m in METRICS} for s in SYSTEMS} for d in DIRECTIONS
            },
            "permuted_control": {
                d: {s: {m: interval(rng) for m in METRICS} for s in ("trained", "random")}
                for d in DIRECTIONS
            },
            "audio_contribution": {
                d: {m: {"value": -0.00123, "low": -0.0101, "high": 0.0115} for m in METRICS}
                for d in DIRECTIONS
            },
            "ratio_to_visual": {
                "eval_to_train": {"mean": 1.397, "per_seed": [1.32, 1.4, 1.47]},
                "train_to_eval": {"mean": 1.12, "per_seed": [1.1, 1.12, 1.14]},
            },
            "targets": {"eval_to_train": 1.35, "train_to_eval": 1.15},
            "seconds": {"import": 3.25, "seed0/trained": 210.5},
            "peak_memory_bytes": 1_930_000_000,
            "versions": {"python": "3.11.7", "jax": "0.10.2"},
            "seeds": [0, 1, 2],
            "data": {"records": "data/*.tfrecord", **corpus.report()},
        },
        "journals": {
            run: [
                {
                    "kind": "train",
                    "step": step,
                    "time": 1e9 + step,
                    "loss": 1 / step,
                    "mined": 0.75,
                    "fallen_back": 0.25,
                    "active": 0.5,
                    "sampled_survive": 0.125,
                    "positive_distance": 0.6,
                    "negative_distance": 0.7,
                    "spread": 0.9,
                    "large_forbidden": step // 20,
                    "trained": 1.0,
                    "gradient_norm": 0.1,
                    "learning_rate": 0.001,
                    "triplets_per_second": 1000.0 + step,
                    "waiting_share": 0.01,
                }
                for step in (10, 20, 30)
            ]
            for run in runs
        },
        "evaluations": {
            run: [
                {"step": step, "scores": {name: interval(rng) for name in scores}}
                for step in (0, 30)
            ]
            for run in runs
        },
        "corpora": {"seed0": corpus.report(), "seed1": corpus.report()},
        "gallery": [
            {
                "id": "qqqq",
                "labels": ["Guitar", "Concert"],
                "partition": "eval",
                "relations": 7,
                "nearest": [
                    {
                        "id": "nnn1",
                        "labels": ["Guitar"],
                        "score": 0.9375,
                        "partition": "train",
                        "related": True,
                    },
                    {
                        "id": "nnn2",
                        "labels": [],
                        "score": 0.5,
                        "partition": "eval",
                        "related": False,
                    },
                ],
            }
        ],
        "coded": [
            {
                "width": 256,
                "code": code,
                "kind": kind,
                "bytes": size,
                "scores": {d: {"ndcg@10": interval(rng)} for d in DIRECTIONS},
                "own": {d: {"ndcg@10": interval(rng)} for d in DIRECTIONS},
            }
            for code, kind, size in (("float32", "float32", 1024), ("4 bit", "Lloyd-Max", 128))
        ],
        "recipe": {"steps": 200, "feed": {"batch_triplets": 512}},
        "clusters": clusters(with_hierarchy(corpus), {i: f"kind {i}" for i in range(8)}),
    }
