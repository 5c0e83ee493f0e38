"""Recommendation on MovieLens: a small one made on the fly, and the real one where it is given."""

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.linalg
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

import vidembed
from experiments import movielens
from experiments.composites import beside
from experiments.movielens_100k import joined, read_titles, svd_row, title_key
from experiments.movielens_data import MovieLensError, read_movies, write_movies
from experiments.movielens_gathering import contents_of, gathered, leading
from experiments.movielens_paper import PROTOTYPE
from experiments.movielens_people import asked, by_history, cold_test, history, own_test
from experiments.movielens_systems import closed_forms, content, interactions, unit
from experiments.movielens_text import tfidf, words
from experiments.movielens_training import World, co_likes, recipe
from experiments.movielens_trials import Trial, t4, t5
from tests.experiments.made_movies import MOVIES, USERS, made_movies, write_csv
from vidembed.corpora.ratings import read_ratings
from vidembed.distributed.stopping import StopFlag
from vidembed.progress import Progress
from vidembed.records.scores_file import read_scores
from vidembed.records.split import by_hash
from vidembed.records.table import FeatureTable


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return made_movies(tmp_path_factory.mktemp("movielens"))


@pytest.fixture(scope="module")
def movies(folders):
    return read_movies(**folders)


@pytest.fixture(scope="module")
def ratings(folders, movies):
    return read_ratings(folders["movielens"]).on(movies.table.ids)


def test_movies_are_joined_by_id_and_cleaned(movies):
    table = movies.table
    assert table.widths == {"audio": 6, "visual": 5, "genres": 4, "tags": 3, "text": 11}
    visual = table.features["visual"]
    np.testing.assert_allclose(visual[0, :2], visual[1:, :2].mean(0), rtol=1e-5)
    assert movies.groups[7] == movies.groups[4] == table.ids[4]
    assert len(set(movies.groups.tolist())) == MOVIES - 1
    assert not table.present  # whoever has no overview has tags
    assert movies.links[0].endswith("abc")
    assert any("columns [0, 1]" in note for note in movies.notes)


def test_tfidf_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    texts = [" ".join(f"w{w}" for w in rng.zipf(1.3, 30) if w < 60) for _ in range(50)]
    vectors, has = tfidf([words(one) for one in texts], 8)
    other = TfidfVectorizer(
        token_pattern=r"[^\W_]{2,}", min_df=2, max_df=0.3, sublinear_tf=True
    ).fit_transform(texts)
    expected = TruncatedSVD(8, algorithm="arpack", random_state=0).fit_transform(other)
    np.testing.assert_allclose(vectors @ vectors.T, expected @ expected.T, atol=1e-5)
    assert has.all()
    assert tfidf([["alone"], []], 4)[0].shape == (2, 0)


def test_co_likes_are_counted_pair_by_pair(ratings):
    likes = ratings.of(ratings.value >= 4)
    liking = [set(likes.user[likes.item == row]) for row in range(MOVIES)]
    expected = {}
    for a in range(MOVIES):
        for b in range(a + 1, MOVIES):
            both = len(liking[a] & liking[b])
            if both >= 2:
                names = (ratings.items[a].decode(), ratings.items[b].decode())
                expected[names] = both / np.sqrt(len(liking[a]) * len(liking[b]))
    edges = co_likes(likes).to_pylist()
    found = {(edge["source"], edge["target"]): edge["weight"] for edge in edges}
    assert found == pytest.approx(expected, rel=1e-6)


def test_asked_keeps_n_ratings_and_says_who_is_left_out(ratings):
    keys = np.random.default_rng(0).random(len(ratings))
    everyone = np.ones(USERS, bool)
    of = asked(ratings, keys, np.full(USERS, 5), everyone, relevant=4)
    assert of.left_out == {"fewer than 10 test ratings": 1, "no relevant test rating": 0}
    assert len(of.users) == USERS - 1
    assert (np.bincount(ratings.user[of.known])[of.users] == 5).all()
    assert not {*of.known} & {*of.test}
    more = asked(ratings, keys, np.full(USERS, 8), everyone, relevant=4)
    assert {*of.known} < {*more.known}
    none = asked(ratings, keys, np.full(USERS, 5), everyone, relevant=6)
    assert none.left_out["no relevant test rating"] == USERS - 1


def test_a_history_without_high_ratings_is_all_that_is_known(ratings):
    known = np.arange(len(ratings))
    high, fallen = history(ratings, known, "5")
    for user in range(USERS):
        own = ratings.value[ratings.user == user]
        taken = ratings.value[high][ratings.user[high] == user]
        np.testing.assert_array_equal(taken, own[own >= 5] if (own >= 5).any() else own)
    without = [not (ratings.value[ratings.user == user] >= 5).any() for user in range(USERS)]
    assert fallen == sum(without)
    above, _ = history(ratings, known, ">mean")
    own = ratings.value[ratings.user == 1]
    np.testing.assert_array_equal(
        ratings.value[above][ratings.user[above] == 1], own[own > own.mean()]
    )


@pytest.mark.parametrize("model", ["mean", "max"])
def test_scores_are_those_of_equations_5_and_6(ratings, model):
    vectors = np.random.default_rng(0).normal(size=(MOVIES, 4)).astype(np.float32)
    rows = np.arange(0, len(ratings), 2)
    users, items = np.repeat([1, 2], 5), np.arange(10)
    found = by_history(vectors, ratings, rows, model)(users, items)
    for score, user, item in zip(found, users, items):
        own = ratings.item[rows][ratings.user[rows] == user]
        each = [float(vectors[q] @ vectors[item]) for q in own]
        assert score == pytest.approx(np.mean(each) if model == "mean" else max(each), rel=1e-4)


def test_own_test_ranks_each_users_test_ratings(ratings):
    keys = np.random.default_rng(0).random(len(ratings))
    of = asked(ratings, keys, np.full(USERS, 5), np.ones(USERS, bool), relevant=4)
    score = np.random.default_rng(2).random(MOVIES)
    found = own_test(ratings, of, lambda _, items: score[items], relevant=4)
    for place, user in enumerate(of.users):
        rows = of.test[ratings.user[of.test] == user]
        order = rows[np.argsort(-score[ratings.item[rows]])]
        gain = 2.0 ** ratings.value[order] - 1
        discount = 1 / np.log2(np.arange(10) + 2)
        ideal = np.sort(gain)[::-1][:10] @ discount
        assert found.values["ndcg@10"][place] == pytest.approx(gain[:10] @ discount / ideal)
        hits = ratings.value[order] >= 4
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        assert found.values["map"][place] == pytest.approx(precision[hits].mean())


def test_cold_movies_are_all_ranked(ratings):
    likes = ratings.of(ratings.value >= 4)
    is_train = np.arange(MOVIES) % 10 < 6
    perfect = np.zeros((USERS, MOVIES))
    perfect[likes.user, likes.item] = 1
    found = cold_test(likes, is_train, lambda users, items: perfect[users, items])
    for metric in ("auc", "ndcg@20", "map"):
        np.testing.assert_allclose(found.values[metric], 1)
    worst = cold_test(likes, is_train, lambda users, items: -perfect[users, items])
    np.testing.assert_allclose(worst.values["auc"], 0)


def test_what_knows_no_user_counts_the_given_ratings(ratings):
    rows = np.flatnonzero(ratings.user < 20)
    systems = dict(interactions(ratings, rows, relevant=4, seed=0))
    items = np.arange(MOVIES)
    own = ratings.item[rows]
    liked = [int((ratings.value[rows][own == item] >= 4).sum()) for item in items]
    np.testing.assert_array_equal(systems["popularity"](items, items), liked)
    value, all_of = ratings.value[rows], ratings.value[rows].mean()
    mean = [(value[own == i].sum() + 5 * all_of) / ((own == i).sum() + 5) for i in items]
    np.testing.assert_allclose(systems["mean rating"](items, items), mean, rtol=1e-5)


def test_where_curves_cross():
    assert leading([2, 4, 8], [3, 1, -1]) == [(2, 6)]
    assert leading([2, 4, 8, 9], [-1, 1, 1, -1]) == [(3, 8.5)]
    assert leading([2, 4], [1, 1]) == [(2, 4)]
    assert leading([2, 4], [-1, 0]) == []
    assert leading([2, 4, 6], [1, -1, 1]) == [(2, 3), (5, 6)]


def test_the_closed_form_goes_by_every_pair_that_is_liked_together(movies, ratings, tmp_path):
    """Beside dense matrices in float64: all pairs of at least 2 likers count alike, whatever they
    weigh and however many a movie has."""
    write_movies(movies, tmp_path)
    likes = ratings.of(ratings.value >= 4)
    world = World(folder=tmp_path, kind="cold", seed=0, base=recipe(4, 16))
    corpus = replace(world, weight="count").open(likes)
    few = replace(corpus, train_graph=corpus.train_graph.capped(2))
    assert few.train_graph.edges < corpus.train_relations.edges
    (found,) = dict(closed_forms(few, ["trailers+genres"], ridge=0.3)).values()

    train = corpus.is_train
    rows = np.concatenate([movies.table.features[m] for m in ("audio", "visual", "genres")], axis=1)
    rows = (rows - rows[train].mean(axis=0)) / rows[train].std(axis=0)
    liking = np.zeros((USERS, MOVIES))
    liking[likes.user, likes.item] = 1
    together = ((liking.T @ liking >= 2) & ~np.eye(MOVIES, dtype=bool))[train][:, train]
    degree = np.maximum(together.sum(axis=1), 1)
    edges = rows[train].T @ (together / np.sqrt(np.outer(degree, degree))) @ rows[train]
    products = rows[train].T @ rows[train]
    ridge = 0.3 * np.trace(products) / len(products) * np.eye(len(products))
    values, vectors = scipy.linalg.eigh(edges, products + ridge)
    expected = unit(rows @ (vectors * np.sqrt(np.maximum(values, 0))))
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)
    # In equal parts: the cosine of two movies is the mean of both systems'.
    other = unit(movies.table.features["genres"] + 0.1)
    cosines = (found @ found.T + other @ other.T) / 2
    both = beside(found, other)
    np.testing.assert_allclose(both @ both.T, cosines, atol=1e-5)


@pytest.fixture
def trial(movies, ratings, tmp_path, monkeypatch):
    """Whose trainings are random vectors: compiling takes seconds."""
    write_movies(movies, tmp_path)
    table = FeatureTable.open(tmp_path / "table")

    def trained(world, name, corpus, stop, progress):
        return np.random.default_rng(0).normal(size=(MOVIES, 4)).astype(np.float32)

    monkeypatch.setattr(World, "trained", trained)
    return Trial(
        folder=tmp_path, table=table, ratings=ratings, base=recipe(4, 16), seed=0, liked=4.0,
        stop=StopFlag(), progress=Progress(quiet=True),
    )  # fmt: skip


def test_in_t5_nothing_was_trained_on_the_users_that_are_tried(trial):
    found, about = t5(trial, ["trailers"], counts=(2, 5, 50))
    ratings = trial.ratings
    tried = np.isin(ratings.users, found["svd"]["2"].ids)
    assert about["train_users"] == USERS // 2
    assert about["50"]["users"] == 0
    assert "50" not in found["svd"]
    assert contents_of(found) == [
        "closed trailers, mean", "cdml trailers, mean", "closed + cdml trailers, mean",
    ]  # fmt: skip
    # Other ratings of the tried users change neither edges nor what is fitted.
    edges = pq.read_table(trial.folder / "t5" / "seed0" / "edges.parquet")
    value = np.where(tried[ratings.user], 6 - ratings.value, ratings.value).astype(np.float32)
    _, _ = t5(replace(trial, ratings=replace(ratings, value=value)), ["trailers"], counts=(2,))
    assert pq.read_table(trial.folder / "t5" / "seed0" / "edges.parquet").equals(edges)


def test_t4_asks_the_same_users_of_every_history(trial):
    found, about = t4(trial, ["trailers"])
    assert len(found["cdml trailers"]) == 10
    for one in found["raw trailers"].values():
        np.testing.assert_array_equal(one.ids, found["svd"]["no history"].ids)
    assert about["users"] == USERS - 1
    better = [
        found[name]["mean >mean"].values["map"].mean()
        for name in ("raw trailers", "ridge trailers", "closed trailers", "closed + ridge trailers")
    ]
    assert min(better) > found["random"]["no history"].values["map"].mean()


@pytest.mark.long
def test_from_folders_to_tables(folders, tmp_path, capsys):
    workdir = tmp_path / "work"
    options = [part for name, folder in folders.items() for part in (f"--{name}", folder)]
    run = ["run", "--workdir", str(workdir), *options, "--tests", "cold", "--sets", "audio"]
    run += ["--seeds", "0", "--steps", "4", "--triplets", "16"]
    alone = {"raw audio", "ridge audio", "closed audio", "closed + ridge audio", "random"}
    with_tower = {
        f"tower {kinds}audio" for kinds in ("", "+ ridge ", "+ closed ", "+ closed + ridge ")
    }
    for more, systems in (
        (["--no-cdml", "--no-tower"], alone),
        (["--no-tower"], alone | {"cdml audio", "closed + cdml audio"}),
        ([], alone | {"cdml audio", "closed + cdml audio"} | with_tower),
    ):
        assert movielens.main([*run, *more]) == 0
        assert "done before" not in capsys.readouterr().out
        assert movielens.main(["gather", "--workdir", str(workdir)]) == 0
        told = json.loads((workdir / "movielens.json").read_text())["tests"]["cold"]
        assert told["scores"].keys() == systems
    assert movielens.main(run) == 0
    assert "done before" in capsys.readouterr().out
    assert "closed + cdml audio - ridge audio" in told["differences"]
    assert "tower + closed + ridge audio - closed + ridge audio" in told["differences"]
    assert "closed + ridge audio - raw audio" not in told["differences"]
    assert told["scores"]["raw audio"]["cold"]["auc"]["value"] > 0.6
    assert "| ridge audio |" in (workdir / "movielens.md").read_text()
    table = FeatureTable.open(workdir / "table")
    trained = vidembed.load(workdir / "cold" / "seed0" / "audio", step="latest")
    assert trained.embed(table).shape == (MOVIES, 64)
    run[run.index("--text") + 1] = ""
    assert movielens.main(run) == 1
    assert "begun with other files" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"ridge -1.0 must be 0 or more"):
        movielens.Run(workdir="", closed_ridge=-1.0)


def test_many_draws_without_training(folders, tmp_path):
    options = [part for name, folder in folders.items() for part in (f"--{name}", folder)]
    run = ["run", "--workdir", str(tmp_path), *options, "--tests", "cold", "t5", "--sets", "audio"]
    assert movielens.main([*run, "--seeds", "0", "1", "--no-cdml", "--no-tower"]) == 0
    assert movielens.main(["gather", "--workdir", str(tmp_path)]) == 0
    of = gathered(tmp_path)["tests"]
    systems = {"raw audio", "ridge audio", "closed audio", "closed + ridge audio", "random"}
    assert of["cold"]["scores"].keys() == systems
    files = [tmp_path / "results" / f"cold-seed{seed}.parquet" for seed in (0, 1)]
    means = [read_scores(file)["raw audio"]["cold"].values["auc"].mean() for file in files]
    assert of["cold"]["deviation"]["raw audio"] == pytest.approx(abs(means[0] - means[1]) / 2**0.5)
    assert not any(name.startswith("cdml") for name in of["t5"]["scores"])
    assert not (tmp_path / "cold" / "seed0" / "audio").exists()


def test_movielens_100k_is_joined_by_title(tmp_path, ratings):
    assert title_key("Usual Suspects, The (1995)") == title_key("The Usual Suspects", "1995")
    assert title_key("Hate (Haine, La) (1995)") == "hate 1995"
    assert title_key("Heat (1995)") != title_key("Heat (1986)")
    (tmp_path / "u.item").write_bytes(
        "1|Caf\xe9 (1990)|x\n2|Other, The (1991)|\n".encode("latin-1")
    )
    titles = read_titles(tmp_path)
    assert titles == {"1": "caf 1990", "2": "theother 1991"}
    few = replace(ratings, items=np.array([b"1", b"2"]), item=ratings.item % 2)
    found, told = joined(few, titles, {"9": "The Other (1991)"})
    assert found == {"2": "9"}
    assert "1 of 2 movies" in told
    scores, about = svd_row(ratings, seed=0, relevant=4.0)
    assert scores.keys() == {"svd", "random", "popularity", "mean rating"}
    assert about["10"]["users"] == USERS - 1


@pytest.mark.fault(
    "Recommendation: MovieLens or its trailers are not there", "the option and what to get"
)
def test_absent_folders_are_named(folders, tmp_path, capsys):
    assert movielens.main(["run", "--workdir", str(tmp_path / "w")]) == 1
    told = capsys.readouterr().err
    assert "--movielens FOLDER" in told
    assert "grouplens.org" in told
    with pytest.raises(MovieLensError, match=r"--trailers FOLDER must name .*MMTF-14K"):
        read_movies(folders["movielens"], str(tmp_path / "nowhere"))
    with pytest.raises(MovieLensError, match=r"one audio\*.csv, found 0"):
        read_movies(folders["movielens"], folders["text"])
    with pytest.raises(ValueError, match="holds no results"):
        gathered(tmp_path)


@pytest.mark.fault(
    "Recommendation: a trailer's features are no numbers, or too many", "file, row, movie"
)
def test_broken_features_are_named(folders, tmp_path):
    for name, cells, message in (
        ("text", ["1,2", "1,x"], "row 1: embedding of 101"),
        ("length", ["1,2", "1,2,3"], "row 1: 101 has 3 numbers, those before 2"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for modality in ("audio", "visual"):
            rows = zip(["100", "101"], cells)
            write_csv(folder / f"{modality}.csv", ("itemId", "embedding"), rows)
        with pytest.raises(MovieLensError, match=message):
            read_movies(folders["movielens"], str(folder))


@pytest.mark.long
def test_real_trailers_hold_what_the_prototype_found():
    """VIDEMBED_MOVIELENS: a folder with `movielens`, `mmtf14k` and `text`."""
    base = os.environ.get("VIDEMBED_MOVIELENS")
    if not base:
        pytest.skip("VIDEMBED_MOVIELENS names no folder with movielens, mmtf14k and text")
    movies = read_movies(f"{base}/movielens", f"{base}/mmtf14k", f"{base}/text")
    assert movies.table.widths["audio"] == 100
    assert movies.table.widths["visual"] == 107
    assert len(movies.table) == 1807
    assert len(set(movies.groups.tolist())) == 1790
    assert sum(map(bool, movies.links)) == 1804
    ratings = read_ratings(f"{base}/movielens").on(movies.table.ids)
    assert len(ratings) == 49_747
    likes = ratings.of(ratings.value >= 4)
    names, found = ("audio", "visual", "trailers", "trailers+genres"), {}
    for seed in range(25):  # an AUC's deviation over draws of movies is 0.01
        is_train = by_hash(movies.groups, seed=seed, train_share=0.7).train
        warm = np.flatnonzero(is_train[likes.item])
        corpus = SimpleNamespace(table=movies.table, is_train=is_train)
        for name, vectors in content(corpus, likes.of(warm), names):
            scores = by_history(vectors, likes, warm, "mean")
            found.setdefault(name, []).append(cold_test(likes, is_train, scores).values["auc"])
    for name in names:
        mean = np.mean([one.mean() for one in found[f"raw {name}"]])
        assert mean == pytest.approx(PROTOTYPE.get(f"raw {name}", mean), abs=0.01)
        better = np.mean([one.mean() for one in found[f"ridge {name}"]])
        assert better == pytest.approx(PROTOTYPE[f"ridge {name}"], abs=0.01)
