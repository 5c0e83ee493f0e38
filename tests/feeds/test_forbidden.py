"""The forbidden lists against a brute-force oracle in plain sets."""

import numpy as np
import pytest

from vidembed.feeds.forbidden import SIEVE, WINDOW, ForbiddenPairs
from vidembed.graph.relation import RelationGraph


def random_graph(rng: np.random.Generator, nodes: int, edges: int, hub: int = 0) -> RelationGraph:
    """`edges` random pairs, and a hub, the last row, with `hub` neighbours."""
    source = np.concatenate([rng.integers(0, nodes, edges), np.full(hub, nodes - 1)])
    target = np.concatenate([rng.integers(0, nodes, edges), rng.permutation(nodes - 1)[:hub]])
    real = source != target
    return RelationGraph.from_edges(source[real], target[real], np.ones(real.sum()), nodes=nodes)


def random_rows(rng: np.random.Generator, graph: RelationGraph, batch: int) -> np.ndarray:
    edge = rng.integers(0, len(graph.neighbours), batch)
    negatives = rng.integers(0, graph.nodes, batch)
    return np.stack([negatives, graph.neighbours[edge], graph.rows()[edge]]).astype(np.int32)


def oracle(graph: RelationGraph, rows: np.ndarray) -> tuple[list[int], list[list[int]]]:
    """First slot of each slot's video, and each anchor's forbidden slots in the stated order."""
    flat = rows.reshape(-1).tolist()
    first = [flat.index(video) for video in flat]
    lists = []
    for anchor, positive in zip(rows[2].tolist(), rows[1].tolist(), strict=True):
        begin, end = graph.offsets[anchor], graph.offsets[anchor + 1]
        related = [v for v in graph.neighbours[begin:end].tolist() if v in flat and v != positive]
        lists.append([flat.index(v) for v in [anchor, positive, *related]])
    return first, lists


def check(pairs: ForbiddenPairs, graph: RelationGraph, rows: np.ndarray) -> None:
    batch_pairs = pairs.of(rows)
    first, lists = oracle(graph, rows)
    assert batch_pairs.first_slot.reshape(-1).tolist() == first
    assert batch_pairs.total == sum(map(len, lists))
    expected = [[anchor, slot] for anchor, slots in enumerate(lists) for slot in slots]
    batch = rows.shape[1]
    for room in (0, 5):
        flat, allowed = batch_pairs.flat(batch_pairs.total + room)
        assert flat.dtype == batch_pairs.first_slot.dtype == np.int32
        assert flat.T.tolist() == expected + [[batch, rows.size]] * room
        assert allowed.tolist() == [first[i] not in lists[i] for i in range(batch)]


def slots_of(pairs: ForbiddenPairs, rows: list) -> list[int]:
    batch_pairs = pairs.of(np.array(rows, np.int32))
    return batch_pairs.flat(batch_pairs.total)[0][1].tolist()


@pytest.mark.fault("Records: an id twice")
@pytest.mark.parametrize(
    ("nodes", "edges", "hub"),
    [
        (3, 2, 2),  # fewer neighbours than one window
        (12, 40, 0),  # every video in the batch many times
        (60, 30, 50),
        (300, 2_000, 250),  # the hub's row is the last, eight windows long
        (5_000, 40_000, 0),
    ],
)
def test_lists_equal_the_oracle(nodes, edges, hub):
    rng = np.random.default_rng(nodes)
    graph = random_graph(rng, nodes, edges, hub)
    pairs = ForbiddenPairs(graph)
    for batch in (120, 1, 7, 64, 120):  # one object throughout: earlier batches must leave no trace
        check(pairs, graph, random_rows(rng, graph, batch))


def test_the_hub_spans_several_windows_and_is_found_whole():
    graph = random_graph(np.random.default_rng(0), 200, 10, hub=100)
    hub = graph.nodes - 1
    related = graph.neighbours[graph.offsets[hub] :]
    assert len(related) > 3 * WINDOW
    rows = np.stack([related, related, np.full(len(related), hub)]).astype(np.int32)
    check(ForbiddenPairs(graph), graph, rows)


def test_videos_that_share_a_mark_are_not_taken_for_each_other():
    """Row 5 + SIEVE is a neighbour of the anchor, row 5 is in the batch: only their marks agree."""
    nodes = SIEVE + 10
    graph = RelationGraph.from_edges(
        np.array([0, 0]), np.array([5 + SIEVE, 1]), np.ones(2), nodes=nodes
    )
    pairs = ForbiddenPairs(graph)
    assert slots_of(pairs, [[5], [1], [0]]) == [2, 1]
    assert slots_of(pairs, [[5 + SIEVE], [1], [0]]) == [2, 1, 0]


def test_a_smaller_batch_does_not_stumble_over_what_a_larger_one_left():
    """Row 5 was at slot 8; now only its mark is in the batch, which has slots 0 to 2."""
    graph = RelationGraph.from_edges(
        np.array([0, 0]), np.array([5, 1]), np.ones(2), nodes=SIEVE + 10
    )
    pairs = ForbiddenPairs(graph)
    slots_of(pairs, [[1, 1, 1], [1, 1, 0], [0, 0, 5]])
    assert slots_of(pairs, [[5 + SIEVE], [1], [0]]) == [2, 1]


def test_no_mark_outlives_its_batch():
    """Remaining marks would change no list, but cost time: eventually every entry would pass."""
    graph = random_graph(np.random.default_rng(0), 200, 800)
    pairs = ForbiddenPairs(graph)
    pairs.of(random_rows(np.random.default_rng(1), graph, 50))
    assert not pairs._scratch.sieve.any()


def test_a_batch_worked_by_hand():
    """Edges 0-1, 0-2, 0-3, 4-5; negatives 3, 5, 0; positives 1, 0, 4; anchors 0, 2, 5."""
    graph = RelationGraph.from_edges(
        np.array([0, 0, 0, 4]), np.array([1, 2, 3, 5]), np.ones(4), nodes=6
    )
    rows = np.array([[3, 5, 0], [1, 0, 4], [0, 2, 5]], np.int32)
    batch_pairs = ForbiddenPairs(graph).of(rows)
    assert batch_pairs.first_slot.tolist() == [[0, 1, 2], [3, 2, 5], [2, 7, 1]]
    # Anchor 0 (slot 2): positive 1 (3), then its neighbours 2 (7) and 3 (0) by row number.
    flat, allowed = batch_pairs.flat(10)
    assert flat.tolist() == [[0, 0, 0, 0, 1, 1, 2, 2, 3, 3], [2, 3, 7, 0, 7, 2, 1, 5, 9, 9]]
    # Its own negative is video 3; that of anchor 2 is video 5, that of anchor 5 is video 0.
    assert allowed.tolist() == [False, True, True]


def test_in_a_clique_of_120_every_negative_is_forbidden_whatever_the_cap():
    """Forbidden pairs from the capped graph would let 70 relations of each anchor be mined."""
    source, target = np.triu_indices(120, 1)
    relations = RelationGraph.from_edges(source, target, np.ones(len(source)), nodes=120)
    capped = relations.capped(50)
    assert capped.edges < relations.edges
    rows = random_rows(np.random.default_rng(0), capped, 300)
    batch_pairs = ForbiddenPairs(relations).of(rows)
    flat, allowed = batch_pairs.flat(batch_pairs.total)
    assert not allowed.any()
    videos = len(np.unique(rows))
    assert np.bincount(flat[0], minlength=300).tolist() == [videos] * 300
