"""Recommend rows of an array to many users at once, scored by a user model (CDML, 4.2)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from vidembed.distributed import mesh as meshes
from vidembed.serving.exact import placed
from vidembed.serving.scoring import Histories, all_scores, best_placed
from vidembed.serving.user_models import Mean, UserModel


class Ranked(NamedTuple):
    """Rows recommended to U users, concatenated over users: rows i64[R]; scores f32[R], best first
    within a user; counts i64[U], below k if there are fewer candidates."""

    rows: np.ndarray
    scores: np.ndarray
    counts: np.ndarray


def histories_for(
    model: UserModel,
    vectors: np.ndarray,
    offsets: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    times: np.ndarray | None = None,
    current: np.ndarray | None = None,
    blend: float = 0.5,
) -> Histories:
    """Prepare the history vectors f32[H, D] for the model.

    For `Mean`, this gives one vector per user, which includes weights, forgetting and the video
    being watched. weights: f64[H], for `Mean` only, on top of its forgetting. times: f64[H],
    seconds.
    """
    _check(offsets, len(vectors))
    if current is not None and not 0 <= blend <= 1:
        raise ValueError(
            f"blend is {blend}: it must be the weight of the video being watched, 0 to 1"
        )
    if not isinstance(model, Mean):
        if weights is not None:
            raise ValueError(f"{type(model).__name__} has no weights: use Mean with weights")
        return Histories(vectors, offsets, current, blend)
    all_weights = model.weights(offsets, times)
    if weights is not None:
        all_weights = all_weights * np.asarray(weights, np.float64)
    means = _means(vectors, offsets, all_weights)
    if current is not None:
        means = ((1 - blend) * means + blend * current).astype(np.float32)
    return Histories(means, np.arange(len(means) + 1))


def user_scores(
    vectors: np.ndarray,
    history: np.ndarray,
    offsets: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    aggregate: UserModel = Mean(),
    times: np.ndarray | None = None,
    current: np.ndarray | None = None,
    blend: float = 0.5,
) -> np.ndarray:
    """The score of every video for every user, f32[U, N] (CDML, equations 5 and 6).

    vectors: f32[N, D]; history: rows of them, i64[H], oldest first; user u has those from
    offsets[u] to offsets[u + 1]. Watched videos are scored, too; the caller must exclude them.
    weights, times, current, blend: as for `histories_for`. The result is in memory; `score_blocks`
    yields it in blocks. Raises ValueError for users without history, rows out of range and no
    videos.
    """
    scores = np.empty((len(offsets) - 1, len(vectors)), np.float32)
    options: dict[str, Any] = {"weights": weights, "times": times}
    options |= {"aggregate": aggregate, "current": current, "blend": blend}
    for users, block in score_blocks(vectors, history, offsets, **options):
        scores[users] = block
    return scores


def score_blocks(
    vectors: np.ndarray,
    history: np.ndarray,
    offsets: np.ndarray,
    *,
    aggregate: UserModel = Mean(),
    **options: Any,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`user_scores` in blocks: yields (user numbers i64[b], their scores f32[b, N])."""
    watched = _watched_vectors(vectors, history)
    given = histories_for(aggregate, watched, offsets, **options)
    mesh = meshes.make_mesh(meshes.MeshShape())
    for users, scores in all_scores(mesh, placed(mesh, vectors), given, model=aggregate):
        yield users, scores[:, : len(vectors)]


def recommend_rows(
    vectors: np.ndarray,
    history: np.ndarray,
    offsets: np.ndarray,
    k: int,
    *,
    aggregate: UserModel = Mean(),
    allowed: np.ndarray | None = None,
    **options: Any,
) -> Ranked:
    """The k best rows of each user that are allowed, bool[N], and not watched yet (V − Q).

    Other arguments and errors as for `user_scores`; also ValueError if nothing is allowed.
    """
    watched = _watched_vectors(vectors, history)
    given = histories_for(aggregate, watched, offsets, **options)
    allowed = np.ones(len(vectors), bool) if allowed is None else allowed
    if not allowed.any():
        raise ValueError(
            f"none of {len(vectors):,} videos may be recommended: there is no candidate"
        )
    mesh = meshes.make_mesh(meshes.MeshShape())
    pool = placed(mesh, vectors)
    seen = (np.asarray(history, np.int64), offsets)
    scores, rows = best_placed(mesh, pool, given, seen, k, allowed, model=aggregate)
    ranked = scores > -np.inf
    return Ranked(rows[ranked], scores[ranked], ranked.sum(axis=1))


def _means(vectors: np.ndarray, offsets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means f32[U, D], summed in f64."""
    means = np.empty((len(offsets) - 1, vectors.shape[1]), np.float32)
    for user, (start, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist())):
        part = weights[start:end]
        total = part.sum()
        if not total > 0 or (part < 0).any():
            raise ValueError(
                f"the weights of user number {user} sum to {total}, and the smallest is "
                f"{part.min():g}: weights must be 0 or more, and not all of a history 0"
            )
        means[user] = part @ vectors[start:end].astype(np.float64) / total
    return means


def _watched_vectors(vectors: np.ndarray, history: np.ndarray) -> np.ndarray:
    rows = np.asarray(history)
    if not len(vectors):
        raise ValueError("there are no videos: the set of candidates is empty")
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(vectors):
        raise ValueError(
            f"rows of the histories are {rows.min()} to {rows.max()}, but there are only "
            f"{len(vectors):,} videos"
        )
    return vectors[rows.astype(np.int64)]


def _check(offsets: np.ndarray, count: int) -> None:
    if len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets must rise from 0 to the {count:,} videos of the histories")
    empty = np.flatnonzero(np.diff(offsets) == 0)
    if len(empty):
        raise ValueError(
            f"{len(empty):,} of {len(offsets) - 1:,} users have no history, first user number "
            f"{empty[0]}: leave them out"
        )
