import jax
import numpy as np
import pytest

from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.evaluators import ranks as module
from vidembed.evaluators.ranks import relevant_ranks


def oracle(queries, candidates, offsets, relevant, exclude=None):
    """Ranks by a stable sort of all scores of each query, in float64."""
    found = []
    for q, query in enumerate(queries.astype(np.float64)):
        scores = candidates.astype(np.float64) @ query
        if exclude is not None and exclude[q] >= 0:
            scores[exclude[q]] = -np.inf
        order = np.argsort(-scores, kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(1, len(order) + 1)
        found += rank[relevant[offsets[q] : offsets[q + 1]]].tolist()
    return found


def whole_numbers(seed, queries, candidates, width=3, most=9):
    """Vectors of small whole numbers, whose products are exact and often equal; duplicates too."""
    rng = np.random.default_rng(seed)
    pool = rng.integers(-2, 3, (candidates, width)).astype(np.float32)
    asked = rng.integers(-2, 3, (queries, width)).astype(np.float32)
    asked[0] = 0  # all scores are ties
    counts = rng.integers(0, min(most, candidates - 1) + 1, queries)
    counts[-1] = 0
    relevant = [rng.choice(candidates, count, replace=False) for count in counts]
    exclude = np.array(
        [
            rng.choice(np.setdiff1d(np.arange(candidates), mine)) if rng.random() < 0.5 else -1
            for mine in relevant
        ]
    )
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return asked, pool, offsets, np.concatenate(relevant).astype(np.int64), exclude


MESHES = {
    "one device": lambda: make_mesh(MeshShape(), jax.devices()[:1]),
    "two": lambda: make_mesh(MeshShape(), jax.devices()[:2]),
    "eight": lambda: make_mesh(MeshShape()),
    "four by two": lambda: make_mesh(MeshShape(model=2)),
}


@pytest.mark.fault(
    "Scores: ties in a ranking",
    "by table row, against a stable sort",
)
@pytest.mark.parametrize("name", MESHES)
def test_equal_to_a_stable_sort_on_every_mesh(name):
    # 37 candidates do not divide by any of the meshes, 5 leave some devices with padding only.
    for seed, candidates in enumerate((37, 5)):
        asked, pool, offsets, relevant, exclude = whole_numbers(seed, 23, candidates)
        found = relevant_ranks(
            asked, pool, offsets, relevant, exclude=exclude, mesh=MESHES[name](), block=4
        )
        assert found.dtype == np.int64
        assert found.tolist() == oracle(asked, pool, offsets, relevant, exclude)


def test_queries_in_several_calls(monkeypatch):
    asked, pool, offsets, relevant, exclude = whole_numbers(3, 40, 29)
    monkeypatch.setattr(module, "RELEVANT_AT_ONCE", 63)  # seven queries of nine
    found = relevant_ranks(asked, pool, offsets, relevant, exclude=exclude, block=3)
    assert found.tolist() == oracle(asked, pool, offsets, relevant, exclude)
    without = relevant_ranks(asked, pool, offsets, relevant)
    assert without.tolist() == oracle(asked, pool, offsets, relevant)


def test_real_numbers_and_the_query_itself_in_the_corpus():
    rng = np.random.default_rng(4)
    pool = rng.normal(size=(200, 16)).astype(np.float32)
    offsets, relevant = np.arange(0, 201, 5), rng.integers(0, 160, 200)
    own = np.arange(160, 200)
    found = relevant_ranks(pool[own], pool, offsets, relevant, exclude=own)
    assert found.tolist() == oracle(pool[own], pool, offsets, relevant, own)
    ahead = relevant_ranks(pool[own], pool, offsets, relevant)
    # A vector's best match is itself, nearly always; excluded, all behind it move up by one.
    assert np.mean(ahead - found == 1) > 0.9


def test_an_item_never_comes_before_itself():
    # Regardless of rounding: the relevant item's score is among those it is compared with.
    rng = np.random.default_rng(5)
    pool = rng.normal(size=(300, 257)).astype(np.float32)
    found = relevant_ranks(pool, pool, np.arange(301), np.arange(300), block=7)
    assert found.tolist() == [1] * 300


def test_memory_is_bounded_by_the_block():
    # 600 queries × 2,000 candidates would be 4.8 MB of scores; 8 at a time are 64 KB.
    mesh = make_mesh(MeshShape(), jax.devices()[:1])
    queries, candidates = np.zeros((600, 8), np.float32), np.zeros((2000, 8), np.float32)
    wanted, exclude = np.zeros((600, 2), np.int32), np.full(600, -1, np.int32)
    with jax.set_mesh(mesh):
        compiled = module._count_before.lower(
            queries, candidates, wanted, exclude, size=2000, block=8
        ).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 600_000


@pytest.mark.fault(
    "Scores: a query with nothing relevant",
    "left out, and counted; none at all is refused",
)
def test_no_relevant_items_give_no_ranks():
    some = np.ones((3, 2), np.float32)
    assert relevant_ranks(some, some, np.zeros(4, int), np.zeros(0, int)).tolist() == []


@pytest.mark.fault("Scores: rows or labels out of range, k above the corpus")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"queries": np.full((2, 3), np.nan)}, r"2 of 2 queries .*not finite \(rows 0, 1\)"),
        ({"candidates": np.diag([1, np.inf, 1])}, r"1 of 3 candidates .*\(rows 1\)"),
        ({"candidates": np.ones((3, 4))}, r"same width, found \(2, 3\) and \(3, 4\)"),
        ({"relevant": [0, 3]}, r"in \[0, 3\), found 0 to 3"),
        ({"relevant": [-1, 0]}, "found -1 to 0"),
        ({"offsets": [0, 1]}, "over 2 queries, found 2"),
        ({"offsets": [0, 1, 3]}, "0 to the 2 relevant"),
        ({"exclude": [1]}, r"one position per query, found \(1,\)"),
        ({"exclude": [0, -1]}, "excludes one of its relevant"),
    ],
)
def test_bad_input_is_refused(change, says):
    good = {
        "queries": np.ones((2, 3)),
        "candidates": np.ones((3, 3)),
        "offsets": [0, 1, 2],
        "relevant": [0, 1],
    }
    relevant_ranks(**good)
    with pytest.raises(ValueError, match=says):
        relevant_ranks(**(good | change))
