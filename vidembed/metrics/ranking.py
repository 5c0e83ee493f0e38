"""Ranking metrics from the exact ranks of the relevant items, without ranked lists.

Input is ragged and flat: ranks i64[R] of every query's relevant items, in any order, counted from
1, with offsets i64[Q+1]; query q has `ranks[offsets[q]:offsets[q + 1]]`. Each query needs at least
one relevant item: the caller leaves the others out and reports their number. Ranks are distinct
within a query, because the caller breaks ties: the smaller row number comes first, everywhere in
vidembed. A k above the number of candidates means the whole ranking. Each metric returns f64[Q],
one value per query in [0, 1], and raises ValueError for input that breaks these rules.
"""

import numpy as np


def ndcg(ranks: np.ndarray, offsets: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k with binary relevance (CDML, equation 3): gain 1/log2(rank + 1) down to rank k.

    The ideal ranking has all relevant items first: its gain is that of min(k, relevant) items.
    """
    ranks, offsets = _checked(ranks, offsets, k)
    gains = np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)
    relevant = np.diff(offsets)
    ideal = np.cumsum(1.0 / np.log2(np.arange(1, min(k, relevant.max()) + 1) + 1.0))
    return np.add.reduceat(gains, offsets[:-1]) / ideal[np.minimum(relevant, k) - 1]


def recall(ranks: np.ndarray, offsets: np.ndarray, k: int) -> np.ndarray:
    """Share of all relevant items among the first k; below 1 if there are more than k."""
    ranks, offsets = _checked(ranks, offsets, k)
    return np.add.reduceat((ranks <= k).astype(np.float64), offsets[:-1]) / np.diff(offsets)


def average_precision(ranks: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Precision at each relevant item of the full ranking, averaged (CDML, equation 4).

    The mean over queries is MAP.
    """
    ranks, offsets = _checked(ranks, offsets, 1)
    place = np.arange(len(ranks)) - np.repeat(offsets[:-1], np.diff(offsets))
    return np.add.reduceat((place + 1) / ranks, offsets[:-1]) / np.diff(offsets)


def _checked(ranks: np.ndarray, offsets: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks ascending within each query, i64[R], and offsets i64[Q+1]."""
    ranks, offsets = np.asarray(ranks, np.int64), np.asarray(offsets, np.int64)
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(ranks):
        raise ValueError(
            f"offsets must run from 0 to the {len(ranks)} ranks over at least one query, found "
            f"{offsets[:1]} to {offsets[-1:]} ({max(len(offsets) - 1, 0)} queries)"
        )
    relevant = np.diff(offsets)
    if (relevant < 1).any():
        raise ValueError(
            f"{int((relevant < 1).sum())} of {len(relevant)} queries have no relevant item (the "
            f"first is query {int(np.argmax(relevant < 1))}): leave them out, and report how many"
        )
    query = np.repeat(np.arange(len(relevant)), relevant)
    ranks = ranks[np.lexsort((ranks, query))]
    if ranks.min() < 1 or ((np.diff(ranks) == 0) & (np.diff(query) == 0)).any():
        raise ValueError(
            f"ranks count from 1 and differ within a query, found the smallest {ranks.min()}; "
            "were ties left unbroken?"
        )
    return ranks, offsets
