import json

import numpy as np
import pytest

from experiments.benchmarks import feed


# Where torch is installed its workers are forked, which JAX warns of.
@pytest.mark.filterwarnings("ignore:.*os.fork")
def test_it_measures_every_case_against_the_copy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    feed.main(videos=5000, edges=50_000, triplets=256)
    rows = json.loads((tmp_path / "runs/benchmarks/feed.json").read_text())["rows"]
    assert len(rows) >= 5
    assert all(row["seconds"] > 0 and row["limit_seconds"] > 0 for row in rows)


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    return feed.synthetic_table(500), feed.synthetic_graph(rng, 500, 2000, tail=0.0)


def test_a_batch_is_edges_of_the_graph_and_rows_of_the_table(corpus):
    table, graph = corpus
    batches = feed.TripletBatches(table, graph, 64, gathered=True)
    batch, again, other = batches[3], batches[3], batches[4]
    matrix = graph.matrix()
    _, positives, anchors = batch["rows"]
    assert all(matrix[anchor, positive] > 0 for anchor, positive in zip(anchors, positives))
    np.testing.assert_array_equal(batch["audio"], table.features["audio"][batch["rows"]])
    np.testing.assert_array_equal(batch["rows"], again["rows"])
    assert (batch["rows"] != other["rows"]).any()


@pytest.mark.filterwarnings("ignore:.*os.fork")
def test_both_rows_are_measured(corpus, monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is an extra: pip install -e '.[bench]'")
    monkeypatch.setattr(feed, "BATCHES", 3)
    monkeypatch.setattr(feed, "ROUNDS", 1)
    numbers, host = feed.data_loader_rows(*corpus, 16, copy_seconds=0.5)
    assert (numbers.case, host.case) == ("peer: DataLoader, row numbers", "peer: DataLoader, host")
    assert host.limit_seconds == 0.5
    assert min(numbers.seconds, host.seconds) > 0
