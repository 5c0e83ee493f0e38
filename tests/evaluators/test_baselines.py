import numpy as np
import pytest

from vidembed.evaluators.baselines import chance, exchanged, popularity, raw_features
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
        runs = [chance(evaluator, corpus, direction, seed=seed) for seed in range(8)]
        recalled = np.mean([run.values["recall@5"].mean() for run in runs])
        assert recalled == pytest.approx(5 / size, rel=0.12)
        again = chance(evaluator, corpus, direction, seed=0)
        assert np.array_equal(again.values["map"], runs[0].values["map"])
        assert not np.array_equal(again.values["map"], runs[1].values["map"])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_exchanged_queries_keep_popularity_and_lose_content(corpus, direction):
    """One list for all queries scores the same whoever asks; content is lost."""
    dot = RelatedVideos(similarity="dot")
    asking = queries(corpus, direction).rows
    one_list = corpus.relations.strengths().astype(np.float32)[:, None]
    one_list[asking] = 1
    listed = dot.per_query(one_list, corpus, direction).values["map"]
    again = exchanged(dot, one_list, corpus, direction, seed=0).values["map"]
    assert again == pytest.approx(listed)
    content = np.eye(len(corpus.table), dtype=np.float32)
    content[~np.isin(np.arange(len(content)), asking)] = 0
    content += corpus.relevance.matrix().toarray() > 0
    assert dot.per_query(content, corpus, direction).values["map"].mean() > 0.9
    assert exchanged(dot, content, corpus, direction, seed=0).values["map"].mean() < 0.5


def test_exchanged_is_the_mean_of_its_exchanges(corpus):
    content, direction = raw_features(corpus.table, ("visual",)), "eval_to_train"
    asking = queries(corpus, direction).rows
    rng = np.random.default_rng(5)
    slow = []
    for _ in range(3):
        vectors = content.copy()
        for row, other in zip(asking, rng.permutation(asking)):
            vectors[row] = content[other]
        slow.append(RelatedVideos().per_query(vectors, corpus, direction).values["ndcg@10"])
    found = exchanged(RelatedVideos(), content, corpus, direction, seed=5, times=3)
    assert found.values["ndcg@10"] == pytest.approx(np.mean(slow, axis=0))
