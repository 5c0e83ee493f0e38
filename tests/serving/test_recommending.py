"""Recommendations of an index against a loop over all its vectors, on exact and other engines."""

from itertools import pairwise

import numpy as np
import pytest

from tests.serving.test_index import D, some_ids, some_vectors
from vidembed.deploy.index import VideoIndex
from vidembed.serving import recommending
from vidembed.serving.choosing import Choosing
from vidembed.serving.faiss_engine import Hnsw
from vidembed.serving.index import Index
from vidembed.serving.user_models import Max, Mean, Top
from vidembed.serving.user_vector import UserVector

N = 256
IDS, VECTORS = some_ids(N), some_vectors(N)
GONE = [IDS[4], IDS[205]]
ROW = {name: row for row, name in enumerate(IDS.tolist())}
RANDOM = np.random.default_rng(1)
HISTORIES = [RANDOM.choice(IDS, size, replace=False).tolist() for size in (1, 3, 20, 3)]
MODELS = {"mean": Mean(half_life_watches=5), "max": Max(), "top": Top(count=2)}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """254 of 256 vectors, in two segments."""
    return made(tmp_path_factory.mktemp("made") / "i", "exact")


def made(folder, engine):
    index = Index.create(folder, IDS[:128], VECTORS[:128], space="s", engine=engine)
    index.add(IDS[128:], VECTORS[128:])
    index.remove(GONE)
    return VideoIndex(index)


def expected(model, history, current=None, within=IDS):
    """Scores of the candidates, by id."""
    known = [name for name in history if name in ROW and name not in GONE]
    cosines = VECTORS[[ROW[name] for name in known]] @ VECTORS.T
    if isinstance(model, Mean):
        weights = 0.5 ** (np.arange(len(known))[::-1] / 5)
        scores = weights @ cosines / weights.sum()
    else:
        scores = model.of(cosines)
    if current is not None:
        scores = 0.6 * scores + 0.4 * VECTORS[ROW[current]] @ VECTORS.T
    without = {*known, *GONE, current}
    return {name: scores[ROW[name]] for name in set(within.tolist()) - without}


def check(found, histories, model, k, least=1.0, **options):
    hits = wanted = 0
    for (names, scores), history, more in zip(found.each(), histories, options["current"]):
        right = expected(model, history, more, options["within"])
        assert set(names) <= right.keys()
        np.testing.assert_allclose(scores, [right[name] for name in names.tolist()], atol=1e-5)
        assert (np.diff(scores) <= 1e-6).all()
        best = sorted(right, key=lambda name: -right[name])[:k]
        assert len(names) == len(best)
        hits, wanted = hits + len(set(names) & set(best)), wanted + len(best)
    assert hits >= least * wanted


@pytest.mark.parametrize("name", MODELS)
def test_every_model_equals_a_loop_over_all_videos(index, name, monkeypatch):
    if name == "mean":  # users in several blocks
        monkeypatch.setattr(recommending, "WATCHES_AT_ONCE", 22)
    within, model = IDS[::2], MODELS[name]
    current = [IDS[9], IDS[8], IDS[7], IDS[6]]
    options = {"user_model": model, "within": within, "current": current, "blend": 0.4}
    found = index.recommend_many(HISTORIES, 10, **options)
    check(found, HISTORIES, model, 10, current=current, within=within)
    by_vectors = VECTORS[[9, 8, 7, 6]]
    again = index.recommend_many(HISTORIES, 10, **{**options, "current": by_vectors})
    assert {*again.ids} - {*found.ids} <= set(current)


@pytest.mark.parametrize("name", ["mean", "max"])
def test_an_approximate_engine_finds_nearly_all_with_exact_scores(tmp_path, name):
    index = made(tmp_path / "i", Hnsw(effort=200))
    found = index.recommend_many(HISTORIES, 10, user_model=MODELS[name])
    nobody = [None] * len(HISTORIES)
    check(found, HISTORIES, MODELS[name], 10, least=0.97, current=nobody, within=IDS)


def cosine(one, other):
    return one @ other / (np.linalg.norm(one) * np.linalg.norm(other))


@pytest.mark.parametrize("options", [(0.6, None), (None, 0.5), (0.7, 0.3)], ids=str)
def test_near_duplicates_and_diversity_equal_a_loop(index, options):
    above, share = options
    choosing = Choosing(duplicates_above=above, mmr_lambda=share, over_fetch=3)
    current = {"current": [IDS[9]] * len(HISTORIES), "blend": 0.4}
    found = index.recommend_many(HISTORIES, 8, user_model=Max(), choosing=choosing, **current)
    for (names, scores), history in zip(found.each(), HISTORIES):
        right = expected(Max(), history, IDS[9])
        seen = [VECTORS[ROW[name]] for name in history if name not in GONE]
        seen.append(VECTORS[9])

        def near(name, others):
            return max((cosine(VECTORS[ROW[name]], other) for other in others), default=0.0)

        for fetched in (24, 96, N):  # more if too few are left
            left = sorted(right, key=lambda name: -right[name])[:fetched]
            chosen = []
            while len(chosen) < 8:
                others = [VECTORS[ROW[name]] for name in chosen]
                if above is not None:
                    left = [name for name in left if near(name, seen + others) <= above]
                if not left:
                    break
                weight = 1 if share is None else share
                value = {
                    name: weight * right[name] - (1 - weight) * near(name, others) for name in left
                }
                chosen.append(max(left, key=lambda name: value[name]))
                left.remove(chosen[-1])
            if len(chosen) == 8:
                break
        assert names.tolist() == chosen
        np.testing.assert_allclose(scores, [right[name] for name in chosen], atol=1e-5)


@pytest.mark.parametrize(("engine", "model"), [("exact", Mean()), (Hnsw(effort=200), Max())])
def test_more_are_fetched_until_k_without_near_duplicates_are_left(tmp_path, engine, model):
    """The first user's 100 best are copies of watched videos; only a few of the second's are."""
    copies = np.repeat(VECTORS[:1], 100, axis=0)
    vectors = np.concatenate([copies, VECTORS[100:140]])
    index = VideoIndex(Index.create(tmp_path / "i", IDS[:140], vectors, space="s", engine=engine))
    choosing = Choosing(duplicates_above=0.999, over_fetch=2)
    options = {"user_model": model, "choosing": choosing}
    histories, current = [[IDS[0]], [IDS[139]], []], [IDS[120]] * 3
    found = index.recommend_many(histories, 10, **options)
    assert found.counts.tolist() == [10, 10, 0]
    (first, scores), (second, _), _ = found.each()
    cosines = VECTORS[100:140] @ VECTORS[0]
    np.testing.assert_array_equal(first, IDS[100:140][np.argsort(-cosines)[:10]])
    np.testing.assert_allclose(scores, np.sort(cosines)[::-1][:10], atol=1e-5)
    assert len({*second} & {*IDS[:100]}) <= 1
    # All candidates if there are fewer than k; k may be any number.
    found = index.recommend_many(histories, 10**9, current=current, **options)
    assert found.counts.tolist() == [39, 39, 0]


def test_diversity_of_users_with_different_numbers_of_candidates(index):
    options = {"choosing": Choosing(mmr_lambda=0), "within": IDS[:12]}
    found = index.recommend_many([IDS[:6].tolist(), [IDS[0]]], 8, **options)
    assert found.counts.tolist() == [6, 8]


@pytest.mark.parametrize("half_lives", [(None, None), (3, None), (None, 50), (3, 50)], ids=str)
def test_an_updated_vector_equals_that_of_the_whole_history(index, half_lives):
    watches, seconds = half_lives
    model = Mean(half_life_watches=watches, half_life_seconds=seconds)
    history, times = RANDOM.choice(IDS[5:128], 60), RANDOM.uniform(0, 300, 60)
    rows = [ROW[name] for name in history.tolist()]
    user = UserVector.empty(D, model)
    for start, end in pairwise([0, 1, 2, 30, 30, 59, 60]):
        user = user.watched(VECTORS[rows[start:end]], times[start:end])
    weights = model.weights(np.array([0, 60]), times)
    np.testing.assert_allclose(user.vector, weights @ VECTORS[rows] / weights.sum(), atol=1e-6)
    names, scores = index.recommend(history, user=user)
    options = {"user_model": model, "times": times, "current": IDS[0]}
    again, right = index.recommend(history, user_model=model, times=times)
    assert names.tolist() == again.tolist()
    np.testing.assert_allclose(scores, right, atol=1e-6)
    np.testing.assert_allclose(
        user.blended(VECTORS[0], 0.5), (user.vector + VECTORS[0]) / 2, atol=1e-6
    )
    blended, _ = index.recommend(history, user=user, current=IDS[0].decode())
    assert blended.tolist() == index.recommend(history, **options)[0].tolist()
    # Without a history, only the vector counts.
    assert len(index.recommend([], 5, user=user)[0]) == 5


@pytest.mark.fault(
    "Recommendation: histories of ids that the index lacks, users of whom it knows nothing",
    "counted in a warning; one user alone is refused, of several those find nothing",
)
@pytest.mark.fault(
    "Recommendation: a video twice in a history",
    "counts twice in the mean (and in the top), changes nothing of the maximum, is left out once",
)
def test_unknown_ids_and_users_are_counted(index, caplog):
    histories = [["x", "v00007", "v00007", "y"], [], ["x"], ["v00010"]]
    found = index.recommend_many(histories, 3, user_model=Mean())
    assert found.counts.tolist() == [3, 0, 0, 3]
    assert caplog.messages == [
        "the index lacks 3 ids (x, y, x) of the histories",
        "2 of 4 users have no video in the index, and get no recommendation",
    ]
    twice = index.recommend(["v00007", "v00007", "v00010"], 3)[0]
    seven, ten = VECTORS[7], VECTORS[10]
    scores = VECTORS @ (2 * seven + ten)
    scores[[4, 7, 10, 205]] = -np.inf
    assert set(twice) == set(IDS[np.argsort(-scores)[:3]])
    for users in (None, []):
        assert not len(index.recommend_many([], 3, users=users).counts)


REFUSED = {
    "k": ({"k": 0}, "k is 0"),
    "within": ({"within": ["x", "y"]}, "none of the 2 ids of `within`, so nothing can be"),
    "current": ({"current": "x"}, r"lacks 1 ids \(x\) of the videos being watched"),
    "width": ({"current": np.ones(3, np.float32)}, rf"must be f32\[n, {D}\]"),
    "blend": ({"current": "v00001", "blend": -1}, "blend is -1"),
    "times": ({"times": [1, 2]}, "one for each watch"),
    "new user": ({"user": UserVector.empty(D)}, "watched nothing"),
    "user of max": (
        {"user": UserVector.empty(D).watched(VECTORS[0]), "user_model": Max()},
        "a user vector is a mean",
    ),
    "history": ({"history": []}, "the history is empty"),
    "unknown": ({"history": ["x"]}, r"no video of the history \(1 ids \(x\)\)"),
}


@pytest.mark.fault(
    "Recommendation: an empty set of candidates, an unknown video being watched, options out of "
    "range",
    "refused by name",
)
@pytest.mark.parametrize("case", REFUSED)
def test_invalid_requests_are_refused_by_name(index, case):
    changed, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        index.recommend(**{"history": ["v00000"], **changed})


@pytest.mark.fault(
    "Recommendation: an empty set of candidates, an unknown video being watched, options out of "
    "range"
)
def test_options_and_empty_indexes_are_refused(tmp_path, index):
    empty = VideoIndex(Index.create(tmp_path / "e", [], np.zeros((0, D)), space="s"))
    with pytest.raises(ValueError, match="the index is empty"):
        empty.recommend_many([["v00000"]])
    with pytest.raises(ValueError, match="1 current videos for 2 histories"):
        index.recommend_many([["v00000"], ["v00001"]], current=["v00002"])
    for wrong in ({"duplicates_above": 2}, {"mmr_lambda": 1.5}, {"over_fetch": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Choosing(**wrong)
