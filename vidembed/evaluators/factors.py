"""Collaborative baselines: item factors from users' interactions, for content to beat."""

from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec

import jax
import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from vidembed.corpora.co_likes import liked as liked
from vidembed.corpora.co_likes import matrix as matrix
from vidembed.corpora.ratings import Ratings
from vidembed.evaluators.baselines import STANDARDISED
from vidembed.graph.factors import DENSE, log_factors
from vidembed.models.ridge import ridge_map
from vidembed.progress import Progress

FACTORS, RIDGE = 64, 300.0
SVD_RANK = 5
"""The rank in figure 5 of CDML."""
RIDGE_PREFIX = "ridge_"
Scores = Callable[[np.ndarray], np.ndarray]
"""User numbers i64[b] → their scores for all items f32[b, N]."""


def co_like_factors(likes: Ratings, rank: int = FACTORS) -> np.ndarray:
    """f64[N, rank], rows of unit length: items liked by the same users are close; items
    without likes are zero. See `log_factors`; weights count the users who like both items."""
    users_by_items = matrix(likes)
    return log_factors(users_by_items.T @ users_by_items, rank)


def ridge(
    features: np.ndarray, targets: np.ndarray, rows: np.ndarray, penalty: float = RIDGE
) -> np.ndarray:
    """Predict targets f64[N, K] linearly from features f32[N, F], fitted on rows bool[N].

    Both are centred on these rows, and the predictions stay centred: a mean shared by all items
    would dominate every cosine (AUC of cold trailers .597 with it, .636 without). Returns
    f32[N, K]. W = (XᵀX + penalty I)⁻¹ Xᵀ Y.
    """
    x, y = features[rows].astype(np.float64), targets[rows]
    centre = x.mean(axis=0)
    x -= centre
    solved = ridge_map(x.T @ x, x.T @ (y - y.mean(axis=0)), penalty=penalty)
    return ((features - centre) @ solved).astype(np.float32)


def with_ridge(
    features: Iterable[tuple[str, np.ndarray]],
    known: Ratings,
    is_train: np.ndarray,
    *,
    relevant_from: float,
) -> Iterator[tuple[str, np.ndarray]]:
    """The features; each standardised one is followed by its ridge onto co-like factors."""
    targets = co_like_factors(liked(known, relevant_from))
    rows = is_train & (np.abs(targets).sum(axis=1) > 0)
    for name, vectors in features:
        yield name, vectors
        if rows.any() and name.endswith(STANDARDISED):
            yield RIDGE_PREFIX + name.removesuffix(STANDARDISED), ridge(vectors, targets, rows)


def by_interactions(
    known: Ratings, popularity: np.ndarray, *, warm: bool, seed: int
) -> Iterator[tuple[str, Scores]]:
    """`popularity` and `random`, and of warm items `svd`, and `als` and `bpr` where the extra
    `recommend` is installed.

    Nothing is known of cold items: there popularity is that of the test, an oracle and no method.
    """
    yield "popularity", lambda users: np.tile(popularity.astype(np.float32), (len(users), 1))
    yield "random", lambda users: _random(users, len(popularity), seed)
    if not warm:
        return
    yield f"svd_{SVD_RANK}", svd(known, SVD_RANK)
    if not find_spec("implicit"):
        Progress(quiet=jax.process_index() > 0).say(
            "als and bpr are skipped: Implicit (the extra `recommend`) is not installed"
        )
        return
    for name in ("als", "bpr"):
        yield name, by_implicit(known, name, seed=seed)


def svd(known: Ratings, rank: int) -> Scores:
    """Truncated SVD of the user-item matrix, with zeros for unknown entries.

    Ratings are centred on the user's mean. Implicit interactions count 1.
    """
    count = np.bincount(known.user, minlength=len(known.users))
    mean = np.bincount(known.user, known.value, minlength=len(known.users)) / np.maximum(count, 1)
    values = known.value - mean[known.user] if known.explicit else known.value
    users_by_items = matrix(known, values.astype(np.float64))
    if min(users_by_items.shape) <= max(DENSE, rank + 1):
        parts = scipy.linalg.svd(users_by_items.toarray(), full_matrices=False)
        left, weight, right = parts[0][:, :rank], parts[1][:rank], parts[2][:rank]
    else:
        start = np.random.default_rng(0).random(min(users_by_items.shape))
        left, weight, right = scipy.sparse.linalg.svds(users_by_items, k=rank, v0=start)
    users, items = left * weight, right.astype(np.float32)
    return lambda numbers: users[numbers].astype(np.float32) @ items


def by_implicit(known: Ratings, name: str, *, seed: int) -> Scores:
    """Implicit's ALS (Hu, Koren and Volinsky 2008) or BPR (Rendle et al. 2009), 64 factors."""
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking
    from threadpoolctl import threadpool_limits

    kind = {"als": AlternatingLeastSquares, "bpr": BayesianPersonalizedRanking}[name]
    # One thread, so that equal seeds give equal factors; BLAS too, as Implicit recommends.
    with threadpool_limits(1, "blas"):
        model = kind(factors=FACTORS, random_state=seed, num_threads=1)
        model.fit(scipy.sparse.csr_matrix(matrix(known)), show_progress=False)
    return lambda numbers: model.user_factors[numbers] @ model.item_factors.T


def _random(users: np.ndarray, items: int, seed: int) -> np.ndarray:
    """Random scores, seeded per user, so that they do not depend on the blocks."""
    return np.stack([np.random.default_rng((seed, u)).random(items) for u in users.tolist()])
