"""The corpus of a run: which relation counts for what."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed.corpora.watched import CorpusPaths
from vidembed.records.table import FeatureTable


@pytest.fixture
def paths(tmp_path):
    """Forty videos in a ring, and the first of them related to all others, ever more weakly."""
    table = FeatureTable(
        ids=np.array([f"v{i:02d}" for i in range(40)], "S3"),
        features={"visual": np.arange(80, dtype=np.uint8).reshape(40, 2)},
        label_offsets=np.zeros(41, np.int64),
        label_values=np.zeros(0, np.int32),
    )
    table.write(tmp_path / "table")
    names = table.ids.astype(str)
    edges = {
        "source": np.concatenate([names, np.full(37, names[0])]),
        "target": np.concatenate([np.roll(names, -1), names[2:39]]),
        "weight": np.concatenate([np.full(40, 99.0), np.arange(50, 13, -1.0)]),
    }
    pq.write_table(pa.table(edges), tmp_path / "edges.parquet")
    return CorpusPaths(table=str(tmp_path / "table"), edges=str(tmp_path / "edges.parquet"))


def pairs(graph):
    return set(zip(graph.rows().tolist(), graph.neighbours.tolist()))


def test_the_cap_is_taken_within_the_train_partition_and_spares_the_scores(paths):
    ring = [(i, (i + 1) % 40) for i in range(40)]
    hub = [(0, other) for other in range(2, 39)]
    # Video 0 trains, its neighbours in the ring do not.
    corpus = replace(paths, max_degree=2, split_seed=7).open()
    train, everyone = corpus.is_train, np.ones(40, bool)
    assert train[[0, 1, 39]].tolist() == [True, False, False]

    def joining(edges, one, other):
        """Edges from a video where `one` to a video where `other`, both ways round."""
        ends = {p for a, b in edges for p in ((a, b), (b, a))}
        return {(a, b) for a, b in ends if (one[a] and other[b]) or (other[a] and one[b])}

    assert pairs(corpus.relations) == joining([*ring, *hub], everyone, everyone)
    assert pairs(corpus.relevance) == joining([*ring, *hub], train, ~train)
    assert pairs(corpus.eval_relevance) == joining([*ring, *hub], ~train, ~train)
    assert pairs(corpus.train_relations) == joining([*ring, *hub], train, train)
    # Of the hub's relations the two strongest that train, and those to videos that have fewer than
    # two stronger ones. A cap before the split would leave it the ring, which does not train.
    strongest = [pair for pair in hub if train[pair[1]]][:2]
    lonely = [(0, b) for _, b in hub if train[b] and not (train[b - 1] and train[b + 1])]
    assert pairs(corpus.train_graph) == joining([*ring, *strongest, *lonely], train, train)
    assert pairs(corpus.train_graph) < pairs(corpus.train_relations)


def test_the_train_relations_are_the_train_graph_where_nothing_is_capped(paths):
    corpus = paths.open()
    assert corpus.train_relations is corpus.train_graph
    with pytest.raises(ValueError, match="max_degree 0 must be at least 1"):
        replace(paths, max_degree=0)


def test_the_report_counts_and_keeps_what_reading_found(paths):
    corpus = paths.open()
    report = corpus.report()
    assert report["videos"] == 40
    assert report["train_videos"] + report["eval_videos"] == 40
    assert report["edge_file"]["rows"] == 77
    assert report["simulated_sessions"] is False


def test_digests_tell_other_data_and_other_splits(paths):
    one = paths.open()
    assert one.rows == paths.open().rows
    assert one.rows != replace(paths, split_seed=1).open().rows
    assert one.rows != replace(one, relations=one.train_graph).rows


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
