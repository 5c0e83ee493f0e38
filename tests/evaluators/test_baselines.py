import numpy as np
import pytest

from vidembed.evaluators.baselines import chance, popularity, raw_features
from vidembed.evaluators.related_videos import DIRECTIONS, RelatedVideos, queries
from vidembed.metrics import ranking
from vidembed.quantisation import dequantise


def test_raw_features_stand_side_by_side(corpus):
    table = corpus.table
    both = raw_features(table, ("visual", "audio"))
    assert both.dtype == np.float32
    assert both.shape == (60, 8)
    assert np.array_equal(both[:, :5], table.features["visual"])
    audio = dequantise(table.features["audio"])
    present = table.present["audio"]
    assert np.array_equal(both[present, 5:], audio[present])
    assert (both[~present, 5:] == 0).all()
    assert np.array_equal(raw_features(table, ("visual",)), table.features["visual"])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_popularity_is_one_list_by_weighted_degree(corpus, direction):
    asked = queries(corpus, direction)
    graph = corpus.train_graph if direction == "eval_to_train" else corpus.relations
    strength = graph.matrix().sum(axis=1)
    # Equal popularity ranks by row.
    listed = sorted(asked.candidates.tolist(), key=lambda row: (-strength[row], row))
    ranks = [listed.index(asked.candidates[place]) + 1 for place in asked.relevant]
    found = popularity(RelatedVideos(), corpus, direction)
    expected = ranking.average_precision(np.array(ranks), asked.offsets)
    assert found.values["map"] == pytest.approx(expected)
    assert found.rows.tolist() == asked.rows.tolist()


def test_chance_is_as_good_as_chance(corpus):
    evaluator = RelatedVideos(ks=(5,))
    for direction in DIRECTIONS:
        size = len(queries(corpus, direction).candidates)
        runs = [chance(evaluator, corpus, direction, seed=seed) for seed in range(60)]
        recalled = np.mean([run.values["recall@5"].mean() for run in runs])
        assert recalled == pytest.approx(5 / size, rel=0.12)
        again = chance(evaluator, corpus, direction, seed=0)
        assert np.array_equal(again.values["map"], runs[0].values["map"])
        assert not np.array_equal(again.values["map"], runs[1].values["map"])
