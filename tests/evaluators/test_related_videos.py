import numpy as np
import pytest
import pytrec_eval

from vidembed.corpus import Corpus
from vidembed.evaluators.related_videos import DIRECTIONS, RelatedVideos, queries
from vidembed.graph.relation import RelationGraph
from vidembed.metrics.intervals import bootstrap


def measured_by_trec(embeddings, corpus, direction):
    """{row: {metric: value}} from ranked lists that pytrec_eval scores."""
    asking = corpus.is_train if direction == "train_to_eval" else ~corpus.is_train
    matrix = corpus.relations.matrix().todense()
    judged, run = {}, {}
    for row in np.flatnonzero(asking):
        relevant = [c for c in np.flatnonzero(~asking) if matrix[row, c] > 0]
        if not relevant:
            continue
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        scores = unit.astype(np.float64) @ unit[row]
        judged[str(row)] = {str(c): 1 for c in relevant}
        run[str(row)] = {str(c): float(scores[c]) for c in np.flatnonzero(~asking)}
    evaluator = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.3,10", "recall.3,10", "map"})
    return {int(row): values for row, values in evaluator.evaluate(run).items()}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_equal_to_ranked_lists_scored_by_pytrec_eval(corpus, direction):
    embeddings = corpus.table.features["visual"]
    found = RelatedVideos(ks=(10, 3), block=5).per_query(embeddings, corpus, direction)
    expected = measured_by_trec(embeddings, corpus, direction)
    assert found.rows.tolist() == sorted(expected)
    assert list(found.values) == ["ndcg@10", "ndcg@3", "map", "recall@10", "recall@3"]
    for name, values in found.values.items():
        theirs = name.replace("@", "_").replace("ndcg", "ndcg_cut")
        assert values == pytest.approx([expected[r][theirs] for r in found.rows], abs=1e-6)
    partition = corpus.is_train if direction == "train_to_eval" else ~corpus.is_train
    assert found.left_out == partition.sum() - len(expected) > 0


def test_queries_and_candidates_are_the_partitions(corpus):
    for direction in DIRECTIONS:
        asked = queries(corpus, direction)
        asking = corpus.is_train if direction == "train_to_eval" else ~corpus.is_train
        assert asking[asked.rows].all()
        assert asked.candidates.tolist() == np.flatnonzero(~asking).tolist()
        pairs = np.stack(
            [np.repeat(asked.rows, np.diff(asked.offsets)), asked.candidates[asked.relevant]]
        )
        assert pairs.shape[1] == corpus.relevance.edges
        assert (corpus.relations.matrix().todense()[*pairs] > 0).all()


def test_names_values_and_intervals(corpus):
    evaluator = RelatedVideos(ks=(5,), resamples=200, seed=7)
    embeddings = corpus.table.features["visual"]
    found = list(evaluator.run(embeddings, corpus))
    assert [name for name, *_ in found] == [
        f"{direction}/{metric}"
        for direction in ("eval_to_train", "train_to_eval")
        for metric in ("ndcg@5", "map", "recall@5")
    ]
    values = evaluator.per_query(embeddings, corpus, "train_to_eval").values["map"]
    assert found[4][1:] == bootstrap(values, seed=7, resamples=200)
    assert found[0][0] == f"eval_to_train/ndcg@{evaluator.ks[0]}"


def test_embeddings_that_know_the_answer_score_one_and_of_opposite_sign_little():
    # Pairs (0, 5), (1, 6), ...: each video's only relation has its very embedding.
    is_train = np.arange(10) < 5
    graph = RelationGraph.from_edges(np.arange(5), np.arange(5, 10), np.ones(5), nodes=10)

    class Table:
        ids = np.arange(10).astype("S")
        __len__ = lambda self: 10  # noqa: E731

    corpus = Corpus(
        table=Table(),
        is_train=is_train,
        relations=graph,
        train_graph=graph.within(is_train),
        simulated=False,
    )
    embeddings = np.tile(np.eye(5, dtype=np.float32), (2, 1))
    assert [value for _, value, *_ in RelatedVideos(resamples=40).run(embeddings, corpus)] == [
        1
    ] * 6
    embeddings[5:] *= -1
    worst = RelatedVideos(resamples=40).per_query(embeddings, corpus, "eval_to_train")
    assert worst.values["map"].tolist() == [0.2] * 5

    # Cosine looks at direction alone; the dot product at length, too.
    embeddings = np.tile(np.eye(5, dtype=np.float32), (2, 1)) + 0.1
    embeddings[1] *= 50
    for similarity, perfect in (("cosine", True), ("dot", False)):
        scores = RelatedVideos(similarity=similarity).per_query(embeddings, corpus, "eval_to_train")
        assert (scores.values["map"].min() == 1) == perfect
    embeddings[3] = 0
    assert np.isfinite([v for _, *v in RelatedVideos(resamples=40).run(embeddings, corpus)]).all()


def test_embeddings_that_cannot_be_ranked_are_refused(corpus):
    embeddings = corpus.table.features["visual"].copy()
    with pytest.raises(ValueError, match=r"must be \[60, D\], found \[59, 5\]"):
        list(RelatedVideos().run(embeddings[1:], corpus))
    embeddings[[3, 8], 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"2 of 60 embeddings are not finite \(videos v3, v8\)"):
        list(RelatedVideos().run(embeddings, corpus))


def test_a_corpus_without_queries_and_a_wrong_direction_are_refused(corpus):
    with pytest.raises(ValueError, match="one of eval_to_train, train_to_eval, found 'sideways'"):
        queries(corpus, "sideways")
    inside = corpus.relations.within(corpus.is_train)
    lonely = Corpus(
        table=corpus.table,
        is_train=corpus.is_train,
        relations=inside,
        train_graph=inside,
        simulated=False,
    )
    with pytest.raises(ValueError, match=r"train_to_eval: none of .* nothing to measure"):
        queries(lonely, "train_to_eval")


@pytest.mark.parametrize(
    "options", [{"ks": ()}, {"ks": (0,)}, {"ks": (5, 5)}, {"block": 0}, {"resamples": 3}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        RelatedVideos(**options)
