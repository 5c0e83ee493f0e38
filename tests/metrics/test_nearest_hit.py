"""Ranks of the first hit, against sorted lists."""

import itertools

import numpy as np
import pytest

from vidembed.metrics import nearest_hit
from vidembed.metrics.nearest_hit import chance_of_hit, first_hits


def slow(queries, candidates, query_classes, candidate_classes, exclude):
    ranks = []
    for q, own in zip(range(len(queries)), exclude):
        order = [
            (-(queries[q] @ vector), c)
            for c, vector in enumerate(candidates)
            if c != own and vector.any()
        ]
        hits = [
            place
            for place, (_, c) in enumerate(sorted(order), 1)
            if candidate_classes[c] == query_classes[q]
        ]
        ranks.append(hits[0] if hits and queries[q].any() else np.inf)
    return np.array(ranks, float)


@pytest.mark.parametrize("block", [1 << 24, 70])
def test_ranks_are_those_of_a_sorted_list(block, monkeypatch):
    monkeypatch.setattr(nearest_hit, "BLOCK", block)
    rng = np.random.default_rng(0)
    # Vectors of length 1 with exact ties, which the first candidate wins, and some zeros.
    candidates = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 31)]
    candidates[[3, 17]] = 0
    candidates[20:] = rng.normal(size=(11, 4))
    candidates[20:] /= np.linalg.norm(candidates[20:], axis=1, keepdims=True)
    classes = rng.integers(0, 6, 31)
    queries, own = candidates[:24], np.where(np.arange(24) % 3, np.arange(24), -1)
    query_classes = np.where(np.arange(24) == 7, 9, classes[:24])  # no candidate is of class 9
    ranks = first_hits(10 * queries, 3 * candidates, query_classes, classes, exclude=own)
    expected = slow(queries, candidates, query_classes, classes, own)
    assert np.isinf(expected).sum() >= 3
    np.testing.assert_array_equal(ranks, expected)


def test_chance_is_the_share_of_all_orders():
    relevant, orders = np.array([0, 1, 2, 5]), list(itertools.permutations(range(5)))
    for k in (1, 2, 3, 7):
        first = [[min((o.index(i) for i in range(r)), default=9) for o in orders] for r in relevant]
        np.testing.assert_allclose(
            chance_of_hit(relevant, 5, k), np.mean(np.array(first) < k, axis=1), atol=1e-12
        )
