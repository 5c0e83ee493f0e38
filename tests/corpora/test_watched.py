"""The corpus of a run: which relations are used for training and for evaluation."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed.corpora.watched import CorpusPaths
from vidembed.graph.relation import LeakError
from vidembed.records.table import FeatureTable


@pytest.fixture
def paths(tmp_path):
    """Forty videos in a ring; the first is also related to all others, with falling weights."""
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
    # Video 0 is in train, its neighbours in the ring are not.
    corpus = replace(paths, max_degree=2, split_seed=7).open()
    train, everyone = corpus.is_train, np.ones(40, bool)
    assert train[[0, 1, 39]].tolist() == [True, False, False]

    def joining(edges, first, second):
        """Edges between a video in mask `first` and one in mask `second`, in both directions."""
        ends = {p for a, b in edges for p in ((a, b), (b, a))}
        return {(a, b) for a, b in ends if (first[a] and second[b]) or (second[a] and first[b])}

    assert pairs(corpus.relations) == joining([*ring, *hub], everyone, everyone)
    assert pairs(corpus.relevance) == joining([*ring, *hub], train, ~train)
    assert pairs(corpus.held_out["test"].among_themselves) == joining([*ring, *hub], ~train, ~train)
    assert pairs(corpus.train_relations) == joining([*ring, *hub], train, train)
    # Of the hub's relations, the two strongest to train videos remain, and those to videos with
    # fewer than two stronger ones. A cap before the split would leave only the ring, outside train.
    strongest = [pair for pair in hub if train[pair[1]]][:2]
    lonely = [(0, b) for _, b in hub if train[b] and not (train[b - 1] and train[b + 1])]
    assert pairs(corpus.train_graph) == joining([*ring, *strongest, *lonely], train, train)
    assert pairs(corpus.train_graph) < pairs(corpus.train_relations)


def test_the_train_relations_are_the_train_graph_if_nothing_is_capped(paths):
    corpus = paths.open()
    assert corpus.train_relations is corpus.train_graph
    with pytest.raises(ValueError, match="max_degree 0 must be at least 1"):
        replace(paths, max_degree=0)


def test_the_report_holds_counts_and_the_report_on_the_edges(paths):
    corpus = paths.open()
    report = corpus.report()
    assert report["videos"] == 40
    assert report["train_videos"] + report["eval_videos"] == 40
    assert report["edge_file"]["rows"] == 77
    assert report["simulated_sessions"] is False


def test_digests_differ_for_other_data_and_other_splits(paths):
    corpus = paths.open()
    assert corpus.rows == paths.open().rows
    assert corpus.rows != replace(paths, split_seed=1).open().rows
    assert corpus.rows != replace(corpus, relations=corpus.train_graph).rows


GOLDEN = "57f28c1bb2993bbc6c1c7bf1bc5b3a63"


def test_validation_leaves_train_as_it_is_and_is_apart_from_test(paths):
    plain, corpus = paths.open(), replace(paths, validation_share=0.5).open()
    # The digest of earlier versions, so that their runs can resume.
    assert plain.rows == GOLDEN
    assert corpus.rows != plain.rows
    assert np.array_equal(corpus.is_train, plain.is_train)
    assert pairs(corpus.train_graph) == pairs(plain.train_graph)
    assert not plain.is_validation.any()
    assert list(plain.held_out) == ["test"]
    test, validation = corpus.held_out["test"], corpus.held_out["validation"]
    assert np.array_equal(test.videos ^ validation.videos, ~corpus.is_train)
    assert not (test.videos & validation.videos).any()
    assert pairs(validation.relevance) | pairs(test.relevance) == pairs(plain.relevance)
    assert pairs(corpus.held_out["test"].among_themselves) == {
        (a, b) for a, b in pairs(plain.relations) if test.videos[a] and test.videos[b]
    }
    counts = [corpus.is_train.sum(), validation.videos.sum(), test.videos.sum()]
    names = ("train_videos", "validation_videos", "test_videos")
    assert [corpus.report()[name] for name in names] == counts
    assert (
        "{} of them for training, {} for validation and {} for testing".format(*counts)
        in (corpus.notes[-1])
    )
    assert corpus.space == {"visual": "2 uint8 from arrays"}
    with pytest.raises(ValueError, match="40 videos are both in train and in validation"):
        replace(plain, is_train=np.ones(40, bool), is_validation=np.ones(40, bool))
    with pytest.raises(ValueError, match=r"validation_share 1e-09 of the \d+ videos .* no video"):
        replace(paths, validation_share=1e-9).open()


def test_no_video_of_test_or_validation_is_in_a_batch(paths):
    corpus = replace(paths, validation_share=0.5).open()
    train = np.flatnonzero(corpus.is_train)
    corpus.check({"rows": train.reshape(1, -1), "weight": np.ones(3)})
    for part in corpus.held_out.values():
        leaked = np.flatnonzero(part.videos)[0]
        with pytest.raises(LeakError, match=f"1 videos of the eval partition.*: v{leaked:02d}"):
            corpus.check({"rows": np.array([train[0], leaked])})
    with pytest.raises(ValueError, match="batch of frames does not say which videos"):
        corpus.check({"frames": np.ones(3)})


def test_a_split_of_a_file_is_that_of_the_corpus(paths, tmp_path):
    ids = [f"v{i:02d}" for i in range(40)]
    split = ["train"] * 20 + ["validation"] * 10 + ["test"] * 10
    file = tmp_path / "split.parquet"
    pq.write_table(pa.table({"id": [*ids, "gone"], "split": [*split, "test"]}), file)
    corpus = replace(paths, split=str(file)).open()
    assert corpus.is_train.tolist() == [True] * 20 + [False] * 20
    assert np.flatnonzero(corpus.is_validation).tolist() == list(range(20, 30))
    assert corpus.notes[-2].endswith("1 of its 41 videos are not in the table: gone")
    # A video hashed by its own id is in the same part as without a file.
    pq.write_table(pa.table({"id": ids, "group": ids}), file)
    assert replace(paths, split=str(file)).open().rows == paths.open().rows


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_share": 7.0}, "train_share 7.0"),
        ({"validation_share": 1.0}, "validation_share 1.0"),
        ({"max_unknown_share": -1.0}, "max_unknown_share"),
    ],
)
def test_values_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        CorpusPaths(**options)


def test_missing_paths_are_asked_for():
    with pytest.raises(ValueError, match=r"set --corpus\.edges PATH"):
        CorpusPaths(table="t").open()
