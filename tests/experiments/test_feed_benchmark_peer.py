"""The feed benchmark's peer draws what it says (experiments.benchmarks.feed_peer)."""

import numpy as np
import pytest

pytest.importorskip("torch")

from experiments.benchmarks import feed
from experiments.benchmarks.feed_peer import TripletBatches, data_loader_rows


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    return feed.synthetic_table(rng, 500), feed.synthetic_graph(rng, 500, 2000, tail=0.0)


def test_a_batch_is_edges_of_the_graph_and_rows_of_the_table(corpus):
    table, graph = corpus
    batches = TripletBatches(table, graph, 64, gathered=True)
    batch, again, other = batches[3], batches[3], batches[4]
    matrix = graph.matrix()
    _, positives, anchors = batch["rows"]
    assert all(matrix[anchor, positive] > 0 for anchor, positive in zip(anchors, positives))
    np.testing.assert_array_equal(batch["audio"], table.features["audio"][batch["rows"]])
    np.testing.assert_array_equal(batch["rows"], again["rows"])
    assert (batch["rows"] != other["rows"]).any()


@pytest.mark.filterwarnings("ignore:.*os.fork")
def test_both_rows_are_measured(corpus, monkeypatch):
    monkeypatch.setattr(feed, "BATCHES", 3)
    monkeypatch.setattr(feed, "ROUNDS", 1)
    numbers, host = data_loader_rows(*corpus, 16, copy_seconds=0.5)
    assert (numbers.case, host.case) == ("peer: DataLoader, row numbers", "peer: DataLoader, host")
    assert host.limit_seconds == 0.5
    assert min(numbers.seconds, host.seconds) > 0
