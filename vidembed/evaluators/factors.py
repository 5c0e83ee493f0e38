"""What people's interactions say by themselves: factors of items, and what content has to beat."""

from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec

import jax
import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from vidembed.corpora.ratings import Ratings
from vidembed.evaluators.baselines import STANDARDISED
from vidembed.progress import Progress

FACTORS, RIDGE = 64, 300.0
DENSE = 1_000
"""Items up to which eigenvectors are those of a dense matrix."""
SVD_RANK = 5
"""CDML's, of figure 5."""
RIDGE_PREFIX = "ridge_"
Scores = Callable[[np.ndarray], np.ndarray]
"""Numbers of users i64[b] → their scores of all items f32[b, N]."""


def matrix(ratings: Ratings, values: np.ndarray | None = None) -> scipy.sparse.csr_array:
    """Users by items, f32[U, N], sparse; ones where no values f32[R] are given."""
    values = np.ones(len(ratings), np.float32) if values is None else values
    shape = len(ratings.users), len(ratings.items)
    return scipy.sparse.csr_array((values, (ratings.user, ratings.item)), shape=shape)


def liked(ratings: Ratings, relevant_from: float) -> Ratings:
    """The interactions that are rated so high; all of them where there are no ratings."""
    return ratings.of(ratings.value >= relevant_from) if ratings.explicit else ratings


def co_like_factors(likes: Ratings, rank: int = FACTORS) -> np.ndarray:
    """f64[N, rank], rows of unit length: items that the same users like lie close.

    The eigenvectors of log(1 + users who like both items) of the largest eigenvalues, times their
    roots, then each row divided by its length, which tells how many like an item and nothing of
    its taste (AUC of cold trailers through a ridge .644, .633 with lengths). The diagonal, likes of
    one item, is left out. Items that nobody likes are zero.
    """
    of = matrix(likes).astype(np.float64)
    together = (of.T @ of).tocsr()
    together.setdiag(0)
    together.data = np.log1p(together.data)
    active = np.flatnonzero(together.sum(axis=1))
    factors = np.zeros((of.shape[1], rank))
    if not len(active):
        return factors
    values, vectors = _largest(together[active][:, active], min(rank, len(active)))
    scaled = vectors * np.sqrt(np.maximum(values, 0))
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    factors[active, : len(values)] = scaled / np.where(lengths > 0, lengths, 1)
    return factors


def _largest(symmetric: scipy.sparse.csr_array, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues f64[rank], falling, and their vectors f64[N, rank]."""
    size = symmetric.shape[0]
    if size <= max(DENSE, rank + 1):  # quick, and sure where eigenvalues repeat
        values, vectors = scipy.linalg.eigh(
            symmetric.toarray(), subset_by_index=(size - rank, size - 1)
        )
    else:
        # A start of one's own, so that equal data give equal factors.
        start = np.random.default_rng(0).random(size)
        values, vectors = scipy.sparse.linalg.eigsh(symmetric, k=rank, which="LA", v0=start)
    return values[::-1], vectors[:, ::-1]


def ridge(
    features: np.ndarray, targets: np.ndarray, rows: np.ndarray, penalty: float = RIDGE
) -> np.ndarray:
    """f32[N, K]: targets f64[N, K] as linear in features f32[N, F], learned from rows bool[N].

    Both are centred on these rows, and stay so: a mean that all items share would be most of every
    cosine (AUC of cold trailers .597 with it, .636 without). W = (XᵀX + penalty I)⁻¹ Xᵀ Y.
    """
    x, y = features[rows].astype(np.float64), targets[rows]
    centre = x.mean(axis=0)
    x -= centre
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (y - y.mean(axis=0)))
    return ((features - centre) @ weights).astype(np.float32)


def with_ridge(
    features: Iterable[tuple[str, np.ndarray]],
    known: Ratings,
    is_train: np.ndarray,
    *,
    relevant_from: float,
) -> Iterator[tuple[str, np.ndarray]]:
    """The features, and after each standardised ones a ridge from them onto co-like factors."""
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
            "als and bpr are left out: Implicit, of the extra recommend, is not installed"
        )
        return
    for name in ("als", "bpr"):
        yield name, by_implicit(known, name, seed=seed)


def svd(known: Ratings, rank: int) -> Scores:
    """Truncated SVD of users by items, what is not known being zero; ratings less the user's mean
    (their overall mean, where a user has but one value). Unexplicit interactions count 1."""
    count = np.bincount(known.user, minlength=len(known.users))
    mean = np.bincount(known.user, known.value, minlength=len(known.users)) / np.maximum(count, 1)
    values = known.value - mean[known.user] if known.explicit else known.value
    of = matrix(known, values.astype(np.float64))
    if min(of.shape) <= max(DENSE, rank + 1):
        parts = scipy.linalg.svd(of.toarray(), full_matrices=False)
        left, weight, right = parts[0][:, :rank], parts[1][:rank], parts[2][:rank]
    else:
        start = np.random.default_rng(0).random(min(of.shape))
        left, weight, right = scipy.sparse.linalg.svds(of, k=rank, v0=start)
    users, items = left * weight, right.astype(np.float32)
    return lambda some: users[some].astype(np.float32) @ items


def by_implicit(known: Ratings, name: str, *, seed: int) -> Scores:
    """Implicit's ALS (Hu, Koren and Volinsky 2008) or BPR (Rendle et al. 2009), 64 factors."""
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking
    from threadpoolctl import threadpool_limits

    kind = {"als": AlternatingLeastSquares, "bpr": BayesianPersonalizedRanking}[name]
    # One thread, so that equal seeds give equal factors; BLAS too, as Implicit asks.
    with threadpool_limits(1, "blas"):
        model = kind(factors=FACTORS, random_state=seed, num_threads=1)
        model.fit(scipy.sparse.csr_matrix(matrix(known)), show_progress=False)
    return lambda some: model.user_factors[some] @ model.item_factors.T


def _random(users: np.ndarray, items: int, seed: int) -> np.ndarray:
    """Each user's own, whatever the blocks."""
    return np.stack([np.random.default_rng((seed, u)).random(items) for u in users.tolist()])
