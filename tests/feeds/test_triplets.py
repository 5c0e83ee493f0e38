"""The feed of triplets: purity, threads, capacities, faults."""

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from vidembed.feeds import feed as feeds
from vidembed.feeds.feed import HELD_BATCHES
from vidembed.feeds.triplets import TripletFeed, Triplets
from vidembed.graph.relation import LeakError, RelationGraph
from vidembed.records.table import FeatureTable

VIDEOS = 400


def make_table(videos: int = VIDEOS, *, audio_missing: bool = False) -> FeatureTable:
    rng = np.random.default_rng(1)
    return FeatureTable(
        ids=np.array([b"v%05d" % row for row in range(videos)]),
        features={
            "visual": rng.integers(0, 256, (videos, 6), np.uint8),
            "audio": rng.normal(size=(videos, 3)).astype(ml_dtypes.bfloat16),
        },
        present={"audio": rng.random(videos) < 0.8} if audio_missing else {},
        label_offsets=np.zeros(videos + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )


def make_graph(videos: int = VIDEOS, edges: int = 1500) -> RelationGraph:
    rng = np.random.default_rng(2)
    source, target = rng.integers(0, videos, (2, edges))
    real = source != target
    weight = rng.integers(1, 9, edges)[real]
    return RelationGraph.from_edges(source[real], target[real], weight, nodes=videos)


IS_TRAIN = np.random.default_rng(3).random(VIDEOS) < 0.7


def open_feed(config: Triplets | None = None, *, within: bool = True, **changes) -> TripletFeed:
    options = {"table": make_table(), "graph": make_graph(), "is_train": IS_TRAIN, "seed": 7}
    options |= changes
    table, graph, is_train = (options.pop(name) for name in ("table", "graph", "is_train"))
    corpus = SimpleNamespace(
        table=table,
        train_graph=graph.within(is_train) if within else graph,
        train_relations=options.pop("relations", graph),
        is_train=is_train,
    )
    return (config or Triplets(batch_triplets=64)).open(corpus, **options)


def assert_same(actual: dict, expected: dict) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_same(actual[name], value)
        else:
            assert actual[name].dtype == value.dtype
            np.testing.assert_array_equal(actual[name], value, err_msg=name)


def test_a_batch_is_what_its_docstring_says():
    feed, graph = open_feed(), make_graph()
    batch = feed.at(3)
    assert list(batch) == ["rows", "first", "negative_slot", "negative_allowed", "forbidden"]
    types = {name: (value.dtype.str, value.shape) for name, value in batch.items()}
    assert types == {
        "rows": ("<i4", (3, 64)),
        "first": ("|b1", (3, 64)),
        "negative_slot": ("<i4", (64,)),
        "negative_allowed": ("|b1", (64,)),
        "forbidden": ("<i4", (2, feed.capacities.ordinary)),
    }
    related = graph.matrix().toarray() > 0
    negatives, positives, anchors = batch["rows"]
    assert related[anchors, positives].all()
    flat = batch["rows"].reshape(-1)
    assert np.flatnonzero(batch["first"]).tolist() == sorted(np.unique(flat, return_index=True)[1])
    assert batch["negative_slot"].max() < 64
    np.testing.assert_array_equal(flat[batch["negative_slot"]], negatives)
    assert batch["first"].reshape(-1)[batch["negative_slot"]].all()
    forbidden = np.zeros((65, 3 * 64 + 1), bool)
    forbidden[tuple(batch["forbidden"])] = True
    assert forbidden[64].tolist() == [False] * 192 + [True]
    never = related[anchors] | (np.arange(VIDEOS) == anchors[:, None])
    np.testing.assert_array_equal(forbidden[:64, :192], never[:, flat] & batch["first"].reshape(-1))
    np.testing.assert_array_equal(batch["negative_allowed"], ~never[np.arange(64), negatives])


# sampling -> step -> (rows, the forbidden slots of each anchor)
GOLDEN: dict = {
    "uniform": {
        0: (
            [[0, 5, 2, 4], [7, 0, 2, 2], [6, 2, 1, 1]],
            [[8, 4], [2, 0, 10], [10, 2, 0], [10, 2, 0]],
        ),
        1: (
            [[5, 5, 3, 7], [6, 2, 2, 2], [7, 1, 3, 0]],
            [[3, 4], [9, 5, 11], [2, 5], [11, 5, 9]],
        ),
        1000000000: (
            [[4, 5, 4, 6], [5, 5, 4, 0], [4, 4, 5, 2]],
            [[0, 1], [0, 1], [1, 0], [11, 7]],
        ),
    },
    "weight": {
        0: (
            [[0, 5, 2, 4], [7, 1, 2, 2], [6, 2, 1, 1]],
            [[8, 4], [2, 5, 0], [5, 2, 0], [5, 2, 0]],
        ),
        1: (
            [[5, 5, 3, 7], [6, 2, 1, 2], [7, 1, 2, 0]],
            [[3, 4], [6, 5, 11], [5, 6, 11, 2], [11, 5, 6]],
        ),
        1000000000: (
            [[4, 5, 4, 6], [7, 5, 4, 0], [6, 4, 5, 2]],
            [[3, 4], [0, 1], [1, 0], [11, 7]],
        ),
    },
}


def test_the_fingerprint_of_a_default_feed_is_pinned():
    """A run in progress is refused if it changes; options added later must not change it."""
    config = Triplets(batch_triplets=64)
    table = make_table(audio_missing=True)
    assert open_feed(config, table=table).fingerprint == "7bc7b0ec4e3d91e48ba532d7c45c362e"


@pytest.mark.parametrize("sampling", ["uniform", "weight"])
def test_the_sequence_is_pinned(sampling):
    """A change here changes every run in progress: increase triplets.SEQUENCE with it."""
    graph = RelationGraph.from_edges(
        np.array([0, 0, 1, 2, 4, 6]),
        np.array([1, 2, 2, 3, 5, 7]),
        np.array([1, 1, 9, 1, 1, 5]),
        nodes=8,
    )
    feed = open_feed(
        Triplets(batch_triplets=4, sampling=sampling),
        table=make_table(8),
        graph=graph,
        is_train=np.ones(8, bool),
    )
    for step, (rows, forbidden) in GOLDEN[sampling].items():
        assert feed.at(step)["rows"].tolist() == rows
        anchors, slots = feed.at(step)["forbidden"]
        assert [slots[anchors == anchor].tolist() for anchor in range(4)] == forbidden


def test_threads_and_order_change_nothing():
    graph = make_graph(20_000, 100_000)
    options = {"table": make_table(20_000), "graph": graph, "is_train": np.ones(20_000, bool)}
    config = Triplets(batch_triplets=1500, placement="host")
    steps = list(range(24))
    expected = {step: open_feed(config, **options).at(step) for step in steps}
    feed = open_feed(config, **options)
    order = np.random.default_rng(0).permutation(np.repeat(steps, 4)).tolist()
    with ThreadPoolExecutor(8) as pool:
        for step, batch in zip(order, pool.map(feed.at, order), strict=True):
            assert_same(batch, expected[step])


def test_an_evaluation_video_is_never_drawn():
    feed = open_feed()
    drawn = np.unique([feed.at(step)["rows"] for step in range(40)])
    assert IS_TRAIN[drawn].all()
    assert len(drawn) == IS_TRAIN.sum()


def test_a_leak_stops_the_feed():
    with pytest.raises(LeakError, match="evaluation split"):
        open_feed(within=False)


def overwritten(feed: TripletFeed, held: int) -> int:
    """Count batches changed after `held` further ones were taken and all workers caught up."""
    taken, changed, started = [], 0, []
    make = feed._make

    def counted(step, own, out):
        batch = make(step, own, out=out)
        started.append(step)
        return batch

    feed._make = counted
    for step, batch, _ in feed.batches(0, 24):
        taken.append((step, batch))
        ahead = min(24, step + 1 + feed.config.prefetch_batches)
        deadline = time.monotonic() + 20
        while len(started) < ahead and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(started) == ahead
        if len(taken) > held:
            oldest, batch = taken.pop(0)
            expected = make(oldest, slice(None), out=None)["features"]["visual"]
            changed += not np.array_equal(batch["features"]["visual"], expected)
    return changed


@pytest.mark.parametrize(("threads", "prefetch"), [(0, 0), (1, 1), (2, 5)])
def test_a_batch_outlives_the_promised_number_of_further_ones_and_no_more(threads, prefetch):
    config = Triplets(
        batch_triplets=8, placement="host", read_threads=threads, prefetch_batches=prefetch
    )
    assert overwritten(open_feed(config), HELD_BATCHES) == 0
    assert overwritten(open_feed(config), HELD_BATCHES + 1) > 0


def test_a_ring_that_is_too_small_would_be_noticed(monkeypatch):
    monkeypatch.setattr(feeds, "HELD_BATCHES", HELD_BATCHES - 1)
    config = Triplets(batch_triplets=8, placement="host")
    assert overwritten(open_feed(config), HELD_BATCHES) > 0


def test_the_wait_for_data_is_measured(monkeypatch):
    feed = open_feed(Triplets(batch_triplets=8, read_threads=0, prefetch_batches=0))
    make = feed._make
    monkeypatch.setattr(feed, "_make", lambda *of, out: (time.sleep(0.02), make(*of, out))[1])
    assert all(waited >= 0.02 for _, _, waited in feed.batches(0, 3))


def test_closing_early_ends_the_threads():
    def readers() -> int:
        return sum("grain-prefetch" in thread.name for thread in threading.enumerate())

    before = readers()
    batches = open_feed().batches(0, 1000)
    next(batches)
    assert readers() > before
    iterator = batches.gi_frame.f_locals[
        "iterator"
    ]  # a reference, so that only close can end the threads
    batches.close()
    deadline = time.monotonic() + 10
    while readers() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert readers() == before
    del iterator


@pytest.mark.fault("Records: a worker that raises or dies")
def test_a_fault_in_a_reading_thread_reaches_the_caller(monkeypatch):
    feed = open_feed()

    def broken(step, own, out):
        raise OSError("the table is gone")

    monkeypatch.setattr(feed, "_make", broken)
    with pytest.raises(OSError, match="the table is gone"):
        next(feed.batches(0, 3))


def star(videos: int = VIDEOS, *, others: int = 600) -> RelationGraph:
    """Video 0 is related to half of the others; `others` random pairs are added."""
    rng = np.random.default_rng(4)
    source, target = rng.integers(1, videos, (2, others))
    real = source != target
    hub = np.arange(1, videos, 2)
    source = np.concatenate([source[real], np.zeros(len(hub), int)])
    target = np.concatenate([target[real], hub])
    return RelationGraph.from_edges(source, target, np.ones(len(source)), nodes=videos)


@pytest.mark.fault("Relations and sessions: a graph with hubs")
def test_a_batch_that_needs_it_takes_the_large_capacity_and_says_so():
    graph, everyone = star(), np.ones(VIDEOS, bool)
    feed = open_feed(Triplets(batch_triplets=600), graph=graph, is_train=everyone)
    assert feed.events == ("large_forbidden",)
    usual = feed.at(0)
    assert usual["forbidden"].shape == (2, feed.capacities.ordinary)
    assert list(feed.events_of(usual)) == []
    # As if the first batches had been unusually small.
    count = int((usual["forbidden"][0] < 600).sum())
    feed.capacities = dataclasses.replace(feed.capacities, ordinary=count - 1)
    large = feed.at(0)
    assert large["forbidden"].shape == (2, feed.capacities.large)
    assert list(feed.events_of(large)) == ["large_forbidden"]
    np.testing.assert_array_equal(large["forbidden"][:, :count], usual["forbidden"][:, :count])
    assert (large["forbidden"][:, count:] == [[600], [1800]]).all()
    feed.capacities = dataclasses.replace(feed.capacities, large=count - 1)
    with pytest.raises(ValueError, match=f"batch 0 has {count:,} forbidden pairs"):
        feed.at(0)


def test_no_batch_of_a_graph_with_hubs_exceeds_the_large_capacity():
    graph, everyone = star(), np.ones(VIDEOS, bool)
    for sampling, anchors in (("uniform", "edges"), ("weight", "edges"), ("uniform", "videos")):
        config = Triplets(batch_triplets=64, sampling=sampling, anchors=anchors)
        feed = open_feed(config, graph=graph, is_train=everyone)
        for step in range(200):
            feed.at(step)


def test_where_one_capacity_is_enough_nothing_is_counted():
    """A triangle: an anchor has itself and two others, for any number of triplets."""
    triangle = RelationGraph.from_edges([0, 1, 2], [1, 2, 0], [1, 1, 1], nodes=VIDEOS)
    feed = open_feed(graph=triangle, is_train=np.ones(VIDEOS, bool))
    assert feed.capacities.ordinary == feed.capacities.large
    assert feed.events == ()
    assert feed.notes == (feed.capacities.note,)


def test_a_graph_that_may_need_more_room_than_there_is_is_refused():
    config = Triplets(batch_triplets=600, max_forbidden_pairs=1500)
    with pytest.raises(
        ValueError, match=r"above max_forbidden_pairs 1,500; the largest degrees .* 2\d\d"
    ):
        open_feed(config, graph=star(), is_train=np.ones(VIDEOS, bool))


@pytest.mark.fault(
    "Relations and sessions: relations beyond the degree cap",
    "heeded: never a negative, mined, sampled or drawn from siblings",
)
def test_positives_come_from_the_capped_graph_and_forbidden_pairs_from_all_relations():
    """A clique of 120: every negative that the capped graph would allow is a relation."""
    source, target = np.triu_indices(120, 1)
    weight = np.random.default_rng(5).integers(1, 99, len(source))
    relations = RelationGraph.from_edges(source, target, weight, nodes=VIDEOS)
    capped = relations.capped(10)
    feed = open_feed(graph=capped, relations=relations, is_train=np.ones(VIDEOS, bool))
    related, positive = (graph.matrix().toarray() > 0 for graph in (relations, capped))
    for step in range(5):
        batch = feed.at(step)
        negatives, positives, anchors = batch["rows"]
        assert positive[anchors, positives].all()
        anchor, slot = batch["forbidden"][:, batch["forbidden"][0] < 64]
        videos = batch["rows"].reshape(-1)
        for i in range(64):
            among = {*videos[slot[anchor == i]].tolist()}
            assert among == {v for v in videos.tolist() if v < 120}
        np.testing.assert_array_equal(
            batch["negative_allowed"], ~related[anchors, negatives] & (anchors != negatives)
        )
    assert feed.fingerprint != open_feed(graph=capped, is_train=np.ones(VIDEOS, bool)).fingerprint


def test_the_fingerprint_covers_what_the_batches_depend_on():
    config = Triplets(batch_triplets=64)
    # Move a train video without relations: only the split changes, not the train graph.
    alone = np.flatnonzero(IS_TRAIN)[0]
    graph = make_graph().within(np.arange(VIDEOS) != alone)
    moved = IS_TRAIN.copy()
    moved[alone] = False
    assert (
        open_feed(config, graph=graph).fingerprint
        != open_feed(config, graph=graph, is_train=moved).fingerprint
    )
    prints = [
        open_feed(config).fingerprint,
        open_feed(config, graph=make_graph(edges=1499)).fingerprint,
        open_feed(config, table=make_table(audio_missing=True)).fingerprint,
        open_feed(dataclasses.replace(config, batch_triplets=128)).fingerprint,
        open_feed(dataclasses.replace(config, sampling="weight")).fingerprint,
        open_feed(config, relations=make_graph(edges=1501)).fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    same = dataclasses.replace(config, max_forbidden_pairs=2**20)
    assert open_feed(same).fingerprint == prints[0]


EMPTY = RelationGraph.from_edges(np.zeros(0), np.zeros(0), np.zeros(0), nodes=VIDEOS)


@pytest.mark.fault("Records: empty split")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"graph": EMPTY}, "no edge between the .* train videos; lower the"),
        ({"is_train": np.arange(VIDEOS) == 5}, "at least 2 train videos, found 1 of 400"),
        (
            {"is_train": np.ones(5, bool), "within": False},
            "found 400 videos, 400 graph nodes and 5 split entries",
        ),
        ({"table": make_table(9)}, "same rows, found 9 videos"),
    ],
)
def test_impossible_data_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        open_feed(**changes)
