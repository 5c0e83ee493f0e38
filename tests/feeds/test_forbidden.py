"""The forbidden lists against a brute-force oracle in plain sets."""

from dataclasses import dataclass

import numpy as np
import pytest

from vidembed.feeds.forbidden import SIEVE, WINDOW, ForbiddenPairs, sized_width
from vidembed.graph.relation import RelationGraph


def random_graph(rng: np.random.Generator, nodes: int, edges: int, hub: int = 0) -> RelationGraph:
    """`edges` random pairs, and one hub, the last row, with `hub` neighbours."""
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


def check(pairs: ForbiddenPairs, graph: RelationGraph, rows: np.ndarray, width: int) -> None:
    got = pairs.lists(rows, width)
    first, lists = oracle(graph, rows)
    assert got.first_slot.reshape(-1).tolist() == first
    assert got.forbidden.shape == (rows.shape[1], width)
    assert got.first_slot.dtype == got.forbidden.dtype == np.int32
    for row, wanted in zip(got.forbidden.tolist(), lists, strict=True):
        padding = [rows.size] * max(0, width - len(wanted))
        assert row == wanted[:width] + padding
    assert got.overflow == sum(max(0, len(wanted) - width) for wanted in lists)
    assert pairs.widest(rows) == max(len(wanted) for wanted in lists)


@pytest.mark.parametrize(
    ("nodes", "edges", "hub"),
    [
        (3, 2, 2),  # fewer neighbours than one window
        (12, 40, 0),  # every video in the batch many times
        (60, 30, 50),
        (300, 2_000, 250),  # the hub's row is the last, and eight windows long
        (5_000, 40_000, 0),
    ],
)
def test_lists_equal_the_oracle(nodes, edges, hub):
    rng = np.random.default_rng(nodes)
    graph = random_graph(rng, nodes, edges, hub)
    pairs = ForbiddenPairs(graph)
    longest = int(graph.degrees().max()) + 1
    for batch in (120, 1, 7, 64, 120):  # one object throughout: what a batch left must not show
        rows = random_rows(rng, graph, batch)
        for width in (longest + 3, longest, 3, 2):
            check(pairs, graph, rows, width)


def test_the_hub_spans_several_windows_and_is_found_whole():
    graph = random_graph(np.random.default_rng(0), 200, 10, hub=100)
    hub = graph.nodes - 1
    related = graph.neighbours[graph.offsets[hub] :]
    assert len(related) > 3 * WINDOW
    rows = np.stack([related, related, np.full(len(related), hub)]).astype(np.int32)
    check(ForbiddenPairs(graph), graph, rows, len(related) + 1)


def test_videos_that_share_a_mark_are_not_taken_for_each_other():
    """Row 5 + SIEVE is a neighbour of the anchor, row 5 is in the batch: only the mark agrees."""
    nodes = SIEVE + 10
    graph = RelationGraph.from_edges(
        np.array([0, 0]), np.array([5 + SIEVE, 1]), np.ones(2), nodes=nodes
    )
    pairs = ForbiddenPairs(graph)
    got = pairs.lists(np.array([[5], [1], [0]], np.int32), 4)
    assert got.forbidden.tolist() == [[2, 1, 3, 3]]
    got = pairs.lists(np.array([[5 + SIEVE], [1], [0]], np.int32), 4)
    assert got.forbidden.tolist() == [[2, 1, 0, 3]]


def test_a_smaller_batch_does_not_stumble_over_what_a_larger_one_left():
    """Row 5 was at slot 8; now only its mark is in the batch, which has slots 0 to 2."""
    graph = RelationGraph.from_edges(
        np.array([0, 0]), np.array([5, 1]), np.ones(2), nodes=SIEVE + 10
    )
    pairs = ForbiddenPairs(graph)
    pairs.lists(np.array([[1, 1, 1], [1, 1, 0], [0, 0, 5]], np.int32), 4)
    got = pairs.lists(np.array([[5 + SIEVE], [1], [0]], np.int32), 4)
    assert got.forbidden.tolist() == [[2, 1, 3, 3]]


def test_no_mark_outlives_its_batch():
    """Marks that stayed would change no list, only cost time: in the end every entry would pass."""
    graph = random_graph(np.random.default_rng(0), 200, 800)
    pairs = ForbiddenPairs(graph)
    pairs.lists(random_rows(np.random.default_rng(1), graph, 50), 8)
    assert not pairs._scratch.sieve.any()


@dataclass
class Sized:
    """What `sized_width` asks of ForbiddenPairs, with batches that are their own answers."""

    longest_possible: int

    def widest(self, rows: int) -> int:
        return rows


@pytest.mark.parametrize(
    ("batches", "possible", "width"),
    [
        ([3, 11, 2], 1000, 16),  # 16.5
        ([12, 3], 1000, 24),  # 18
        ([12, 3], 13, 16),
        ([2], 2, 8),
        ([100], 1000, 152),  # 150
        ([200], 1000, 256),
        ([900], 1000, 256),
    ],
)
def test_the_width_is_half_as_much_again_as_the_longest_list(batches, possible, width):
    assert sized_width(Sized(possible), batches) == width


def test_a_batch_worked_by_hand():
    """Edges 0-1, 0-2, 0-3, 4-5; negatives 3, 5, 0; positives 1, 0, 4; anchors 0, 2, 5."""
    graph = RelationGraph.from_edges(
        np.array([0, 0, 0, 4]), np.array([1, 2, 3, 5]), np.ones(4), nodes=6
    )
    rows = np.array([[3, 5, 0], [1, 0, 4], [0, 2, 5]], np.int32)
    got = ForbiddenPairs(graph).lists(rows, 4)
    assert got.first_slot.tolist() == [[0, 1, 2], [3, 2, 5], [2, 7, 1]]
    # Anchor 0 (slot 2): positive 1 (3), then its neighbours 2 (7) and 3 (0) by row number.
    assert got.forbidden.tolist() == [[2, 3, 7, 0], [7, 2, 9, 9], [1, 5, 9, 9]]
    assert got.overflow == 0


def test_overflow_is_counted_and_spares_anchor_and_positive():
    graph = RelationGraph.from_edges(np.zeros(9, int), np.arange(1, 10), np.ones(9), nodes=10)
    rows = np.stack([np.arange(1, 10), np.arange(1, 10), np.zeros(9)]).astype(np.int32)
    got = ForbiddenPairs(graph).lists(rows, 3)
    assert got.overflow == 9 * 7  # 8 other neighbours each, room for one
    assert got.forbidden[:, 0].tolist() == [18] * 9
    assert got.forbidden[:, 1].tolist() == list(range(9))
