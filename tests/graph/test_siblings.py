"""Sibling draws against sets worked out slowly: which videos, how often, and at which level."""

from types import SimpleNamespace

import numpy as np
import pytest

from vidembed.graph.hierarchy import Hierarchy, HierarchyError, first_seen
from vidembed.graph.relation import RelationGraph
from vidembed.graph.siblings import Siblings, _at_most, levels_of

READINGS = ["cluster", "video"]


def graph_of(edges: list[tuple[int, int]] | np.ndarray, nodes: int) -> RelationGraph:
    source, target = np.array(edges, np.int64).reshape(-1, 2).T
    return RelationGraph.from_edges(source, target, np.ones(len(source)), nodes=nodes)


def hierarchy_of(levels: list, graph: RelationGraph, is_train: np.ndarray) -> Hierarchy:
    """A hierarchy from arbitrary labels of all rows per level; evaluation rows are ignored."""
    clusters = np.full((len(levels), graph.nodes), -1, np.int32)
    for level, labels in zip(clusters, levels, strict=True):
        level[is_train] = first_seen(
            np.unique(np.asarray(labels)[is_train], return_inverse=True)[1]
        )
    return Hierarchy(clusters=clusters, graph_fingerprint=graph.fingerprint)


def random_case(seed: int) -> SimpleNamespace:
    """A small graph with hubs, isolated videos, evaluation videos and nested clusters."""
    rng = np.random.default_rng(seed)
    nodes = int(rng.integers(4, 40))
    is_train = rng.random(nodes) < rng.choice([0.6, 1.0])
    is_train[:3] = True
    edges = np.stack(rng.integers(0, nodes, (2, int(rng.integers(1, 4 * nodes)))), axis=1)
    if seed % 3 == 0:  # a hub
        edges = np.concatenate([edges, np.stack([np.zeros(nodes), np.arange(nodes)], 1)])
    edges = edges[edges[:, 0] != edges[:, 1]].astype(np.int64)
    edges = np.concatenate([edges, [[0, 1]]])
    relations = graph_of(edges, nodes).within(is_train)
    graph = relations.capped(2) if seed % 2 else relations
    rounds = int(rng.integers(1, 5))
    labels, levels = np.arange(nodes), []
    for _ in range(rounds):
        # From one cluster per video to one for all, level by level.
        groups = int(rng.integers(1, labels.max() + 2))
        labels = rng.integers(0, groups, nodes)[labels] if rng.random() < 0.9 else labels
        levels.append(labels)
    hierarchy = hierarchy_of(levels, graph, is_train)
    return SimpleNamespace(graph=graph, relations=relations, hierarchy=hierarchy, is_train=is_train)


def allowed(case: SimpleNamespace, anchor: int, level: int, reading: str) -> set[int]:
    """The allowed videos by the docstring of Siblings, checked one by one."""
    related = case.relations.matrix().toarray()[anchor] > 0
    ancestor = level + (2 if reading == "cluster" else 1)
    videos = set()
    for video in np.flatnonzero(case.is_train):
        below_ancestor = ancestor > case.hierarchy.levels or (
            case.hierarchy.level(ancestor)[video] == case.hierarchy.level(ancestor)[anchor]
        )
        is_own = case.hierarchy.level(1)[video] == case.hierarchy.level(1)[anchor]
        is_own = is_own if reading == "cluster" else video == anchor
        if below_ancestor and not is_own and not related[video]:
            videos.add(int(video))
    return videos


def expected(case: SimpleNamespace, anchor: int, level: int, reading: str) -> tuple[int, set[int]]:
    """The level of a draw and the videos it chooses from: the anchor itself if none is allowed."""
    top = levels_of(case.hierarchy.levels, reading)
    for climbed in range(level, top):
        if videos := allowed(case, anchor, climbed, reading):
            return climbed, videos
    return top, allowed(case, anchor, top, reading) or {anchor}


def index_of(case: SimpleNamespace, reading: str) -> Siblings | None:
    """The index from level 0 up, or None if it is refused because no level has siblings."""
    try:
        return Siblings.of(
            case.hierarchy,
            case.graph,
            case.is_train,
            relations=case.relations,
            siblings_of=reading,
        )
    except HierarchyError:
        return None


def check_every_draw(case: SimpleNamespace, reading: str) -> tuple[int, int]:
    """Check that each anchor draws every allowed video of each level equally often.

    Returns the total number of levels climbed, and of anchors for which no video is allowed.
    """
    siblings = index_of(case, reading)
    anchors = np.flatnonzero(case.graph.degrees())
    top = levels_of(case.hierarchy.levels, reading)
    any_siblings = any(expected(case, a, 0, reading)[0] < top for a in anchors)
    assert (siblings is not None) == any_siblings
    if siblings is None:
        return 0, 0
    assert siblings.levels == top
    climbed, empty = 0, 0
    for level in range(top + 2):
        ends = np.zeros(top + 2)
        for anchor in np.flatnonzero(case.is_train):
            at, videos = expected(case, anchor, min(level, top), reading)
            # Two chances per allowed video, at both ends of its share of [0, 1).
            count = len(videos)
            chance = np.repeat(np.arange(count) / count, 2)
            chance[1::2] += (1 - 1e-9) / count
            rows, drawn_at = siblings.draw(chance + 1e-12, np.full(2 * count, anchor), level)
            assert rows.dtype == drawn_at.dtype == np.int32
            assert (drawn_at == at).all()
            values, times = np.unique(rows, return_counts=True)
            assert set(values.tolist()) == videos
            assert (times == 2).all()
            climbed += at - min(level, top)
            empty += videos == {anchor}
            if case.graph.degrees()[anchor]:
                ends[top + 1 if videos == {anchor} else at] += anchor + 1
        chances = np.where(case.graph.degrees() > 0, np.arange(case.graph.nodes) + 1.0, 0)
        np.testing.assert_allclose(siblings.shares(level, chances), ends / ends.sum())
    return climbed, empty


@pytest.mark.parametrize("reading", READINGS)
def test_every_allowed_video_is_drawn_equally_often(reading):
    totals = np.array([check_every_draw(random_case(seed), reading) for seed in range(60)])
    assert (totals.sum(axis=0) > 20).all()  # both the climb and the dead end occur


def test_a_case_worked_by_hand():
    """Videos a..h in clusters ab|cd|ef|gh, then abcd|efgh; a is related to b, c and e."""
    a, b, c, d, e, f, g, h = range(8)
    graph = graph_of([(a, b), (a, c), (a, e), (g, h)], 8)
    everyone = np.ones(8, bool)
    hierarchy = hierarchy_of([[0, 0, 1, 1, 2, 2, 3, 3], [0] * 4 + [1] * 4], graph, everyone)

    def drawn(reading: str, anchor: int, level: int) -> tuple[list[int], int]:
        siblings = Siblings.of(hierarchy, graph, everyone, siblings_of=reading)
        rows, at = siblings.draw(np.arange(0.5, 24) / 24, np.full(24, anchor), level)
        (level,) = set(at.tolist())
        return sorted(set(rows.tolist())), level

    assert drawn("cluster", a, 0) == ([d], 0)
    assert drawn("cluster", a, 1) == ([d, f, g, h], 1)
    assert drawn("cluster", g, 0) == ([e, f], 0)
    assert drawn("video", a, 0) == ([d], 1)  # b is related, so the draw climbs
    assert drawn("video", b, 0) == ([c, d], 1)  # a is related
    assert drawn("video", c, 0) == ([d], 0)
    assert drawn("video", a, 2) == ([d, f, g, h], 2)


def test_isolated_videos_and_evaluation_videos():
    """Isolated videos are drawn as negatives like others, evaluation videos never."""
    graph = graph_of([(0, 1), (2, 3)], 7)
    is_train = np.array([True] * 6 + [False])
    hierarchy = hierarchy_of([[0, 0, 1, 1, 2, 3, 9], [0, 0, 0, 0, 2, 3, 9]], graph, is_train)
    siblings = Siblings.of(hierarchy, graph, is_train)
    rows, at = siblings.draw(np.arange(0.5, 12) / 12, np.zeros(12, np.int32), 1)
    assert set(rows.tolist()) == {2, 3, 4, 5}
    assert (at == 1).all()
    rows, at = siblings.draw(np.arange(0.5, 12) / 12, np.full(12, 4), 0)
    assert set(rows.tolist()) == {0, 1, 2, 3, 5}
    assert (at == 1).all()


def test_long_lists_are_searched_like_searchsorted():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 200, 300)
    begin = np.cumsum(lengths) - lengths
    values = [np.sort(rng.integers(0, 50, length)) for length in lengths]
    limit = rng.integers(-2, 52, 300)
    counts = _at_most(np.concatenate([*values, [0]]), begin, lengths, limit)
    assert counts.tolist() == [np.searchsorted(v, x, "right") for v, x in zip(values, limit)]
    assert _at_most(np.zeros(1), begin[:0], lengths[:0], limit[:0]).tolist() == []


@pytest.mark.fault("Relations and sessions: one giant cluster, or no cluster of two videos")
@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (
            [[0] * 6, [0] * 6],
            r"level 1: 1 clusters, the largest of 6 \(100.0 %\); .*A cluster that holds nearly all",
        ),
        ([range(6), range(6)], r"level 2: 6 clusters, the largest of 1 \(16.7 %\)"),
        # There are siblings, but only of videos that cannot be anchors.
        ([[0, 0, 0, 0, 1, 2], [0, 0, 0, 0, 1, 1]], "no anchor has a sibling at level 0 or above"),
    ],
)
def test_a_hierarchy_without_siblings_is_refused(levels, message):
    graph, everyone = graph_of([(0, 1), (1, 2), (2, 3)], 6), np.ones(6, bool)
    with pytest.raises(HierarchyError, match=message):
        Siblings.of(hierarchy_of(levels, graph, everyone), graph, everyone)


def test_a_top_level_at_which_nothing_is_allowed_is_refused():
    """One cluster of all videos: the "cluster" reading excludes all train videos."""
    graph, everyone = graph_of([(0, 1), (2, 3)], 4), np.ones(4, bool)
    hierarchy = hierarchy_of([[0] * 4, [0] * 4], graph, everyone)
    with pytest.raises(HierarchyError, match="no anchor has a sibling at level 1 or above"):
        Siblings.of(hierarchy, graph, everyone, level=1)
    assert Siblings.of(hierarchy, graph, everyone, siblings_of="video", level=2).levels == 2


def test_siblings_are_required_only_from_the_lowest_level_up():
    """All siblings are at level 0 here; above, one cluster holds all videos."""
    graph, everyone = graph_of([(0, 1), (2, 3)], 4), np.ones(4, bool)
    hierarchy = hierarchy_of([[0, 0, 1, 1], [0, 0, 0, 0]], graph, everyone)
    assert Siblings.of(hierarchy, graph, everyone).levels == 1
    lower = hierarchy_of([[0, 0, 1, 1], [0, 0, 1, 1]], graph, everyone)
    with pytest.raises(HierarchyError, match="no anchor has a sibling at level 0"):
        Siblings.of(lower, graph, everyone)
    # Above the top: all train videos except its own cluster and related ones.
    rows, at = Siblings.of(lower, graph, everyone, level=1).draw(
        np.array([0.0, 0.9]), np.zeros(2, np.int64), 1
    )
    assert (rows.tolist(), at.tolist()) == ([2, 3], [1, 1])


@pytest.mark.fault(
    "Relations and sessions: a level that does not exist, of clusters or of siblings",
)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": -1}, "a sibling level is 0 .hardest. or more, found -1"),
        ({"level": 2}, "no sibling level 2 .* of 2 rounds: level 0 exists, 1 means all .*ds 4`"),
        ({"level": 3, "siblings_of": "video"}, "levels 0 to 1 exist, 2 means all .*--rounds 4`"),
        ({"siblings_of": "edge"}, r"one of \['cluster', 'video'\], found 'edge'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    graph, everyone = graph_of([(0, 1), (2, 3)], 4), np.ones(4, bool)
    hierarchy = hierarchy_of([[0, 0, 1, 1], [0, 0, 0, 0]], graph, everyone)
    with pytest.raises(ValueError, match=message):
        Siblings.of(hierarchy, graph, everyone, **options)


@pytest.mark.fault(
    "Relations and sessions: a level that does not exist, of clusters or of siblings",
)
def test_one_round_has_no_sibling_clusters():
    graph, everyone = graph_of([(0, 1), (2, 3)], 4), np.ones(4, bool)
    hierarchy = hierarchy_of([[0, 0, 0, 1]], graph, everyone)
    with pytest.raises(HierarchyError, match=r"of 1 rounds: none exists. .*--rounds 2`"):
        Siblings.of(hierarchy, graph, everyone)
    assert Siblings.of(hierarchy, graph, everyone, siblings_of="video").levels == 1


def test_the_hierarchy_of_another_graph_is_refused():
    graph, everyone = graph_of([(0, 1), (2, 3)], 4), np.ones(4, bool)
    hierarchy = hierarchy_of([[0, 0, 1, 1], [0, 0, 0, 0]], graph, everyone)
    with pytest.raises(HierarchyError, match="was made from the train graph"):
        Siblings.of(hierarchy, graph_of([(0, 1), (2, 1)], 4), everyone)
