import dataclasses

import numpy as np
import pytest

from vidembed.report.gallery import gallery

NAMES = {i: f"label {chr(97 + i)}" for i in range(8)}  # label 8 has no name


@pytest.fixture
def embeddings():
    vectors = np.random.default_rng(5).standard_normal((60, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows(corpus, ids):
    return corpus.table.find(ids)


def test_equals_brute_force(corpus, embeddings):
    entries = gallery(embeddings, corpus, NAMES, queries=9, nearest=5)
    assert len(entries) == 9
    related = corpus.relations.matrix().toarray() > 0
    found_related = 0
    for entry in entries:
        query = int(rows(corpus, [entry["id"]])[0])
        scores = embeddings.astype(np.float64) @ embeddings[query].astype(np.float64)
        scores[query] = -np.inf
        wanted = np.argsort(-scores, kind="stable")[:5]
        near = entry["nearest"]
        assert [one["id"] for one in near] == [f"v{row:03}" for row in wanted]
        np.testing.assert_allclose([one["score"] for one in near], scores[wanted], atol=1e-6)
        assert [one["related"] for one in near] == related[query, wanted].tolist()
        assert [one["partition"] == "train" for one in near] == corpus.is_train[wanted].tolist()
        assert entry["relations"] == related[query].sum()
        found_related += sum(one["related"] for one in near)
        for one in [entry, *near]:
            row = int(rows(corpus, [one["id"]])[0])
            labels = [NAMES.get(i, f"label {i}") for i in corpus.table.labels(row).tolist()]
            assert one["labels"] == labels
    assert 0 < found_related < 45


def test_queries_are_of_the_eval_split_each_once_and_never_their_own_result(corpus, embeddings):
    embeddings = np.ones_like(embeddings)  # every video is as near as the query itself
    entries = gallery(embeddings, corpus, NAMES, queries=1000, nearest=1000)
    queries = rows(corpus, [entry["id"] for entry in entries])
    np.testing.assert_array_equal(queries, np.flatnonzero(~corpus.is_train))
    assert {entry["partition"] for entry in entries} == {"eval"}
    for query, entry in zip(queries, entries):
        near = rows(corpus, [one["id"] for one in entry["nearest"]])
        np.testing.assert_array_equal(near, np.delete(np.arange(60), query))


def test_with_validation_videos_the_queries_are_of_the_test_part(corpus, embeddings):
    rows_held_out = np.flatnonzero(~corpus.is_train)
    corpus = dataclasses.replace(corpus, is_validation=np.isin(np.arange(60), rows_held_out[::2]))
    entries = gallery(embeddings, corpus, NAMES, queries=1000, nearest=1000)
    queries = rows(corpus, [entry["id"] for entry in entries])
    np.testing.assert_array_equal(queries, rows_held_out[1::2])
    assert {entry["partition"] for entry in entries} == {"test"}
    near = {one["id"].encode(): one["partition"] for one in entries[0]["nearest"]}
    for row in set(range(60)) - {queries[0]}:
        wanted = "validation" if corpus.is_validation[row] else "test"
        assert near[corpus.table.ids[row]] == ("train" if corpus.is_train[row] else wanted)


def test_the_seed_draws_the_queries(corpus, embeddings):
    def drawn(seed):
        return [e["id"] for e in gallery(embeddings, corpus, NAMES, queries=6, seed=seed)]

    assert drawn(1) == drawn(1) == sorted(drawn(1))
    assert drawn(1) != drawn(2)
    assert gallery(embeddings, corpus, NAMES) == gallery(embeddings, corpus, NAMES)


def test_queries_have_relations_if_any_video_has(corpus, embeddings):
    few = np.flatnonzero(~corpus.is_train)[:8]
    graph = corpus.relations.within(np.isin(np.arange(60), few))
    assert 0 < (graph.degrees() > 0).sum() < 8
    entries = gallery(embeddings, dataclasses.replace(corpus, relations=graph), NAMES)
    queries = rows(corpus, [entry["id"] for entry in entries])
    np.testing.assert_array_equal(queries, np.flatnonzero(graph.degrees()))
    none = corpus.relations.within(np.zeros(60, bool))
    assert len(gallery(embeddings, dataclasses.replace(corpus, relations=none), NAMES)) == 12


def test_without_videos_held_out_there_is_no_gallery(corpus, embeddings):
    corpus = dataclasses.replace(corpus, is_train=np.ones(60, bool))
    assert gallery(embeddings, corpus, NAMES) == []


def test_refuses_embeddings_that_do_not_fit(corpus, embeddings):
    with pytest.raises(ValueError, match=r"each of the table's 60 videos.*found \[59, 16\]"):
        gallery(embeddings[:59], corpus, NAMES)
    embeddings[[7, 9], 3] = np.nan
    with pytest.raises(
        ValueError, match="2 embeddings are not finite; the first are those of v007, v009"
    ):
        gallery(embeddings, corpus, NAMES)
