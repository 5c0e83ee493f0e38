from dataclasses import replace

import numpy as np
import pytest

from vidembed.evaluators import baselines
from vidembed.evaluators.baselines import (
    STANDARDISED,
    chance,
    exchanged,
    feature_embeddings,
    popularity,
    raw_features,
)
from vidembed.evaluators.queries import DIRECTIONS, queries
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.metrics import ranking
from vidembed.records.bytecode import dequantise


def test_raw_features_are_concatenated(corpus):
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
    # Ties in popularity rank by row; the query is not in the list.
    listed = sorted(asked.candidates.tolist(), key=lambda row: (-strength[row], row))
    ranks = []
    for row, places in zip(asked.rows, np.split(asked.relevant, asked.offsets[1:-1])):
        others = [one for one in listed if one != row]
        ranks += [others.index(asked.candidates[place]) + 1 for place in places]
    found = popularity(RelatedVideos(), corpus, direction)
    expected = ranking.average_precision(np.array(ranks), asked.offsets)
    assert found.values["map"] == pytest.approx(expected)
    assert found.ids.tolist() == corpus.table.ids[asked.rows].tolist()


def test_popularity_on_validation_is_that_without_the_test_videos(corpus, validated):
    test = validated.held_out["test"].videos
    alone = replace(validated, relations=corpus.relations.within(~test))
    for direction in DIRECTIONS:
        found, expected = (
            popularity(RelatedVideos(), some, direction, "validation").values["map"]
            for some in (validated, alone)
        )
        assert np.array_equal(found, expected)
    lost = exchanged(
        RelatedVideos(), corpus.table.features["visual"], validated, "eval_to_eval", "validation",
        seed=0, times=1,
    )  # fmt: skip
    assert set(lost.ids) <= set(corpus.table.ids[validated.is_validation])


def test_chance_scores_at_chance_level(corpus):
    evaluator = RelatedVideos(ks=(5,))
    for direction in DIRECTIONS:
        asked = queries(corpus, direction)
        size = len(asked.candidates) - (direction == "eval_to_eval")
        runs = [chance(evaluator, corpus, direction, seed=seed) for seed in range(8)]
        recalled = np.mean([run.values["recall@5"].mean() for run in runs])
        assert recalled == pytest.approx(5 / size, rel=0.12)
        # The last rank is drawn too, and no rank is beyond it.
        depths = RelatedVideos(ks=(size - 1, size))
        whole = chance(depths, corpus, direction, seed=0, times=99).values
        assert (whole[f"recall@{size}"] == 1).all()
        assert whole[f"recall@{size - 1}"].mean() < 1
        again = chance(evaluator, corpus, direction, seed=0)
        assert np.array_equal(again.values["map"], runs[0].values["map"])
        assert not np.array_equal(again.values["map"], runs[1].values["map"])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_exchanged_queries_keep_popularity_and_lose_content(corpus, direction):
    """One list for all queries keeps its score; content is lost."""
    dot = RelatedVideos(similarity="dot")
    # All vectors have one direction: the longest ranks first for every query.
    one_list = 1 + corpus.relations.strengths().astype(np.float32)[:, None]
    listed = dot.per_query(one_list, corpus, direction).values["map"]
    again = exchanged(dot, one_list, corpus, direction, seed=0).values["map"]
    assert again == pytest.approx(listed)
    assert listed == pytest.approx(popularity_of(one_list, corpus, direction))
    # Every vector is near those of related videos.
    content = (corpus.relations.matrix().toarray() > 0) + 2 * np.eye(len(corpus.table))
    content = content.astype(np.float32)
    known = RelatedVideos().per_query(content, corpus, direction).values["map"].mean()
    assert known > 0.3
    lost = exchanged(RelatedVideos(), content, corpus, direction, seed=0).values["map"].mean()
    assert lost < 0.6 * known


def popularity_of(lengths, corpus, direction):
    """MAP of one list by falling length, f64[Q]; slow and obvious."""
    asked = queries(corpus, direction)
    listed = sorted(asked.candidates.tolist(), key=lambda row: (-lengths[row, 0], row))
    found = []
    for row, places in zip(asked.rows, np.split(asked.relevant, asked.offsets[1:-1])):
        wanted = {asked.candidates[place] for place in places}
        hits = [one in wanted for one in listed if one != row]
        found.append(np.mean([sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit]))
    return found


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_exchanged_is_the_mean_over_its_shuffles(corpus, direction):
    """The query is excluded from the results, not the video whose vector it borrows."""
    content = raw_features(corpus.table, ("visual",)).astype(np.float64)
    unit = content / np.linalg.norm(content, axis=1, keepdims=True)
    asked = queries(corpus, direction)
    rng = np.random.default_rng(5)
    slow = []
    for _ in range(3):
        ranks = []
        others = rng.permutation(asked.rows)
        for row, other, places in zip(
            asked.rows, others, np.split(asked.relevant, asked.offsets[1:-1])
        ):
            by_score = np.argsort(-unit[asked.candidates] @ unit[other], kind="stable")
            listed = [one for one in asked.candidates[by_score] if one != row]
            ranks += [listed.index(asked.candidates[place]) + 1 for place in places]
        slow.append(ranking.ndcg(np.array(ranks), asked.offsets, 10))
    found = exchanged(RelatedVideos(), content, corpus, direction, seed=5, times=3)
    assert found.values["ndcg@10"] == pytest.approx(np.mean(slow, axis=0))


def test_standardised_features_are_those_of_a_network(corpus):
    """Mean 0 and deviation 1 over the train rows with the modality; zeros without it."""
    named = dict(feature_embeddings(corpus.table, corpus.is_train))
    raw = ["visual", "audio", "concatenated"]
    assert list(named) == [*raw, *(name + STANDARDISED for name in raw)]
    table, train = corpus.table, corpus.is_train
    both = named["concatenated" + STANDARDISED]
    assert both.dtype == np.float32
    there = table.present["audio"]
    for columns, rows in ((slice(5), train), (slice(5, 8), train & there)):
        np.testing.assert_allclose(both[rows, columns].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(both[rows, columns].std(axis=0), 1, rtol=1e-4)
    assert (both[~there, 5:] == 0).all()
    assert np.array_equal(both[:, :5], named["visual" + STANDARDISED])
    flat = replace(table, features={"visual": np.ones((60, 2), np.float32)}, present={})
    constant = dict(feature_embeddings(flat, corpus.is_train))
    assert (constant["visual" + STANDARDISED] == 0).all()
    assert list(constant) == ["visual", "visual" + STANDARDISED]


def test_the_closed_form_is_measured_with_the_features(corpus):
    """All modalities, one direction per feature; its mathematics is tested in tests/tasks."""
    vectors = baselines.solved_embedding(corpus)
    assert vectors.shape == (60, 8)
    evaluator = RelatedVideos(directions=("eval_to_train",))
    systems = baselines.measured(evaluator, corpus)
    assert list(systems)[-3:] == ["closed_form", "popularity", "random"]
    expected = evaluator.per_query(vectors, corpus, "eval_to_train").values["map"]
    np.testing.assert_array_equal(systems["closed_form"]["eval_to_train"].values["map"], expected)


@pytest.mark.fault(
    "Scores: no relation between train videos, constant features, or more than 5,000 of them",
    "the baselines are measured without the closed form",
)
def test_without_a_closed_form_the_other_baselines_stay(corpus, monkeypatch):
    nothing = corpus.relations.within(np.zeros(60, bool))
    flat = replace(corpus.table, features={"visual": np.ones((60, 2), np.float32)}, present={})
    for without in (replace(corpus, train_graph=nothing), replace(corpus, table=flat)):
        assert baselines.solved_embedding(without) is None
    monkeypatch.setattr(baselines, "MOST_FEATURES", 7)
    assert baselines.solved_embedding(corpus) is None
    evaluator = RelatedVideos(directions=("eval_to_train",))
    assert "closed_form" not in baselines.measured(evaluator, corpus)
