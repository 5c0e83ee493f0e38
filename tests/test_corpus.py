"""The corpus of a run: which relation counts for what."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed.corpus import CorpusPaths
from vidembed.records.table import FeatureTable


@pytest.fixture
def paths(tmp_path):
    """Forty videos in a ring; every second relation is beyond the degree cap (kept is False)."""
    table = FeatureTable(
        ids=np.array([f"v{i:02d}" for i in range(40)], "S3"),
        features={"visual": np.arange(80, dtype=np.uint8).reshape(40, 2)},
        label_offsets=np.zeros(41, np.int64),
        label_values=np.zeros(0, np.int32),
    )
    table.write(tmp_path / "table")
    names = table.ids.astype(str)
    edges = {
        "source": names,
        "target": np.roll(names, -1),
        "weight": np.full(40, 2.0),
        "kept": np.arange(40) % 2 == 0,
    }
    pq.write_table(pa.table(edges), tmp_path / "edges.parquet")
    return CorpusPaths(table=str(tmp_path / "table"), edges=str(tmp_path / "edges.parquet"))


def pairs(graph):
    return set(zip(graph.rows().tolist(), graph.neighbours.tolist()))


def test_relevance_is_before_the_cap_and_training_after_it(paths):
    corpus = paths.open()
    train = corpus.is_train
    ring = [(i, (i + 1) % 40) for i in range(40)]
    both = {p for a, b in ring for p in ((a, b), (b, a))}
    kept = {p for a, b in ring if a % 2 == 0 for p in ((a, b), (b, a))}
    assert pairs(corpus.relations) == both
    assert pairs(corpus.relevance) == {(a, b) for a, b in both if train[a] != train[b]}
    assert pairs(corpus.train_graph) == {(a, b) for a, b in kept if train[a] and train[b]}
    assert pairs(corpus.relevance) & (both - kept)
    new = {(a, b) for a, b in both if not train[a] and not train[b]}
    assert pairs(corpus.eval_relevance) == new
    assert new - kept


def test_the_report_counts_and_keeps_what_reading_found(paths):
    corpus = paths.open()
    report = corpus.report()
    assert report["videos"] == 40
    assert report["train_videos"] + report["eval_videos"] == 40
    assert report["edge_file"]["rows"] == 40
    assert report["simulated_sessions"] is False


def test_fingerprints_tell_other_data_and_other_splits(paths):
    from dataclasses import replace

    one = paths.open()
    assert one.fingerprint == paths.open().fingerprint
    assert one.fingerprint != replace(paths, split_seed=1).open().fingerprint
    assert one.fingerprint != replace(one, relations=one.train_graph).fingerprint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_share": 7.0}, "train_share 7.0"),
        ({"max_unknown_share": -1.0}, "max_unknown_share"),
    ],
)
def test_values_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        CorpusPaths(**options)


def test_missing_paths_are_asked_for():
    with pytest.raises(ValueError, match=r"set --corpus\.edges PATH"):
        CorpusPaths(table="t").open()
