"""The feed of labelled videos: classes, draws, hosts, resuming, placements, faults."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from vidembed.feeds.labelled import LabelledFeed, LabelledVideos
from vidembed.graph.hierarchy import Hierarchy, HierarchyError, first_seen
from vidembed.graph.relation import RelationGraph

B = 64


def open_feed(clustered: SimpleNamespace, *, seed: int = 7, hosts=(0, 1), **changes):
    config = LabelledVideos(**({"batch_videos": B} | changes))
    return config.open(clustered, seed=seed, process_index=hosts[0], process_count=hosts[1])


def with_levels(clustered: SimpleNamespace, *labels) -> SimpleNamespace:
    """The same corpus with other clusters: labels i[N] of all rows, level by level."""
    clusters = np.full((len(labels), len(clustered.is_train)), -1, np.int32)
    for level, label in zip(clusters, labels, strict=True):
        inside = np.unique(np.asarray(label)[clustered.is_train], return_inverse=True)[1]
        level[clustered.is_train] = first_seen(inside)
    fingerprint = clustered.train_graph.fingerprint
    hierarchy = Hierarchy(clusters=clusters, graph_fingerprint=fingerprint, parameters={})
    return SimpleNamespace(**(vars(clustered) | {"hierarchy": hierarchy}))


@pytest.mark.parametrize(("level", "least"), [(1, 1), (1, 5), (2, 2), (3, 40)])
def test_classes_are_the_large_clusters_by_falling_size(clustered, level, least):
    config = LabelledVideos(level=level, min_cluster_size=least)
    labels = config.labels(clustered)
    members: dict[int, list[int]] = {}
    for row, cluster in enumerate(clustered.hierarchy.level(level).tolist()):
        if cluster >= 0:
            members.setdefault(cluster, []).append(row)
    kept = [cluster for cluster in members if len(members[cluster]) >= least]
    kept.sort(key=lambda cluster: (-len(members[cluster]), cluster))
    wanted = np.full(len(clustered.is_train), -1)
    for number, cluster in enumerate(kept):
        wanted[members[cluster]] = number
    np.testing.assert_array_equal(labels.of_row, wanted)
    assert labels.of_row.dtype == np.int32
    assert labels.sizes.tolist() == [len(members[cluster]) for cluster in kept]
    assert config.classes(clustered) == len(kept)
    assert labels.dropped_clusters == len(members) - len(kept)
    assert labels.dropped_videos == clustered.is_train.sum() - labels.sizes.sum()


def test_a_batch_is_what_its_docstring_says(clustered):
    feed = open_feed(clustered, min_cluster_size=3)
    batch = feed.at(3)
    assert list(batch) == ["rows", "labels"]
    assert all(value.shape == (B,) and value.dtype == np.int32 for value in batch.values())
    wanted = LabelledVideos(min_cluster_size=3).labels(clustered).of_row
    np.testing.assert_array_equal(batch["labels"], wanted[batch["rows"]])
    np.testing.assert_array_equal(feed.ids_at(3), clustered.table.ids[batch["rows"]])
    host = open_feed(clustered, min_cluster_size=3, placement="host").at(3)
    for name, stored in clustered.table.features.items():
        assert host["features"][name].dtype == stored.dtype
        np.testing.assert_array_equal(host["features"][name], stored[batch["rows"]])
    present = clustered.table.present["audio"][batch["rows"]]
    np.testing.assert_array_equal(host["present"]["audio"], present)


def test_labelled_train_videos_are_drawn_alike_and_no_others(clustered):
    feed = open_feed(clustered, min_cluster_size=4, batch_videos=5000)
    drawn = np.concatenate([feed.at(step)["rows"] for step in range(8)])
    found = np.bincount(drawn, minlength=len(clustered.is_train))
    labelled = LabelledVideos(min_cluster_size=4).labels(clustered).of_row >= 0
    assert 0 < labelled.sum() < clustered.is_train.sum()
    assert found[~labelled].sum() == 0
    assert stats.chisquare(found[labelled]).pvalue > 0.001


def test_the_sequence_is_pinned(clustered):
    """A change here changes every run in progress: raise labelled.SEQUENCE with it."""
    is_train, groups = np.arange(400) % 3 > 0, np.array([90, 130, 80, 100])
    graph = RelationGraph.from_edges(np.array([1]), np.array([2]), np.ones(1), nodes=400)
    corpus = SimpleNamespace(**(vars(clustered) | {"is_train": is_train, "train_graph": graph}))
    corpus = with_levels(corpus, np.repeat(np.arange(4), groups))
    feed = open_feed(corpus, batch_videos=4)
    found = {step: feed.at(step) for step in (0, 1, 10**9)}
    rows = {step: batch["rows"].tolist() for step, batch in found.items()}
    labels = {step: batch["labels"].tolist() for step, batch in found.items()}
    assert rows == {
        0: [347, 118, 167, 161],
        1: [352, 148, 206, 133],
        1000000000: [326, 283, 302, 106],
    }
    # Groups of rows 0-89, 90-219, 220-299, 300-399: the second is the largest, then the fourth.
    assert labels == {0: [1, 0, 0, 0], 1: [1, 0, 0, 0], 1000000000: [1, 3, 1, 0]}


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_put_together_make_the_batch_of_one(clustered, hosts):
    alone = open_feed(clustered, placement="host").at(11)
    shares = [
        open_feed(clustered, placement="host", hosts=(host, hosts)).at(11) for host in range(hosts)
    ]
    assert alone.keys() == LabelledFeed.split_axes.keys()
    for name, axis in LabelledFeed.split_axes.items():
        for modality in alone[name] if isinstance(alone[name], dict) else [None]:
            parts = [s[name][modality] if modality else s[name] for s in (alone, *shares)]
            for part in parts[1:] if axis is None else [np.concatenate(parts[1:], axis)]:
                np.testing.assert_array_equal(part, parts[0])


@pytest.mark.parametrize("placement", ["device", "host"])
def test_batches_from_any_start_are_the_same_batches(clustered, placement):
    feed = open_feed(clustered, placement=placement)
    seen = []
    for step, batch, waited in open_feed(clustered, placement=placement).batches(5, 20):
        seen.append(step)
        wanted = feed.at(step)
        assert batch.keys() == wanted.keys()
        np.testing.assert_array_equal(batch["rows"], wanted["rows"])
        np.testing.assert_array_equal(batch["labels"], wanted["labels"])
        if placement == "host":
            for name, value in wanted["features"].items():
                np.testing.assert_array_equal(batch["features"][name], value)
        assert waited >= 0
    assert seen == list(range(5, 20))


def test_steps_differ_and_seeds_differ(clustered):
    drawn = [open_feed(clustered, seed=seed).at(step)["rows"] for seed, step in [(7, 0), (7, 1)]]
    drawn += [open_feed(clustered, seed=8).at(step)["rows"] for step in (0, 1)]
    assert len({rows.tobytes() for rows in drawn}) == 4


def test_the_fingerprint_covers_what_the_batches_depend_on(clustered):
    other = with_levels(clustered, np.arange(400) // 50, np.arange(400) // 100)
    prints = [
        open_feed(clustered).fingerprint,
        open_feed(clustered, seed=8).fingerprint,
        open_feed(clustered, level=2).fingerprint,
        open_feed(clustered, min_cluster_size=3).fingerprint,
        open_feed(clustered, batch_videos=128).fingerprint,
        open_feed(other).fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    same = {"placement": "host", "read_threads": 1, "prefetch_batches": 9}
    assert open_feed(clustered, hosts=(1, 2), **same).fingerprint == prints[0]


def test_the_notes_count_classes_and_what_is_left_out(clustered):
    label = np.where(np.arange(400) < 300, np.arange(400) // 100, np.arange(400))
    corpus = with_levels(clustered, label)
    train = clustered.is_train
    largest = max(train[:100].sum(), train[100:200].sum(), train[200:300].sum())
    assert open_feed(corpus).notes == (
        f"3 classes: the clusters of 2 or more videos at level 1, {train[:300].sum()} videos in "
        f"all, {largest} in the largest; {train[300:].sum()} smaller clusters with "
        f"{train[300:].sum()} videos are left out",
    )


def test_a_batch_is_counted_in_videos():
    config = LabelledVideos(batch_videos=B)
    assert (config.unit, config.examples) == ("videos", B)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_videos": 0}, "batch_videos must be at least 1, found 0"),
        ({"level": 0}, "level must be at least 1, found 0"),
        ({"min_cluster_size": 0}, "min_cluster_size must be at least 1, found 0"),
        ({"placement": "disk"}, "placement must be 'device' or 'host', found 'disk'"),
        ({"read_threads": 5}, "found 5 threads and 4 batches"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LabelledVideos(**changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosts": (0, 3)}, "batch_videos must be a multiple of .* found 64 videos on 3 hosts"),
        ({"hosts": (2, 2)}, r"process_index must lie in \[0, 2\), found 2"),
        ({"seed": -1}, "seed must lie in"),
        ({"level": 4}, "there is no level 4: the hierarchy has levels 1 to 3"),
        ({"level": 3, "min_cluster_size": 49}, "found 1 clusters of 49 or more videos at level 3"),
    ],
)
def test_impossible_data_are_refused(clustered, options, message):
    with pytest.raises(ValueError, match=message):
        open_feed(clustered, **options)


def test_one_cluster_is_no_classification(clustered):
    corpus = with_levels(clustered, np.zeros(400), np.zeros(400))
    with pytest.raises(HierarchyError, match=r"2 classes, found 1 .* level 2: 1 clusters, 1 of th"):
        LabelledVideos().classes(corpus)
    alone = with_levels(clustered, np.arange(400))
    videos = clustered.is_train.sum()
    with pytest.raises(HierarchyError, match=f"level 1: {videos} clusters, 0 of them large enough"):
        LabelledVideos().classes(alone)


def test_a_run_without_a_hierarchy_or_with_anothers_is_refused(clustered):
    corpus = SimpleNamespace(**(vars(clustered) | {"hierarchy": None}))
    with pytest.raises(ValueError, match=r"cluster labels need clusters.*set --corpus.hierarchy"):
        open_feed(corpus)
    corpus.hierarchy = dataclasses.replace(clustered.hierarchy, graph_fingerprint="another")
    with pytest.raises(HierarchyError, match="made from the train graph another"):
        open_feed(corpus)


def test_a_negative_step_is_refused(clustered):
    with pytest.raises(ValueError, match="from 0 on, found -1"):
        open_feed(clustered).at(-1)
