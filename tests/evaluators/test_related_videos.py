from dataclasses import replace

import jax
import numpy as np
import pytest
import pytrec_eval

from vidembed.corpora.watched import Corpus
from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.evaluators.queries import DIRECTIONS, queries
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.graph.relation import RelationGraph
from vidembed.metrics.intervals import bootstrap
from vidembed.workdir.measurements import evaluator_name


def sides(corpus, direction, part="test"):
    """bool[N] twice: the queries and the candidates."""
    new = ~corpus.is_train & (corpus.is_validation == (part == "validation"))
    partition = {"train": corpus.is_train, "eval": new}
    one, other = direction.split("_to_")
    return partition[one], partition[other]


def bare_corpus(graph, is_train):
    """Relations without features."""

    class Table:
        ids = np.arange(graph.nodes).astype("S")

        def __len__(self):
            return graph.nodes

    return Corpus(
        table=Table(),
        is_train=is_train,
        relations=graph,
        train_graph=graph.within(is_train),
        simulated=False,
    )


def measured_by_trec(embeddings, corpus, direction):
    """{row: {metric: value}}, with ranked lists scored by pytrec_eval."""
    asking, asked_for = sides(corpus, direction)
    matrix = corpus.relations.matrix().todense()
    judged, run = {}, {}
    for row in np.flatnonzero(asking):
        others = [c for c in np.flatnonzero(asked_for) if c != row]
        relevant = [c for c in others if matrix[row, c] > 0]
        if not relevant:
            continue
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        scores = unit.astype(np.float64) @ unit[row]
        judged[str(row)] = {str(c): 1 for c in relevant}
        run[str(row)] = {str(c): float(scores[c]) for c in others}
    evaluator = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.3,10", "recall.3,10", "map"})
    return {int(row): values for row, values in evaluator.evaluate(run).items()}


@pytest.mark.fault("Scores: no relation to measure by")
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_corpus_that_cannot_be_measured_is_refused_early(direction, corpus, validated):
    """Each direction needs its own relations: those of the others do not help."""
    RelatedVideos(directions=DIRECTIONS).check(corpus)
    cut = corpus.train_graph if direction != "eval_to_eval" else corpus.relevance
    with pytest.raises(ValueError, match=rf"{direction}: none of .*--corpus\.edges"):
        RelatedVideos(directions=(direction,)).check(replace(corpus, relations=cut))
    RelatedVideos(directions=DIRECTIONS).check(validated)
    lonely = replace(validated, is_validation=np.arange(60) == np.flatnonzero(~corpus.is_train)[0])
    with pytest.raises(ValueError, match=r"on validation: none of .* in the validation partition"):
        RelatedVideos(directions=("eval_to_eval",)).check(lonely)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_equal_to_ranked_lists_scored_by_pytrec_eval(corpus, direction):
    embeddings = corpus.table.features["visual"]
    found = RelatedVideos(ks=(10, 3), block=5).per_query(embeddings, corpus, direction)
    expected = measured_by_trec(embeddings, corpus, direction)
    rows = queries(corpus, direction).rows
    assert rows.tolist() == sorted(expected)
    assert found.ids.tolist() == corpus.table.ids[rows].tolist()
    assert list(found.values) == ["ndcg@10", "ndcg@3", "map", "recall@10", "recall@3"]
    for name, values in found.values.items():
        theirs = name.replace("@", "_").replace("ndcg", "ndcg_cut")
        assert values == pytest.approx([expected[r][theirs] for r in rows], abs=1e-6)
    left_out = queries(corpus, direction).left_out
    assert left_out == sides(corpus, direction)[0].sum() - len(expected) > 0


def test_queries_and_candidates_are_the_partitions(corpus):
    for direction in DIRECTIONS:
        asked = queries(corpus, direction)
        asking, asked_for = sides(corpus, direction)
        assert asking[asked.rows].all()
        assert asked.candidates.tolist() == np.flatnonzero(asked_for).tolist()
        pairs = np.stack(
            [np.repeat(asked.rows, np.diff(asked.offsets)), asked.candidates[asked.relevant]]
        )
        related = corpus.relations.matrix().toarray()
        # Across the partitions each pair occurs once, among new videos once from each end.
        assert pairs.shape[1] == np.sum(related[asking][:, asked_for] > 0)
        assert (related[*pairs] > 0).all()
        if direction == "eval_to_eval":
            assert asked.candidates[asked.exclude].tolist() == asked.rows.tolist()
        else:
            assert (asked.exclude == -1).all()


def by_hand(vectors, corpus, direction, part, k):
    """Ids, NDCG@k and average precision of the queries of a direction, in plain loops."""
    asking, asked_for = (np.flatnonzero(side) for side in sides(corpus, direction, part))
    related = corpus.relations.matrix().toarray() > 0
    ids, ndcg, average = [], [], []
    for query in asking:
        scores = {row: float(vectors[query] @ vectors[row]) for row in asked_for if row != query}
        listed = sorted(scores, key=lambda row: (-scores[row], row))
        places = [place for place, row in enumerate(listed, 1) if related[query, row]]
        if places:
            gained = sum(1 / np.log2(place + 1) for place in places if place <= k)
            best = sum(1 / np.log2(place + 1) for place in range(1, min(len(places), k) + 1))
            ids.append(corpus.table.ids[query])
            ndcg.append(gained / best)
            average.append(np.mean([n / place for n, place in enumerate(places, 1)]))
    return ids, ndcg, average


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_new_videos_among_themselves_with_many_ties(corpus, devices):
    # Whole numbers, whose products are exact and often equal, and some videos twice.
    rng = np.random.default_rng(2)
    vectors = rng.integers(-1, 2, (60, 3)).astype(np.float32)
    vectors[30:40] = vectors[20:30]
    evaluator = RelatedVideos(directions=("eval_to_eval",), ks=(4, 60), similarity="dot", block=3)
    mesh = make_mesh(MeshShape(), jax.devices()[:devices])
    found = evaluator.per_query(vectors, corpus, "eval_to_eval", mesh=mesh).values
    for k in evaluator.ks:
        _, ndcg, average = by_hand(vectors, corpus, "eval_to_eval", "test", k)
        assert found[f"ndcg@{k}"] == pytest.approx(ndcg)
        assert found["map"] == pytest.approx(average)


def test_validation_and_test_videos_are_measured_apart(corpus, validated):
    """Each part is measured as if the other did not exist."""
    vectors = np.random.default_rng(4).integers(-1, 2, (60, 3)).astype(np.float32)
    evaluator = RelatedVideos(directions=DIRECTIONS, similarity="dot", ks=(4,), resamples=40)
    result, counts = evaluator.measure(vectors, validated), evaluator.counts(validated)
    names = [*DIRECTIONS, *(f"validation_{direction}" for direction in DIRECTIONS)]
    assert list(result.per_query) == list(counts) == names
    for place, name in enumerate(names):
        direction, part = DIRECTIONS[place % 3], "test" if place < 3 else "validation"
        ids, ndcg, average = by_hand(vectors, validated, direction, part, 4)
        found = result.per_query[name]
        assert found.ids.tolist() == ids
        assert found.values["ndcg@4"] == pytest.approx(ndcg)
        assert found.values["map"] == pytest.approx(average)
        assert result.scores[f"{name}/map"].value == pytest.approx(np.mean(average))
        left_out = sides(validated, direction, part)[0].sum() - len(ids)
        assert counts[name] == {"queries": len(ids), "left_out": left_out}
    one = replace(evaluator, directions=("eval_to_train",))
    wanted = [f"{p}eval_to_train/{m}" for p in ("", "validation_") for m in one.metrics]
    assert all(list(found.scores) == wanted for found in one.baselines(validated).values())


def test_checkpoints_are_chosen_on_validation_if_there_is_one(validated):
    evaluator = RelatedVideos(resamples=40)
    scores = evaluator.measure(validated.table.features["visual"], validated).scores
    values = {name: interval.value for name, interval in scores.items()}
    names = [f"validation_{d}/ndcg@10" for d in ("eval_to_train", "train_to_eval")]
    assert evaluator.selection(values) == (
        "mean of ndcg@10 over eval_to_train, train_to_eval on validation",
        pytest.approx(np.mean([values[name] for name in names])),
    )


def test_the_output_video_is_measured(corpus):
    """The output's function gets the table, and is called once."""
    asked = []

    def video(source):
        asked.append(source)
        return source.features["visual"]

    evaluator = RelatedVideos(resamples=40)
    found = evaluator.run({"video": video}, corpus)
    assert found.scores == evaluator.measure(corpus.table.features["visual"], corpus).scores
    assert asked == [corpus.table]
    with pytest.raises(
        ValueError, match=r"output `video`, one vector per video; this task has text:"
    ):
        evaluator.run({"text": video}, corpus)


def test_the_query_never_counts():
    """In each pair of similar, related new videos, each is the other's first result."""
    graph = RelationGraph.from_edges(
        np.array([0, 2, 4, 0]), np.array([1, 3, 5, 6]), np.ones(4), nodes=8
    )
    corpus = bare_corpus(graph, np.arange(8) > 5)
    vectors = np.repeat(np.eye(4, dtype=np.float32), 2, axis=0)
    evaluator = RelatedVideos(directions=("eval_to_eval",), ks=(1,), resamples=40)
    assert [value for value, *_ in evaluator.measure(vectors, corpus).scores.values()] == [1, 1, 1]
    assert evaluator.counts(corpus) == {"eval_to_eval": {"queries": 6, "left_out": 0}}


def test_names_values_and_intervals(corpus):
    evaluator = RelatedVideos(ks=(5,), resamples=200, seed=7)
    embeddings = corpus.table.features["visual"]
    found, per_query = evaluator.measure(embeddings, corpus)
    assert evaluator.metrics == ("ndcg@5", "map", "recall@5")
    assert list(found) == [
        f"{direction}/{metric}"
        for direction in ("eval_to_train", "train_to_eval")
        for metric in evaluator.metrics
    ]
    values = evaluator.per_query(embeddings, corpus, "train_to_eval").values
    assert found["train_to_eval/map"] == bootstrap([values], seed=7, resamples=200)["map"]
    assert np.array_equal(per_query["train_to_eval"].values["map"], values["map"])


def test_checkpoints_are_compared_by_the_mean_of_ndcg_over_the_directions():
    values = {
        f"{direction}/{metric}": place + deep
        for place, direction in enumerate(DIRECTIONS)
        for metric, deep in (("ndcg@3", 0.3), ("ndcg@10", 0.1), ("map", 9))
    }
    assert RelatedVideos().selection(values) == (
        "mean of ndcg@10 over eval_to_train, train_to_eval", pytest.approx(0.6),
    )  # fmt: skip
    every = RelatedVideos(ks=(3, 10), directions=DIRECTIONS).selection(values)
    assert every.value == pytest.approx(1.1)
    assert "eval_to_eval" in every.name
    one = RelatedVideos(ks=(3,), directions=("train_to_eval",)).selection(values)
    assert one == ("mean of ndcg@3 over train_to_eval", 1.3)


def test_directions_are_measured_in_the_given_order(corpus):
    embeddings = corpus.table.features["visual"]
    usual = RelatedVideos(ks=(10, 60)).measure(embeddings, corpus).scores
    turned = RelatedVideos(ks=(10, 60), directions=("eval_to_eval", "eval_to_train"))
    found = turned.measure(embeddings, corpus).scores
    assert next(iter(found)) == "eval_to_eval/ndcg@10"
    assert {name.split("/")[0] for name in found} == {"eval_to_eval", "eval_to_train"}
    assert found["eval_to_train/map"] == usual["eval_to_train/map"]
    assert list(turned.counts(corpus)) == ["eval_to_eval", "eval_to_train"]


def test_results_measured_before_other_directions_existed_are_found():
    """The folder of the default evaluator stays the same."""
    assert evaluator_name(RelatedVideos().identity()) == "RelatedVideos-7bbedc94"
    asked = (
        ("eval_to_train", "train_to_eval"),
        ("train_to_eval", "eval_to_train"),
        ("eval_to_train",),
        ("eval_to_train", "train_to_eval", "eval_to_eval"),
    )
    names = [evaluator_name(RelatedVideos(directions=d).identity()) for d in asked]
    assert names[0] == "RelatedVideos-7bbedc94"
    assert len(set(names)) == 4


def test_perfect_embeddings_score_one_and_negated_ones_little():
    # Pairs (0, 5), (1, 6), ...: each video's only relation has the same embedding.
    is_train = np.arange(10) < 5
    graph = RelationGraph.from_edges(np.arange(5), np.arange(5, 10), np.ones(5), nodes=10)
    corpus = bare_corpus(graph, is_train)
    embeddings = np.tile(np.eye(5, dtype=np.float32), (2, 1))
    known = RelatedVideos(resamples=40).measure(embeddings, corpus).scores
    assert [interval.value for interval in known.values()] == [1] * 6
    embeddings[5:] *= -1
    worst = RelatedVideos(resamples=40).per_query(embeddings, corpus, "eval_to_train")
    assert worst.values["map"].tolist() == [0.2] * 5

    # Cosine depends on direction only; the dot product also on length.
    embeddings = np.tile(np.eye(5, dtype=np.float32), (2, 1)) + 0.1
    embeddings[1] *= 50
    for similarity, perfect in (("cosine", True), ("dot", False)):
        scores = RelatedVideos(similarity=similarity).per_query(embeddings, corpus, "eval_to_train")
        assert (scores.values["map"].min() == 1) == perfect
    embeddings[3] = 0
    scores = RelatedVideos(resamples=40).measure(embeddings, corpus).scores
    assert np.isfinite(list(scores.values())).all()


@pytest.mark.fault(
    "Scores: NaN in embeddings or similarities",
    "refused; never mined",
)
def test_embeddings_that_cannot_be_ranked_are_refused(corpus):
    embeddings = corpus.table.features["visual"].copy()
    with pytest.raises(ValueError, match=r"must be \[60, D\], found \[59, 5\]"):
        RelatedVideos().measure(embeddings[1:], corpus)
    embeddings[[3, 8], 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"2 of 60 embeddings are not finite \(videos v3, v8\)"):
        RelatedVideos().measure(embeddings, corpus)


@pytest.mark.fault("Scores: a query with nothing relevant")
def test_a_corpus_without_queries_and_a_wrong_direction_are_refused(corpus):
    with pytest.raises(ValueError, match="there is no validation part, only test"):
        queries(corpus, "eval_to_train", "validation")
    with pytest.raises(ValueError, match=r"one of .*, eval_to_eval, found 'sideways'"):
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
    with pytest.raises(ValueError, match=r"eval_to_eval: none of \d+ videos .* another of them"):
        queries(lonely, "eval_to_eval")


@pytest.mark.parametrize(
    "options",
    [
        {"ks": ()},
        {"ks": (0,)},
        {"ks": (5, 5)},
        {"block": 0},
        {"resamples": 3},
        {"directions": ()},
        {"directions": ("eval_to_eval", "train_to_train")},
        {"directions": ("eval_to_eval", "eval_to_eval")},
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        RelatedVideos(**options)
