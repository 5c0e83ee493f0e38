"""Retrieval by class: at which rank the first item of the query's class comes, by cosine."""

import numpy as np

BLOCK = 1 << 24
"""Similarities in memory at a time: 64 MB."""


def first_hits(
    queries: np.ndarray,
    candidates: np.ndarray,
    query_classes: np.ndarray,
    candidate_classes: np.ndarray,
    *,
    exclude: np.ndarray | None = None,
) -> np.ndarray:
    """The rank, from 1, of the nearest candidate of each query's class, f64[Q]; inf for none.

    queries f32[Q, D], candidates f32[C, D], classes i[Q] and i[C]. exclude: i64[Q], the candidate
    that is the query itself, or -1. Of equally near candidates the first comes first. Zero vectors
    have no direction: as candidates they come nowhere, and as queries they never hit.
    """
    own = np.full(len(queries), -1) if exclude is None else exclude
    known = candidates.any(axis=1)
    places = np.flatnonzero(known)
    place_of = np.full(len(candidates) + 1, -1)  # the last entry is that of -1
    place_of[places] = np.arange(len(places))
    units, classes = unit(candidates[places]), candidate_classes[places]
    asking, ranks = unit(queries), np.full(len(queries), np.inf)
    rows_at_once = max(1, BLOCK // max(1, len(places)))
    for start in range(0, len(queries) if len(places) else 0, rows_at_once):
        rows = slice(start, start + rows_at_once)
        near = asking[rows] @ units.T
        itself = place_of[own[rows]]
        some = np.flatnonzero(itself >= 0)
        near[some, itself[some]] = -np.inf
        hits = np.where(classes[None] == query_classes[rows, None], near, -np.inf)
        best = hits.argmax(axis=1)
        value = hits[np.arange(len(near)), best][:, None]
        before = (near == value) & (np.arange(len(places)) < best[:, None])
        rank = 1.0 + (near > value).sum(axis=1) + before.sum(axis=1)
        found = (value[:, 0] > -np.inf) & asking[rows].any(axis=1)
        ranks[rows] = np.where(found, rank, np.inf)
    return ranks


def chance_of_hit(relevant: np.ndarray, candidates: int, k: int) -> np.ndarray:
    """The probability f64[Q] that one of the first k candidates is relevant in a random order;
    relevant: i64[Q], how many of the candidates are."""
    misses = np.ones(len(relevant))
    for place in range(min(k, candidates)):
        misses *= np.maximum(candidates - relevant - place, 0) / (candidates - place)
    return 1 - misses


def unit(rows: np.ndarray) -> np.ndarray:
    """The rows f32[N, D] at length 1; zeros stay zeros."""
    rows = np.asarray(rows, np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)
