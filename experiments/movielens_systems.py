"""What recommends: vectors of movies made of their content, and what interactions alone say."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from experiments.movielens_people import MODELS, Scores, by_history
from experiments.movielens_training import SETS
from vidembed.corpora.ratings import Ratings
from vidembed.corpora.watched import Corpus
from vidembed.evaluators.baselines import raw_features
from vidembed.evaluators.closed_form import closed_form
from vidembed.evaluators.factors import SVD_RANK, co_like_factors, ridge, svd
from vidembed.pairwise import normalise
from vidembed.records.statistics import train_statistics

DAMPING = 5.0
"""Ratings at the overall mean that every movie begins with, in `mean_rating`."""


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of unit length; zero rows stay zero."""
    return np.asarray(normalise(jnp.asarray(vectors)))


def content(
    corpus: Corpus, likes: Ratings, sets: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and unit vectors f32[N, D] of each set of features, as z-scores over the train movies,
    and of a ridge from these onto the co-like factors of `likes`, which are of train movies."""
    statistics = train_statistics(corpus.table, corpus.is_train)
    targets = co_like_factors(likes)
    rows = corpus.is_train & (np.abs(targets).sum(axis=1) > 0)
    for name in sets:
        features = raw_features(corpus.table, tuple(SETS[name]), statistics)
        yield f"raw {name}", unit(features)
        yield f"ridge {name}", unit(ridge(features, targets, rows))


def closed_forms(
    corpus: Corpus, sets: Sequence[str], *, ridge: float
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and unit vectors f32[N, K] of the closed form on each set of features.

    It goes by every pair of train movies that was liked together, where triplets come from the
    strongest of a movie, and each pair counts alike. ridge: λ, as a share of the mean eigenvalue.
    """
    whole = replace(corpus, train_graph=corpus.train_relations)
    statistics = train_statistics(corpus.table, corpus.is_train)
    for name in sets:
        features = raw_features(corpus.table, tuple(SETS[name]), statistics)
        yield f"closed {name}", unit(closed_form(whole, features, ridge=ridge))


def by_histories(
    vectors: np.ndarray, ratings: Ratings, rows: np.ndarray, models: Sequence[str] = tuple(MODELS)
) -> Iterator[tuple[str, Scores]]:
    """Each user model's scores."""
    for model in models:
        yield model, by_history(vectors, ratings, rows, model)


def interactions(
    ratings: Ratings, rows: np.ndarray, *, relevant: float, seed: int
) -> Iterator[tuple[str, Scores]]:
    """`random`, and by the ratings of `rows`: `popularity`, likes of a movie; `mean rating`."""
    items, value = ratings.item[rows], ratings.value[rows].astype(np.float64)
    size = len(ratings.items)
    likes = np.bincount(items[value >= relevant], minlength=size).astype(np.float64)
    count = np.bincount(items, minlength=size)
    mean = (np.bincount(items, value, minlength=size) + DAMPING * value.mean()) / (count + DAMPING)
    rng = np.random.default_rng(seed)
    yield "random", lambda users, _: rng.random(len(users))
    yield "popularity", lambda _, of: likes[of]
    yield "mean rating", lambda _, of: mean[of]


def by_svd(ratings: Ratings, rows: np.ndarray, rank: int = SVD_RANK) -> Scores:
    """Truncated SVD of the ratings of `rows`."""
    of = svd(ratings.of(np.sort(rows)), rank)
    everyone = of(np.arange(len(ratings.users)))
    return lambda users, items: everyone[users, items]
