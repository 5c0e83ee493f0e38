"""Triplets with anchors by video and negatives from sibling clusters: draws, curricula, faults."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from vidembed.feeds.negatives import SiblingNegatives, UniformNegatives
from vidembed.feeds.sampling import TripletSampler, raw_draws
from vidembed.feeds.triplets import TripletFeed, Triplets
from vidembed.graph.hierarchy import Hierarchy, HierarchyError, first_seen
from vidembed.graph.relation import RelationGraph

B = 64
TOP = {"cluster": 2, "video": 3}
"""L of three rounds."""
SMART = Triplets(batch_triplets=B, anchors="videos", negatives=SiblingNegatives())


def smart(**changes) -> Triplets:
    negatives = {name: changes.pop(name) for name in ("level", "siblings_of") if name in changes}
    negatives |= {"curriculum_steps": changes.pop("curriculum_steps", ())}
    return dataclasses.replace(SMART, negatives=SiblingNegatives(**negatives), **changes)


def open_feed(clustered: SimpleNamespace, config: Triplets = SMART, **options) -> TripletFeed:
    return config.open(clustered, **({"seed": 7} | options))


def with_levels(clustered: SimpleNamespace, *labels: np.ndarray) -> SimpleNamespace:
    """The same corpus with other clusters, from labels i[N] of all rows per level."""
    clusters = np.full((len(labels), len(clustered.is_train)), -1, np.int32)
    for level, label in zip(clusters, labels, strict=True):
        inside = np.unique(label[clustered.is_train], return_inverse=True)[1]
        level[clustered.is_train] = first_seen(inside)
    hierarchy = Hierarchy(
        clusters=clusters, graph_fingerprint=clustered.train_graph.fingerprint, parameters={}
    )
    return SimpleNamespace(**(vars(clustered) | {"hierarchy": hierarchy}))


def allowed(clustered: SimpleNamespace, level: int, siblings_of: str) -> np.ndarray:
    """bool[N, N]: the negatives (columns) allowed for each anchor at a level; L is all train."""
    clusters = clustered.hierarchy.clusters
    same = (clusters[:, :, None] == clusters[:, None, :]) & clustered.is_train
    number = level + (2 if siblings_of == "cluster" else 1)
    under = same[number - 1] if number <= len(clusters) else np.ones_like(same[0])
    is_own = same[0] if siblings_of == "cluster" else np.eye(len(same[0]), dtype=bool)
    related = clustered.train_graph.matrix().toarray() > 0
    return under & clustered.is_train & ~is_own & ~related


@pytest.mark.fault(
    "Relations and sessions: videos without siblings at the level",
    "the draw moves up, finally to all train videos; the shares are printed",
)
@pytest.mark.parametrize("siblings_of", ["cluster", "video"])
@pytest.mark.parametrize("anchors", ["edges", "videos"])
@pytest.mark.parametrize("level", [0, 1])
def test_every_negative_is_a_sibling_of_the_lowest_level_that_has_any(
    clustered, level, anchors, siblings_of
):
    top = TOP[siblings_of]
    feed = open_feed(clustered, smart(level=level, siblings_of=siblings_of, anchors=anchors))
    may = [allowed(clustered, at, siblings_of) for at in range(top + 1)]
    has_any = np.array([some.any(axis=1) for some in may])
    related = clustered.train_graph.matrix().toarray() > 0
    for step in range(20):
        batch = feed.at(step)
        negatives, positives, anchor = batch["rows"]
        assert batch["drawn_at"].shape == (top + 1, B)
        assert (batch["drawn_at"].sum(axis=0) == 1).all()
        at = batch["drawn_at"].argmax(axis=0)
        np.testing.assert_array_equal(at, level + has_any[level:, anchor].argmax(axis=0))
        assert all(may[at[i]][anchor[i], negatives[i]] for i in range(B))
        assert related[anchor, positives].all()


@pytest.mark.parametrize("negatives", [UniformNegatives(), SiblingNegatives()])
def test_anchors_positives_and_negatives_have_the_documented_distribution(clustered, negatives):
    config = Triplets(batch_triplets=5000, anchors="videos", negatives=negatives)
    feed = open_feed(clustered, config)
    drawn = np.concatenate([feed.at(step)["rows"] for step in range(10)], axis=1)
    related = clustered.train_graph.matrix().toarray() > 0
    train = np.broadcast_to(clustered.is_train, related.shape)
    may = [allowed(clustered, level, "cluster") for level in range(3)]
    may = np.where(may[0].any(1)[:, None], may[0], may[1])
    may = may if isinstance(negatives, SiblingNegatives) else train
    anchor = related.any(axis=1) / related.any(axis=1).sum()
    size = drawn.shape[1]
    shares = {
        "anchor": (drawn[2], anchor),
        "positive": (drawn[1], anchor @ (related / np.maximum(related.sum(1), 1)[:, None])),
        "negative": (drawn[0], anchor @ (may / may.sum(1).clip(1)[:, None])),
    }
    for name, (rows, share) in shares.items():
        counts = np.bincount(rows, minlength=len(share))
        assert counts[share == 0].sum() == 0, name
        assert stats.chisquare(counts[share > 0], share[share > 0] * size).pvalue > 0.001, name


def test_positive_and_negative_are_drawn_independently(clustered):
    feed = open_feed(clustered, smart(batch_triplets=5000))
    drawn = np.concatenate([feed.at(step)["rows"] for step in range(20)], axis=1)
    positives = clustered.train_graph.matrix().toarray() > 0
    negatives = allowed(clustered, 0, "cluster")
    cells = positives.sum(axis=1) * negatives.sum(axis=1)
    anchor = np.where(cells > 8, cells, cells.max()).argmin()
    places = np.cumsum(positives[anchor]) - 1, np.cumsum(negatives[anchor]) - 1
    of_anchor = drawn[:, drawn[2] == anchor]
    counts = np.zeros((positives[anchor].sum(), negatives[anchor].sum()))
    np.add.at(counts, (places[0][of_anchor[1]], places[1][of_anchor[0]]), 1)
    assert counts.mean() > 5
    assert stats.chisquare(counts.reshape(-1)).pvalue > 0.001


def test_edges_draw_the_same_pairs_whatever_the_negatives(clustered):
    plain = open_feed(clustered, Triplets(batch_triplets=B)).at(3)["rows"]
    rows = open_feed(clustered, smart(anchors="edges")).at(3)["rows"]
    np.testing.assert_array_equal(rows[1:], plain[1:])
    assert not np.array_equal(rows[0], plain[0])
    weighted = [
        open_feed(clustered, dataclasses.replace(config, anchors="edges", sampling="weight")).at(3)
        for config in (SMART, Triplets(batch_triplets=B))
    ]
    np.testing.assert_array_equal(weighted[0]["rows"][1:], weighted[1]["rows"][1:])
    assert not np.array_equal(weighted[0]["rows"][1:], rows[1:])


def test_each_draw_has_its_own_random_words(clustered):
    """If a word were used twice, the three rows would depend on each other."""
    sampler = TripletSampler.of(clustered.train_graph, clustered.is_train, anchors="videos")
    assert sampler.pairs.words == 2
    rows, levels = sampler.draw(7, 3, B)
    assert levels is None
    raw = raw_draws(7, 3, (3, B)) >> np.uint64(11)
    linked = np.flatnonzero(clustered.train_graph.degrees())
    train = np.flatnonzero(clustered.is_train)
    for i in range(B):
        share = [int(word) / 2**53 for word in raw[:, i]]
        anchor = linked[int(share[0] * len(linked))]
        around = np.flatnonzero(clustered.train_graph.matrix().toarray()[anchor])
        expected = [train[int(share[1] * len(train))], around[int(share[2] * len(around))], anchor]
        assert rows[:, i].tolist() == expected


def test_the_sequence_is_pinned(clustered):
    """A change here changes every run in progress: increase triplets.SEQUENCE with it."""
    rows = np.arange(0, 396)
    graph = RelationGraph.from_edges(rows, rows + 4, np.ones(396), nodes=400)
    corpus = SimpleNamespace(
        table=clustered.table,
        train_graph=graph,
        train_relations=graph,
        is_train=np.ones(400, bool),
    )
    corpus = with_levels(corpus, *(np.arange(400) // size for size in (4, 40, 400)))
    feed = open_feed(corpus, smart(batch_triplets=4, siblings_of="video"))
    # Relations join videos 4 apart, clusters hold 4 in a row: level 0 is a video's own cluster.
    assert {step: feed.at(step)["rows"].tolist() for step in (0, 1, 10**9)} == {
        0: [[349, 119, 169, 161], [344, 122, 172, 166], [348, 118, 168, 162]],
        1: [[355, 146, 205, 135], [356, 143, 210, 128], [352, 147, 206, 132]],
        1000000000: [[325, 286, 301, 107], [323, 280, 298, 102], [327, 284, 302, 106]],
    }


def test_a_curriculum_equals_the_feeds_of_its_levels_in_turn(clustered):
    options = {"siblings_of": "video", "anchors": "edges"}
    feed = open_feed(clustered, smart(curriculum_steps=(5, 9), **options))
    levels = [open_feed(clustered, smart(level=level, **options)) for level in (0, 1, 2)]
    for step in range(12):
        level = 2 if step < 5 else 1 if step < 9 else 0
        assert feed.config.negatives.level_at(step) == level
        batch, expected = feed.at(step), levels[level].at(step)
        for name, value in batch.items():
            np.testing.assert_array_equal(value, expected[name])
    assert not np.array_equal(levels[0].at(4)["rows"], levels[2].at(4)["rows"])


def test_a_curriculum_may_begin_with_all_train_videos(clustered):
    feed = open_feed(clustered, smart(curriculum_steps=(5, 9)))
    assert feed.at(4)["drawn_at"][-1].all()
    assert not feed.at(5)["drawn_at"][-1].any()
    assert "negatives are first drawn at level 2 (all train videos), then at level 1 from step 5" \
        ", at level 0 from step 9" in feed.notes[1]  # fmt: skip


def test_the_top_level_is_all_train_videos(clustered):
    feed = open_feed(clustered, smart(level=2))
    batch = feed.at(6)
    assert batch["drawn_at"].tolist() == [[False] * B, [False] * B, [True] * B]
    may = allowed(clustered, 2, "cluster")
    assert may[batch["rows"][2], batch["rows"][0]].all()
    assert feed.notes[0].startswith("negatives come from all train videos except the anchor's cl")


@pytest.mark.fault("Relations and sessions: videos without siblings at the level")
def test_the_notes_say_what_share_finds_siblings(clustered):
    config = smart(siblings_of="video", batch_triplets=4000)
    feed = open_feed(clustered, config)
    drawn = np.mean([feed.at(step)["drawn_at"].mean(axis=1) for step in range(5)], axis=0)
    shares = feed._sampler.siblings.shares(0, clustered.train_graph.degrees() > 0)
    np.testing.assert_allclose(shares[:-1], drawn, atol=0.01)
    assert shares[0] < 0.9
    note, room = feed.notes
    assert room == feed.capacities.note
    assert "at level 0 (0 is hardest) of the anchor's video" in note
    percents = [100 * shares[0], 100 * shares[1:3].sum(), 100 * shares[3]]
    expected = "{:.1f} % of them from there, {:.1f} % from higher levels, {:.1f} % from all"
    assert expected.format(*percents) in note
    by_edges = open_feed(clustered, dataclasses.replace(config, anchors="edges"))
    assert by_edges.notes != feed.notes  # there anchors are weighted by degree
    assert len(open_feed(clustered, Triplets(batch_triplets=B)).notes) == 1


@pytest.mark.fault("Relations and sessions: relations beyond the degree cap")
def test_no_negative_is_a_relation_that_the_cap_left_out(clustered):
    """All videos in an anchor's group of twenty are related to it; the cap keeps two."""
    near = clustered.hierarchy.clusters[1]
    source, target = np.triu_indices(len(near), 1)
    joined = (near[source] == near[target]) & (near[source] >= 0)
    weight = np.random.default_rng(1).integers(1, 99, joined.sum())
    relations = RelationGraph.from_edges(source[joined], target[joined], weight, nodes=len(near))
    capped = relations.capped(2)
    assert capped.edges < relations.edges
    graphs = {"train_graph": capped, "train_relations": relations}
    corpus = SimpleNamespace(**(vars(clustered) | graphs))
    corpus = with_levels(corpus, *clustered.hierarchy.clusters)
    feed = open_feed(corpus, smart(siblings_of="video"))
    related = relations.matrix().toarray() > 0
    for step in range(10):
        batch = feed.at(step)
        assert not related[batch["rows"][2], batch["rows"][0]].any()
        assert batch["negative_allowed"].all()


@pytest.mark.fault(
    "Relations and sessions: a video related to all others",
    "its triplets are dropped, and counted",
)
def test_a_video_related_to_all_others_is_its_own_negative_and_so_dropped(clustered):
    graph = clustered.train_graph
    train = np.flatnonzero(clustered.is_train)
    hub, others = train[0], train[1:]
    rows = np.concatenate(
        [graph.rows()[graph.rows() < graph.neighbours], np.full(len(others), hub)]
    )
    columns = graph.neighbours[graph.rows() < graph.neighbours]
    columns = np.concatenate([columns, others])
    graph = type(graph).from_edges(rows, columns, np.ones(len(rows)), nodes=graph.nodes)
    clusters = clustered.hierarchy.clusters
    graphs = {"train_graph": graph, "train_relations": graph}
    corpus = SimpleNamespace(**(vars(clustered) | graphs))
    corpus = with_levels(corpus, *clusters)
    feed = open_feed(corpus, smart(anchors="edges"))
    batch = feed.at(0)
    of_hub = batch["rows"][2] == hub
    assert of_hub.sum() > 3
    assert (batch["rows"][0, of_hub] == hub).all()
    assert batch["drawn_at"][-1, of_hub].all()
    assert not batch["negative_allowed"][of_hub].any()
    assert "have no allowed negative; their triplets are dropped" in feed.notes[1]


def test_the_fingerprint_covers_the_new_options(clustered):
    other_clusters = with_levels(clustered, *clustered.hierarchy.clusters[[0, 2, 2]])
    configs = [
        Triplets(batch_triplets=B),
        Triplets(batch_triplets=B, anchors="videos"),
        smart(anchors="edges"),
        SMART,
        smart(level=1),
        smart(siblings_of="video"),
        smart(curriculum_steps=(3,)),
        smart(curriculum_steps=(3, 4)),
    ]
    fingerprints = [open_feed(clustered, config).fingerprint for config in configs]
    fingerprints.append(open_feed(other_clusters).fingerprint)
    assert len(set(fingerprints)) == len(fingerprints)
    assert open_feed(other_clusters, configs[0]).fingerprint == fingerprints[0]


def test_a_batch_is_counted_in_triplets_without_classes(clustered):
    config = smart()
    classes = config.open(clustered, seed=7).spec.classes
    assert (config.unit, config.examples, classes) == ("triplets", B, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SiblingNegatives(level=-1), "level must be 0 .hardest. or more, found -1"),
        (
            lambda: SiblingNegatives(siblings_of="edge"),
            "must be 'cluster' or 'video', found 'edge'",
        ),
        (lambda: SiblingNegatives(curriculum_steps=(5, 5)), r"must rise .* found \(5, 5\)"),
        (lambda: SiblingNegatives(curriculum_steps=(0, 5)), r"begin above 0, found \(0, 5\)"),
        (lambda: Triplets(sampling="degree"), "sampling must be 'uniform' or 'weight', found 'd"),
        (lambda: Triplets(anchors="nodes"), "anchors must be 'edges' or 'videos', found 'nodes'"),
        (
            lambda: Triplets(anchors="videos", sampling="weight"),
            "choose sampling='uniform', or anchors='edges'",
        ),
    ],
)
def test_impossible_configurations_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_run_without_a_hierarchy_is_told_how_to_make_one(clustered):
    corpus = SimpleNamespace(**(vars(clustered) | {"hierarchy": None}))
    with pytest.raises(ValueError, match=r"set --corpus.hierarchy PATH, made by `python -m vid"):
        open_feed(corpus)
    assert len(open_feed(corpus, Triplets(batch_triplets=B)).notes) == 1


def test_a_hierarchy_of_another_graph_is_refused(clustered):
    hierarchy = dataclasses.replace(clustered.hierarchy, graph_fingerprint="of another")
    corpus = SimpleNamespace(**(vars(clustered) | {"hierarchy": hierarchy}))
    with pytest.raises(HierarchyError, match="made from the train graph of another, not from"):
        open_feed(corpus)


def test_a_level_that_does_not_exist_is_refused(clustered):
    with pytest.raises(
        HierarchyError, match=r"no sibling level 3 .* levels 0 to 1 exist, 2 means all tr"
    ):
        open_feed(clustered, smart(level=3))


def test_a_curriculum_from_a_level_that_does_not_exist_is_refused(clustered):
    message = r"\(5, 9, 11\) begin at sibling level 3, but level 2 already .* leave out 1 of them"
    with pytest.raises(HierarchyError, match=message):
        open_feed(clustered, smart(curriculum_steps=(5, 9, 11)))
    with pytest.raises(HierarchyError, match="begin at sibling level 3"):
        open_feed(clustered, smart(level=2, curriculum_steps=(5,)))
