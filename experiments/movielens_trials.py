"""The measurements: T4, T5 with figure 5, and cold movies, one seed at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.composites import beside
from experiments.movielens_people import (
    MODELS,
    OWN_MEAN,
    THRESHOLDS,
    asked,
    by_history,
    cold_test,
    cold_users,
    history,
    own_test,
)
from experiments.movielens_systems import (
    by_svd,
    closed_forms,
    content,
    interactions,
    unit,
)
from experiments.movielens_tower import beside_others, towers
from experiments.movielens_training import Weight, World
from vidembed.corpora.ratings import Ratings
from vidembed.corpora.watched import Corpus
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.recipe import Recipe
from vidembed.models.linear import RIDGE
from vidembed.progress import Progress
from vidembed.records.scores_file import PerQuery
from vidembed.records.table import FeatureTable

COUNTS = (2, 3, 5, 7, 10, 14, 20, 30, 50)
"""Ratings a user that are known, in T5 (10, 20, 50) and figure 5."""
NO_HISTORY = "no history"
"""The setting of what does not look at one."""
Measured = tuple[dict[str, dict[str, PerQuery]], dict[str, Any]]
"""System → setting → metrics of each user; and counts, for people."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One seed of one measurement: who is split how, in what world CDML is trained."""

    folder: Path
    table: FeatureTable
    ratings: Ratings
    base: Recipe
    seed: int
    liked: float
    stop: StopFlag
    progress: Progress
    weight: Weight = "cosine"
    closed_ridge: float = RIDGE
    cdml: bool = True
    tower: bool = True

    def world(self, kind: str) -> World:
        """Where what is trained for a measurement lies."""
        return World(
            folder=self.folder, kind=kind, seed=self.seed, base=self.base, weight=self.weight
        )

    def vectors(
        self, kind: str, known: np.ndarray, sets: Sequence[str], trained: Sequence[str]
    ) -> tuple[Corpus, dict[str, np.ndarray]]:
        """The world of the known ratings, bool[R], and each system's unit vectors in it."""
        world, liked = self.world(kind), self.ratings.value >= self.liked
        corpus = world.open(self.ratings.of(known & liked))
        warm = self.ratings.of(known & liked & corpus.is_train[self.ratings.item])
        vectors = dict(content(corpus, warm, sets))
        vectors |= closed_forms(corpus, sets, ridge=self.closed_ridge)
        for name in trained if self.cdml else ():
            with self.progress.stage(f"{world}: CDML on {name}"):
                found = world.trained(name, corpus, self.stop, Progress(quiet=True))
            vectors[f"cdml {name}"] = unit(found)
        for name in sets:
            closed = vectors[f"closed {name}"]
            for kind in ("ridge", "cdml"):
                if (other := vectors.get(f"{kind} {name}")) is not None:
                    vectors[f"closed + {kind} {name}"] = beside(other, closed)
        return corpus, vectors

    def draw(self) -> np.random.Generator:
        """Of users and of ratings; the network and its batches have their own."""
        return np.random.default_rng(self.seed)


def t4(trial: Trial, sets: Sequence[str]) -> Measured:
    """Half of each user's ratings are known, of the others the user's own are ranked."""
    ratings, rng = trial.ratings, trial.draw()
    half = np.diff(ratings.offsets) // 2
    everyone = np.ones(len(half), bool)
    of = asked(ratings, rng.random(len(ratings)), half, everyone, relevant=trial.liked)
    known = np.zeros(len(ratings), bool)
    known[of.known] = True
    _, vectors = trial.vectors("t4", known, sets, sets)
    found: dict[str, dict[str, PerQuery]] = {}
    fallen = {}
    for threshold in (OWN_MEAN, *THRESHOLDS):
        rows, fallen[threshold] = history(ratings, of.known, threshold)
        for model in MODELS:
            for name, own in vectors.items():
                scores = by_history(own, ratings, rows, model)
                one = own_test(ratings, of, scores, relevant=trial.liked)
                found.setdefault(name, {})[f"{model} {threshold}"] = one
    others = [*interactions(ratings, of.known, relevant=trial.liked, seed=trial.seed)]
    others.append(("svd", by_svd(ratings, of.known)))
    for name, scores in others:
        found[name] = {NO_HISTORY: own_test(ratings, of, scores, relevant=trial.liked)}
    about = {"users": len(of.users), "left_out": of.left_out, "without_such_ratings": fallen}
    return found, about | {"test_ratings": len(of.test)}


def t5(trial: Trial, sets: Sequence[str], counts: Sequence[int] = COUNTS) -> Measured:
    """Half of the users are trained on; the others are tried with N ratings each known."""
    ratings, rng = trial.ratings, trial.draw()
    tried = np.zeros(len(ratings.users), bool)
    tried[rng.permutation(len(tried))[: len(tried) // 2]] = True
    keys, others = rng.random(len(ratings)), np.flatnonzero(~tried[ratings.user])
    corpus, vectors = trial.vectors("t5", ~tried[ratings.user], sets, sets)
    found: dict[str, dict[str, PerQuery]] = {}
    about: dict[str, Any] = {"train_users": int((~tried).sum()), "train_ratings": len(others)}
    about |= {"train_relations": corpus.train_graph.edges}
    for count in counts:
        of = asked(ratings, keys, np.full(len(tried), count), tried, relevant=trial.liked)
        about[f"{count}"] = {"users": len(of.users), "left_out": of.left_out}
        if not len(of.users):
            continue
        rows, _ = history(ratings, of.known, OWN_MEAN)
        systems = {
            f"{name}, {model}": by_history(own, ratings, rows, model)
            for name, own in vectors.items()
            for model in MODELS
        }
        systems |= dict(interactions(ratings, others, relevant=trial.liked, seed=trial.seed))
        systems["svd"] = by_svd(ratings, of.known)
        systems["svd, training users too"] = by_svd(ratings, np.concatenate([of.known, others]))
        for name, scores in systems.items():
            one = own_test(ratings, of, scores, relevant=trial.liked)
            found.setdefault(name, {})[f"{count}"] = one
    return found, about


def cold(trial: Trial, sets: Sequence[str]) -> Measured:
    """Movies that nobody has rated yet, for people of whom liked warm movies are known."""
    ratings = trial.ratings
    everything = np.ones(len(ratings), bool)
    trained = [name for name in sets if name in COLD_TRAINED] or sets
    corpus, vectors = trial.vectors("cold", everything, sets, trained)
    likes = ratings.of(ratings.value >= trial.liked)
    warm = np.flatnonzero(corpus.is_train[likes.item])
    if trial.tower:
        with trial.progress.stage(f"cold/seed{trial.seed}: towers on {', '.join(trained)}"):
            vectors |= dict(towers(corpus, likes.of(warm), trained, seed=trial.seed))
        vectors |= dict(beside_others(vectors, trained))
    systems = {name: by_history(own, likes, warm, "mean") for name, own in vectors.items()}
    rng = np.random.default_rng(trial.seed)
    systems["random"] = lambda users, _: rng.random(len(users))
    found = {
        name: {"cold": cold_test(likes, corpus.is_train, scores)}
        for name, scores in systems.items()
    }
    return found, {
        "users": len(cold_users(likes, corpus.is_train)),
        "warm_movies": int(corpus.is_train.sum()),
        "cold_movies": int((~corpus.is_train).sum()),
        "train_relations": corpus.train_graph.edges,
    }


TRIALS: Mapping[str, Callable[[Trial, Sequence[str]], Measured]] = {
    "t4": t4,
    "t5": t5,
    "cold": cold,
}
DEFAULT_SETS: Mapping[str, Sequence[str]] = {
    "t4": ("trailers",),
    "t5": ("trailers", "trailers+genres"),
    "cold": (
        "audio", "visual", "trailers", "genres", "text", "trailers+genres", "trailers+text",
        "trailers+genres+text",
    ),
}  # fmt: skip
"""Test → sets of features that it takes, where the table has them."""
COLD_TRAINED = ("trailers", "trailers+genres", "trailers+text", "trailers+genres+text")
"""Of the sets of the cold test those that CDML and the tower are trained on, if any of them is
asked for; the others have raw features, the ridge and the closed form."""
WITHOUT_TRAILERS = "genres+tags"
"""The set of features where no trailers are given."""
