"""Recommendation against loops over users; faults of ratings, histories and candidates."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score

from vidembed.corpora.ratings import Ratings
from vidembed.evaluators import factors
from vidembed.evaluators.evaluator import Evaluator
from vidembed.evaluators.ranked_users import measure
from vidembed.evaluators.recommendation import Recommendation
from vidembed.evaluators.user_queries import Asking
from vidembed.serving.user_models import Max, Mean

K = 4
COLD = Recommendation(ks=(K,), resamples=100)
WARM = replace(COLD, items="warm")


def ratings_of(user, item, value, *, items, time=None, explicit=True):
    order = np.argsort(user, kind="stable")
    user, item, value = (np.asarray(part)[order] for part in (user, item, value))
    return Ratings(
        users=np.array([f"u{n:02}" for n in range(user.max() + 1)]).astype("S"),
        items=items,
        user=user,
        item=item,
        value=value.astype(np.float32),
        time=None if time is None else np.asarray(time, np.float64)[order],
        explicit=explicit,
    )


@pytest.fixture(scope="module")
def ratings(corpus):
    """25 users who rated 6 to 39 of the 60 videos, tastes following the visual features."""
    rng = np.random.default_rng(1)
    taste = rng.normal(size=(25, 5)) @ corpus.table.features["visual"].T
    user, item = np.nonzero(rng.random(taste.shape) < rng.uniform(0.1, 0.6, (25, 1)))
    value = np.clip(np.round(2 * (3 + taste[user, item])) / 2, 0.5, 5)
    time = rng.permutation(len(user))
    return ratings_of(user, item, value, items=corpus.table.ids, time=time)


@pytest.fixture
def rated(corpus, ratings, tmp_path):
    """A file with these ratings and those of a video that the table lacks."""
    users, items = ratings.users[ratings.user], ratings.items[ratings.item]
    lines = [
        f"{u.decode()},{i.decode()},{v},{t:.0f}"
        for u, i, v, t in zip(users, items, ratings.value, ratings.time)
    ]
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(["user_id,item_id,rating,timestamp", *lines, "u01,zzz,5,3"]) + "\n")
    return str(path)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def slowly(ratings, vectors, cold, known, *, own, aggregate, liked=0.0, relevant=4.0):
    """User id → metrics, one user at a time, by sorting all candidates."""
    found, popular = {}, np.bincount(ratings.item[known], minlength=len(vectors))
    if cold is not None:
        popular = np.where(cold, np.bincount(ratings.item, minlength=len(vectors)), popular)
    for user in range(len(ratings.users)):
        mine = {
            item: (value, was_known)
            for u, item, value, was_known in zip(ratings.user, ratings.item, ratings.value, known)
            if u == user
        }
        history = [i for i, (value, k) in mine.items() if k and value >= liked]
        test = {i: value for i, (value, k) in mine.items() if not k}
        if own:
            candidates = sorted(test)
        elif cold is not None:
            candidates = np.flatnonzero(cold).tolist()
        else:
            candidates = [
                i for i in range(len(vectors)) if popular[i] and not mine.get(i, (0, False))[1]
            ]
        right = [i for i in test if test[i] >= relevant and i in candidates]
        if not history or not right or (not own and len(right) == len(candidates)):
            continue
        scores = {i: aggregate([vectors[h] @ vectors[i] for h in history]) for i in candidates}
        ranked = sorted(candidates, key=lambda i: (-scores[i], i))
        places = -np.arange(len(ranked))
        gains = [2 ** test[i] - 1 if i in test else 0 for i in ranked]
        is_right = [i in right for i in ranked]
        metrics = {
            f"ndcg@{K}": ndcg_score([gains], [places], k=K) if len(ranked) > 1 else 1.0,
            f"recall@{K}": sum(is_right[:K]) / len(right),
            "map": average_precision_score(is_right, places),
        }
        if not own:
            metrics["auc"] = roc_auc_score(is_right, [scores[i] for i in ranked])
        found[ratings.users[user]] = metrics
    return found


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize(("model", "aggregate"), [(Mean(), np.mean), (Max(), np.max)])
def test_equal_to_a_loop_over_users(corpus, ratings, own, cold, model, aggregate):
    vectors = unit(corpus.table.features["visual"])
    mask = ~corpus.is_train if cold else None
    asking = Asking(own=own, history_from=3.0, seed=3)
    asked = asking.ask(ratings, mask)
    pairs = set(zip(asked.known.user.tolist(), asked.known.item.tolist()))
    known = np.array([pair in pairs for pair in zip(ratings.user.tolist(), ratings.item.tolist())])
    slow = slowly(ratings, vectors, mask, known, own=own, aggregate=aggregate, liked=3.0)
    evaluator = replace(COLD, aggregate=model, users_at_once=7)
    found = evaluator.measure(corpus.table.features["visual"], asked, ids=corpus.table.ids)
    assert found.per_user.ids.tolist() == list(slow)
    for name in next(iter(slow.values())):
        expected = [metrics[name] for metrics in slow.values()]
        np.testing.assert_allclose(found.per_user.values[name], expected, atol=1e-5, err_msg=name)


def test_coverage_popular_share_and_items_worked_by_hand():
    """Two users, four cold items scored 4, 3, 2, 1 for all: item 1 is relevant to both."""
    items = np.array([b"a", b"b", b"c", b"d", b"w"])
    given = ratings_of([0, 0, 1, 1, 1], [4, 1, 4, 1, 2], [5, 5, 5, 4, 1], items=items)
    asked = Asking().ask(given, np.arange(5) < 4)
    scores = np.tile(np.array([4, 3, 2, 1, 9], np.float32), (2, 1))
    found = measure([(np.arange(2), scores)], asked, ks=(1, 2), ids=items)
    values = {name: of.tolist() for name, of in found.per_user.values.items()}
    assert (values["recall@1"], values["recall@2"], values["map"]) == ([0, 0], [1, 1], [0.5, 0.5])
    assert values["auc"] == pytest.approx([2 / 3, 2 / 3])
    assert found.coverage == {"coverage@1": 0.25, "coverage@2": 0.5}
    assert found.per_item.ids.tolist() == [b"b"]
    assert found.per_item.values["discount"].tolist() == pytest.approx([1 / np.log2(3)])


def test_splits(ratings):
    each = np.diff(ratings.offsets)
    half = Asking().ask(ratings).known
    np.testing.assert_array_equal(np.diff(half.offsets), each - each // 2)
    assert len(Asking(seed=1).ask(ratings).known.of(half.item >= 0)) == len(half)
    asked = Asking(split="given", given=5, own=True, least_test=10).ask(ratings)
    assert set(np.diff(asked.known.offsets)) == {5}
    np.testing.assert_array_equal(
        asked.user, np.intersect1d(np.flatnonzero(each >= 15), asked.user)
    )
    assert asked.left_out["users without enough test items"] == int((each < 15).sum())
    temporal = Asking(split="temporal", before=0.5, own=True).ask(ratings)
    moment = temporal.known.time.max()
    assert len(temporal.known) == (ratings.time <= moment).sum()
    for own in np.split(temporal.times, temporal.offsets[1:-1]):
        assert (np.diff(own) > 0).all()  # oldest first
    mean = Asking(above_mean=True).ask(ratings)
    for user, (start, end) in enumerate(zip(mean.offsets[:-1], mean.offsets[1:])):
        own = half.user == mean.user[user]
        liked = half.item[own][half.value[own] > half.value[own].astype(float).mean()]
        assert sorted(mean.history[start:end]) == sorted(liked)


def test_an_evaluator_of_the_engine(corpus, rated):
    evaluator = replace(COLD, ratings=rated)
    evaluator.check(corpus)
    result = evaluator.run({"video": lambda table: table.features["visual"]}, corpus)
    values = {name: score.value for name, score in result.scores.items()}
    assert set(result.per_query) == {"cold_items"}
    for name, of in result.per_query["cold_items"].values.items():
        score = result.scores[f"cold_items/{name}"]
        assert score.low <= of.mean() == pytest.approx(score.value)
        assert score.value <= score.high
    assert evaluator.selection(values).name == f"cold_items/ndcg@{K}"
    assert isinstance(evaluator, Evaluator)
    identity = json.loads(json.dumps(evaluator.identity()))
    assert identity["ratings"] == rated
    assert identity["aggregate"]["class"] == "Mean"
    assert replace(evaluator, aggregate=Max()).identity() != evaluator.identity()
    counts = evaluator.counts(corpus)["cold_items"]
    assert counts["queries"] + counts["left_out"] == 25
    blocks = replace(evaluator, users_at_once=3).identity()
    assert blocks == evaluator.identity()


@pytest.mark.fault(
    "Recommendation: ratings that were measured by are replaced by others of the same path",
    "they count as another evaluation: results with the old ratings are not reused",
)
@pytest.mark.fault(
    "Recommendation: ratings that are NaN or out of range, an item twice, no timestamps",
    "left out or kept by one rule, and counted where they are read, in `evaluate` too",
)
def test_other_ratings_at_the_same_path_are_another_evaluation(corpus, rated, capsys):
    evaluator = replace(COLD, ratings=rated)
    before, count = evaluator.identity(), len(evaluator.asked(corpus))
    assert evaluator.identity() == before
    header, first, *lines = Path(rated).read_text().splitlines()
    user, item, _, time = first.split(",")
    odd = [f"{user},{item},{v},{time}" for v in ("nan", "7", "5", "4")]
    Path(rated).write_text("\n".join([header, *odd, *lines[:60]]) + "\n")
    assert evaluator.identity() != before
    assert len(evaluator.asked(corpus)) < count
    output = "".join(capsys.readouterr()).replace("\n", " ")
    for note in ("1 ratings are missing", "1 ratings lie outside", "1 rows repeat a user"):
        assert note in output
    assert replace(COLD, ratings="tfds:movielens/100k-ratings").identity()["content"] == ""


def test_items_by_slice(corpus, rated):
    evaluator = replace(COLD, ratings=rated)
    vectors, asked = corpus.table.features["visual"], evaluator.asked(corpus)
    kinds = evaluator.slices(vectors, corpus, {})["cold_items"]
    found = evaluator.measure(vectors, asked, ids=corpus.table.ids).per_item
    right = np.unique(asked.test[asked.relevant])
    np.testing.assert_array_equal(corpus.table.find(found.ids), right)
    assert {"popularity", "neighbours", "modalities", "age"} <= set(kinds)
    assert set(kinds["age"]) == {"oldest third", "middle third", "newest third"}
    for parts in kinds.values():
        assert sum(part.videos for part in parts.values()) == len(right)


@pytest.mark.parametrize("kind", [COLD, WARM], ids=["cold", "warm"])
def test_baselines_are_measured(corpus, rated, kind):
    pytest.importorskip("implicit", reason="the extra `recommend` is not installed")
    systems = replace(kind, ratings=rated).baselines(corpus)
    names = {"visual", "audio_standardised", "ridge_concatenated", "popularity", "random"}
    warm = {"svd_5", "als", "bpr"}
    assert names <= set(systems)
    assert (warm & set(systems)) == (warm if kind is WARM else set())
    auc = {n: found.scores[f"{kind.direction}/auc"].value for n, found in systems.items()}
    assert auc["random"] == pytest.approx(0.5, abs=0.12)
    again = replace(kind, ratings=rated).baselines(corpus)
    assert {n: f.scores for n, f in again.items()} == {n: f.scores for n, f in systems.items()}


def test_validation_videos_choose_the_checkpoint_and_are_measured_apart(validated, rated):
    evaluator = replace(COLD, ratings=rated)
    queries = evaluator.asked_of(validated)
    assert list(queries) == ["cold_items", "validation_cold_items"]
    test, validation = queries.values()
    assert not (test.candidates & (validated.is_train | validated.is_validation)).any()
    np.testing.assert_array_equal(validation.candidates, validated.is_validation)
    assert not {*validation.test.tolist()} & {*test.test.tolist()}
    np.testing.assert_array_equal(test.known.item, validation.known.item)
    vectors = validated.table.features["visual"]
    result = evaluator.run({"video": lambda table: vectors}, validated)
    values = {name: score.value for name, score in result.scores.items()}
    name, value = evaluator.selection(values)
    of = result.per_query["validation_cold_items"].values[f"ndcg@{K}"].mean()
    assert (name, value) == (f"validation_cold_items/ndcg@{K}", pytest.approx(of))
    systems = evaluator.baselines(validated)
    assert all(found.per_query.keys() == queries.keys() for found in systems.values())
    assert evaluator.counts(validated).keys() == queries.keys()
    assert evaluator.slices(vectors, validated, {}).keys() == queries.keys()
    assert list(replace(evaluator, items="warm").asked_of(validated)) == ["warm_items"]


def test_ridge_and_svd_are_numpys(ratings, corpus):
    likes = factors.liked(ratings, 4.0)
    of = factors.matrix(likes).toarray()
    together = of.T @ of
    np.fill_diagonal(together, 0)
    wide = factors.co_like_factors(likes, 59)
    weights, vectors = np.linalg.eigh(np.log1p(together))
    positive = (vectors * np.maximum(weights, 0)) @ vectors.T
    length = np.sqrt(np.diag(positive))
    length = np.where(together.any(axis=0), length, np.inf)  # shares no users with any item
    cosines = positive / length[:, None] / length
    np.testing.assert_allclose(wide @ wide.T, cosines, atol=1e-4)
    x, rows = corpus.table.features["visual"], corpus.is_train
    found = factors.ridge(x, wide, rows, penalty=2.0)
    centred = x[rows] - x[rows].mean(axis=0)
    stacked = np.concatenate([centred, np.sqrt(2.0) * np.eye(5)])
    target = np.concatenate([wide[rows] - wide[rows].mean(axis=0), np.zeros((5, 59))])
    slow = (x - x[rows].mean(axis=0)) @ np.linalg.lstsq(stacked, target)[0]
    np.testing.assert_allclose(found, slow, atol=1e-4)
    full = factors.matrix(ratings, ratings.value).toarray()
    mean = np.array([row[row > 0].mean() for row in full])
    left, size, right = np.linalg.svd(np.where(full > 0, full - mean[:, None], 0))
    slow = (left[:, :3] * size[:3]) @ right[:3]
    np.testing.assert_allclose(factors.svd(ratings, 3)(np.arange(25)), slow, atol=1e-4)


@pytest.mark.fault(
    "Recommendation: Implicit is not installed", "its ALS and BPR are left out, and that is said"
)
def test_without_implicit_the_others_are_measured(ratings, monkeypatch, capsys):
    monkeypatch.setattr(factors, "find_spec", lambda name: None)
    counts = np.bincount(ratings.item, minlength=60)
    found = dict(factors.by_interactions(ratings, counts, warm=True, seed=0))
    assert list(found) == ["popularity", "random", "svd_5"]
    output = "".join(capsys.readouterr())
    assert "als and bpr are skipped: Implicit (the extra `recommend`) is not installed" in output


def test_without_any_likes(ratings, corpus):
    nothing = ratings.of(np.zeros(len(ratings), bool))
    assert not factors.co_like_factors(nothing).any()
    features = [("visual_standardised", corpus.table.features["visual"])]
    found = factors.with_ridge(features, nothing, corpus.is_train, relevant_from=4.0)
    assert [name for name, _ in found] == ["visual_standardised"]


@pytest.mark.fault(
    "Recommendation: users without history, without a relevant test item, or to whom all is",
    "left out, counted by reason, said with the scores",
)
def test_users_who_cannot_be_measured_are_counted():
    items = np.array([b"a", b"b", b"w", b"x"])
    given = ratings_of(
        [0, 0, 1, 2, 2, 3, 3, 3], [2, 0, 0, 2, 0, 2, 0, 1], [5, 5, 5, 5, 1, 5, 5, 5], items=items
    )
    queries = Asking().ask(given, np.array([True, True, False, False]))
    assert queries.ids.tolist() == [b"u00"]
    assert queries.left_out == {
        "users without enough history": 1,
        "users without a relevant test item": 1,
        "users to whom every candidate is relevant": 1,
    }


def test_ratings_of_zero_give_no_gain(corpus):
    """All relevant items of u00 are rated 0, so it has no ideal list; one of u01's is not."""
    items = np.array([b"a", b"b", b"c", b"w"])
    given = ratings_of([0, 0, 1, 1, 1], [3, 0, 3, 0, 1], [5, 0, 5, 0, 3], items=items)
    queries = Asking(relevant_from=0).ask(given, np.array([True, True, True, False]))
    assert queries.ids.tolist() == [b"u01"]
    assert list(queries.left_out.values()) == [1]
    assert "all rated 0" in next(iter(queries.left_out))
    with pytest.raises(ValueError, match="0 or more"):
        replace(COLD, scale=(-1.0, 1.0))


@pytest.mark.fault(
    "Recommendation: no candidates, nobody to measure, no ratings given",
    "refused, with what there was",
)
def test_nothing_to_measure_is_refused(corpus, ratings):
    nothing = np.zeros(len(corpus.table), bool)
    with pytest.raises(ValueError, match="0 are test interactions, and 0 items are candidates"):
        Asking().ask(ratings, nothing)
    with pytest.raises(
        ValueError, match=r"none of 25 users can be measured: .*enough history': 25"
    ):
        Asking(least_history=99).ask(ratings)
    with pytest.raises(ValueError, match=r"set --evaluator\.ratings PATH"):
        COLD.check(corpus)
    with pytest.raises(ValueError, match="the outputs of this task: none"):
        COLD.run({}, corpus)


@pytest.mark.fault("Recommendation: ratings without timestamps")
def test_a_temporal_split_needs_times(ratings):
    with pytest.raises(ValueError, match=r"interactions have no timestamp.*choose --split half"):
        Asking(split="temporal").ask(replace(ratings, time=None))


@pytest.mark.fault(
    "Recommendation: vectors that are not finite, or not one for each item",
    "refused before any metric",
)
def test_bad_vectors_are_refused(corpus, ratings):
    asked = Asking().ask(ratings)
    vectors = corpus.table.features["visual"].copy()
    with pytest.raises(ValueError, match=r"60 items need one finite vector each, found \[59, 5\]"):
        COLD.measure(vectors[1:], asked, ids=corpus.table.ids)
    vectors[3, 2] = np.nan
    with pytest.raises(ValueError, match="1 values not finite"):
        COLD.measure(vectors, asked, ids=corpus.table.ids)


def test_views_without_ratings_all_count(ratings):
    views = replace(ratings, value=np.ones_like(ratings.value), explicit=False)
    asked = Asking(history_from=4.0).ask(views)
    assert asked.relevant.all()
    assert set(asked.gain.tolist()) == {1.0}
    assert len(asked.history) == np.isin(asked.known.user, asked.user).sum()
