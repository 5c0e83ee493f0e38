from typing import NamedTuple

import numpy as np
import pytest

from vidembed.mining import Forbidden


class Case(NamedTuple):
    anchor: np.ndarray
    positive: np.ndarray
    pool: np.ndarray
    pairs: np.ndarray  # i32[b, K], pool rows; numbers from N on are padding
    candidates: np.ndarray

    @property
    def forbidden(self):
        """The pairs as one flat list twice as long as needed; cases of one size compile once."""
        anchors, columns = np.nonzero(self.pairs < len(self.pool))
        slots = self.pairs[anchors, columns]
        flat = np.full((2, 2 * self.pairs.size), 2**30, np.int32)
        flat[:, : len(anchors)] = anchors, slots
        return Forbidden(flat, self.candidates)

    @property
    def arguments(self):
        return self.anchor, self.positive, self.pool, self.forbidden


def exact_unit_vectors(random, count):
    """Unit vectors of 16 components whose products are multiples of 1/16: exact in any order of
    summation, with many ties and duplicates, so that ties can be tested exactly."""
    kinds = random.choice([1, 4, 16], count)  # the number of nonzero components
    vectors = np.zeros((count, 16), np.float32)
    for row, kind in zip(vectors, kinds):
        places = random.permutation(16)[:kind]
        row[places] = random.choice([-1, 1], kind) / np.sqrt(kind)
    return vectors


def make_case(seed, *, anchors, pool, pairs, exact=True, candidate_share=0.8):
    random = np.random.default_rng(seed)
    if exact:
        anchor, positive, negatives = (
            exact_unit_vectors(random, n) for n in (anchors, anchors, pool)
        )
    else:
        anchor, positive, negatives = (
            (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
            for x in (random.standard_normal((n, 16)) for n in (anchors, anchors, pool))
        )
    return Case(
        anchor=anchor,
        positive=positive,
        pool=negatives,
        # Numbers from `pool` on are padding; some lists hold a member twice.
        pairs=random.integers(0, pool + pool // 4 + 1, (anchors, pairs)).astype(np.int32),
        candidates=random.random(pool) < candidate_share,
    )


def eligible_by_loops(case, *, farther, within=np.inf):
    """The triple loop: per anchor [(d²(a, n), n), ...] of all allowed negatives, in float64."""
    result = []
    pool = case.pool.astype(np.float64)
    for anchor, positive, pairs in zip(case.anchor, case.positive, case.pairs.tolist()):
        positive_distance = ((anchor.astype(np.float64) - positive) ** 2).sum()
        members = []
        for number, distance in enumerate(((anchor - pool) ** 2).sum(1).tolist()):
            allowed = case.candidates[number] and number not in pairs
            beyond = distance > positive_distance or not farther
            if allowed and beyond and distance < positive_distance + within:
                members.append((distance, number))
        result.append(members)
    return result


@pytest.fixture(name="make_case")
def _make_case():
    return make_case


@pytest.fixture(name="eligible_by_loops")
def _eligible_by_loops():
    return eligible_by_loops


@pytest.fixture(
    params=[(1, 1, 0), (4, 4, 1), (7, 33, 3), (13, 130, 0), (24, 257, 40)],
    ids=lambda sizes: "x".join(map(str, sizes)),
)
def cases(request):
    """Random cases of one size (anchors × pool × forbidden), some without any negative to mine."""
    anchors, pool, pairs = request.param
    sizes = {"anchors": anchors, "pool": pool, "pairs": pairs}
    made = [make_case(seed, **sizes) for seed in range(12)]
    made.append(make_case(12, **sizes, candidate_share=0))
    duplicates = make_case(13, **sizes)
    made.append(duplicates._replace(pool=np.repeat(duplicates.pool[:1], pool, axis=0)))
    same = make_case(14, **sizes)
    made.append(same._replace(positive=same.anchor))
    return made


@pytest.fixture
def circle():
    """Four anchors and four negatives on a circle, each positive 30 degrees from its anchor. The
    angles of each anchor to the negatives are

         0°:  20  50 100 160
        90°:  70  40  10 110
       180°: 160 130  80  20
       270°: 110 140 170  70
    """

    def at(*degrees):
        angles = np.radians(degrees)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    return Case(
        anchor=at(0, 90, 180, 270),
        positive=at(30, 120, 150, 300),
        pool=at(20, 50, 100, 200),
        pairs=np.full((4, 1), 4, np.int32),
        candidates=np.ones(4, bool),
    )


@pytest.fixture
def almost_equal():
    """An anchor and two negatives; the second is nearer, by less than bfloat16 can tell."""
    sines = np.array([0.045, 0.032], np.float32)
    return Case(
        anchor=np.array([[1, 0]], np.float32),
        positive=np.array([[1, 0]], np.float32),
        pool=np.stack([np.sqrt(1 - sines**2), sines], axis=1),
        pairs=np.zeros((1, 0), np.int32),
        candidates=np.ones(2, bool),
    )
