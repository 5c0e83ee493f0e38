"""The tower trained on users, on made movies: each user likes those of their own taste."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments.movielens_people import by_history, cold_test
from experiments.movielens_systems import unit
from experiments.movielens_tower import Tower, beside_others, examples, losses, towers, trained
from vidembed.corpora.ratings import Ratings
from vidembed.records.table import FeatureTable

MOVIES, USERS, TASTES = 120, 48, 4
FEW = Tower(hidden=16, size=8, steps=40, users=32, learning_rate=1e-2)


def made(seed=0):
    """Likes, which movies are warm, and features: `audio` hints at a movie's taste, `visual` says
    clearly something that nobody cares for."""
    rng = np.random.default_rng(seed)
    taste = rng.permutation(np.arange(MOVIES) % TASTES)
    features = {
        name: (centres[of] + rng.normal(size=(MOVIES, width))).astype(np.float32)
        for name, width, of, centres in (
            ("audio", 4, taste, 2 * np.eye(TASTES)),
            ("visual", 8, rng.integers(TASTES, size=MOVIES), 3 * rng.normal(size=(TASTES, 8))),
        )
    }
    chance = np.where(taste == np.arange(USERS)[:, None] % TASTES, 0.8, 0.05)
    user, item = np.nonzero(rng.random((USERS, MOVIES)) < chance)
    likes = Ratings(
        users=np.array([f"u{u:02}".encode() for u in range(USERS)]),
        items=np.array([f"m{m:03}".encode() for m in range(MOVIES)]),
        user=user, item=item, value=np.full(len(user), 5, np.float32), time=None, explicit=True,
    )  # fmt: skip
    return features, likes, np.arange(MOVIES) % 3 > 0


def world(features, is_train):
    table = FeatureTable(
        ids=np.array([f"m{m:03}".encode() for m in range(MOVIES)]),
        features=features,
        label_offsets=np.zeros(MOVIES + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )
    return SimpleNamespace(table=table, is_train=is_train)


def vectors_of(features, likes, is_train, *, seed=0, options=FEW):
    corpus = world(features, is_train)
    return dict(towers(corpus, likes, ["trailers"], seed=seed, options=options))["tower trailers"]


def test_the_loss_is_a_softmax_over_all_movies_less_what_popularity_explains():
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(9, 4)).astype(np.float32))
    likes = np.zeros((5, 9), np.float32)
    for row in likes:
        row[rng.permutation(8)[: rng.integers(2, 6)]] = 1
    targets = np.array([rng.choice(np.flatnonzero(row)) for row in likes])
    popularity = np.append(rng.dirichlet(np.ones(8)), 0)  # nobody likes the last
    with np.errstate(divide="ignore"):
        logs = np.log(popularity).astype(np.float32)
    computed = jax.jit(losses)(vectors, likes, targets, logs, 0.2)
    for loss, row, target in zip(computed, likes, targets):
        history = [vectors[m] for m in np.flatnonzero(row) if m != target]
        weight = [
            popularity[m] * np.exp(np.mean([h @ vectors[m] for h in history]) / 0.2)
            for m in range(9)
        ]
        assert loss == pytest.approx(-np.log(weight[target] / sum(weight)), rel=1e-5)


def test_examples_are_likes_of_different_users_each_as_often_as_any():
    likes = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [1, 0, 0, 1]], np.float32)
    users, targets = examples(likes, Tower(steps=3000, users=2), seed=0)
    assert users.shape == targets.shape == (3000, 2)
    assert (users[:, 0] != users[:, 1]).all()
    drawn = np.zeros_like(likes)
    np.add.at(drawn, (users, targets), 1)
    expected = 2000 * likes / likes.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(drawn, expected, atol=5 * np.sqrt(1000))
    assert (drawn[likes == 0] == 0).all()


def test_cold_movies_of_ones_own_taste_come_first():
    features, likes, is_train = made()
    warm = np.flatnonzero(is_train[likes.item])
    learned = vectors_of(features, likes.of(warm), is_train)
    np.testing.assert_allclose(np.linalg.norm(learned, axis=1), 1, rtol=1e-5)
    raw = unit(np.concatenate([*features.values()], axis=1))
    auc = [
        cold_test(likes, is_train, by_history(own, likes, warm, "mean")).values["auc"].mean()
        for own in (learned, raw)
    ]
    assert auc[0] > 0.65
    assert auc[0] > auc[1] + 0.05


@pytest.mark.long
def test_nothing_of_cold_movies_is_learned_from_and_the_seed_decides():
    features, likes, is_train = made()
    few = Tower(hidden=8, size=4, steps=5, users=16)
    own = vectors_of(features, likes, is_train, options=few)
    assert not np.allclose(own, vectors_of(features, likes, is_train, options=few, seed=1))
    # Other features of cold movies and no likes of them; all else is trained again, to the bit.
    other = {m: np.where(is_train[:, None], x, 3 - 2 * x) for m, x in features.items()}
    warm = likes.of(is_train[likes.item])
    changed = vectors_of(other, warm, is_train, options=few)
    np.testing.assert_array_equal(own[is_train], changed[is_train])
    assert not np.allclose(own[~is_train], changed[~is_train])


def test_cosines_of_a_composite_are_the_means_of_its_parts():
    rng = np.random.default_rng(0)
    parts = {f"{k} x": unit(rng.normal(size=(6, 3))) for k in ("tower", "ridge", "closed")}
    three = dict(beside_others(parts, ["x"]))
    assert three.keys() == {"tower + ridge x", "tower + closed x", "tower + closed + ridge x"}
    both = three["tower + closed + ridge x"]
    expected = sum(part @ part.T for part in parts.values()) / 3
    np.testing.assert_allclose(both @ both.T, expected, atol=1e-5)


@pytest.mark.fault(
    "Recommendation: nobody likes two of the movies that the tower is trained on",
    "what to give, or to leave the tower out",
)
def test_nobody_likes_two_train_movies():
    with pytest.raises(ValueError, match=r"two train movies.*--no-tower"):
        trained(np.ones((3, 2), np.float32), np.eye(3, dtype=np.float32), FEW, seed=0)
