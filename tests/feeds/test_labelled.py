"""The feed of labelled videos: classes, draws, faults."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from vidembed.feeds.labelled import LabelledVideos
from vidembed.graph.hierarchy import Hierarchy, HierarchyError, first_seen
from vidembed.graph.relation import RelationGraph

B = 64


def open_feed(clustered: SimpleNamespace, **changes):
    return LabelledVideos(**({"batch_videos": B} | changes)).open(clustered, seed=7)


def with_levels(clustered: SimpleNamespace, *labels) -> SimpleNamespace:
    """The same corpus with other clusters, from labels i[N] of all rows per level."""
    clusters = np.full((len(labels), len(clustered.is_train)), -1, np.int32)
    for level, label in zip(clusters, labels, strict=True):
        inside = np.unique(np.asarray(label)[clustered.is_train], return_inverse=True)[1]
        level[clustered.is_train] = first_seen(inside)
    fingerprint = clustered.train_graph.fingerprint
    hierarchy = Hierarchy(clusters=clusters, graph_fingerprint=fingerprint, parameters={})
    return SimpleNamespace(**(vars(clustered) | {"hierarchy": hierarchy}))


@pytest.mark.parametrize(("level", "least"), [(1, 1), (1, 5), (2, 2), (3, 40)])
def test_classes_are_the_large_clusters_by_descending_size(clustered, level, least):
    config = LabelledVideos(level=level, min_cluster_size=least)
    labels = config.labels(clustered)
    members: dict[int, list[int]] = {}
    for row, cluster in enumerate(clustered.hierarchy.level(level).tolist()):
        if cluster >= 0:
            members.setdefault(cluster, []).append(row)
    kept = [cluster for cluster in members if len(members[cluster]) >= least]
    kept.sort(key=lambda cluster: (-len(members[cluster]), cluster))
    expected = np.full(len(clustered.is_train), -1)
    for number, cluster in enumerate(kept):
        expected[members[cluster]] = number
    np.testing.assert_array_equal(labels.of_row, expected)
    assert labels.of_row.dtype == np.int32
    assert labels.sizes.tolist() == [len(members[cluster]) for cluster in kept]
    assert config.open(clustered, seed=7).spec.classes == len(kept)
    assert labels.dropped_clusters == len(members) - len(kept)
    assert labels.dropped_videos == clustered.is_train.sum() - labels.sizes.sum()


def test_a_batch_is_what_its_docstring_says(clustered):
    feed = open_feed(clustered, min_cluster_size=3)
    batch = feed.at(3)
    assert list(batch) == ["rows", "labels"]
    assert all(value.shape == (B,) and value.dtype == np.int32 for value in batch.values())
    expected = LabelledVideos(min_cluster_size=3).labels(clustered).of_row
    np.testing.assert_array_equal(batch["labels"], expected[batch["rows"]])


def test_only_labelled_train_videos_are_drawn_and_uniformly(clustered):
    feed = open_feed(clustered, min_cluster_size=4, batch_videos=5000)
    drawn = np.concatenate([feed.at(step)["rows"] for step in range(8)])
    counts = np.bincount(drawn, minlength=len(clustered.is_train))
    labelled = LabelledVideos(min_cluster_size=4).labels(clustered).of_row >= 0
    assert 0 < labelled.sum() < clustered.is_train.sum()
    assert counts[~labelled].sum() == 0
    assert stats.chisquare(counts[labelled]).pvalue > 0.001


def test_the_sequence_is_pinned(clustered):
    """A change here changes every run in progress: increase labelled.SEQUENCE with it."""
    is_train, groups = np.arange(400) % 3 > 0, np.array([90, 130, 80, 100])
    graph = RelationGraph.from_edges(np.array([1]), np.array([2]), np.ones(1), nodes=400)
    corpus = SimpleNamespace(**(vars(clustered) | {"is_train": is_train, "train_graph": graph}))
    corpus = with_levels(corpus, np.repeat(np.arange(4), groups))
    feed = open_feed(corpus, batch_videos=4)
    batches = {step: feed.at(step) for step in (0, 1, 10**9)}
    rows = {step: batch["rows"].tolist() for step, batch in batches.items()}
    labels = {step: batch["labels"].tolist() for step, batch in batches.items()}
    assert rows == {
        0: [347, 118, 167, 161],
        1: [352, 148, 206, 133],
        1000000000: [326, 283, 302, 106],
    }
    # Groups of rows 0-89, 90-219, 220-299, 300-399: the second is the largest, then the fourth.
    assert labels == {0: [1, 0, 0, 0], 1: [1, 0, 0, 0], 1000000000: [1, 3, 1, 0]}


def test_the_fingerprint_covers_what_the_batches_depend_on(clustered):
    other_clusters = with_levels(clustered, np.arange(400) // 50, np.arange(400) // 100)
    prints = [
        open_feed(clustered).fingerprint,
        open_feed(clustered, level=2).fingerprint,
        open_feed(clustered, min_cluster_size=3).fingerprint,
        open_feed(clustered, batch_videos=128).fingerprint,
        open_feed(other_clusters).fingerprint,
    ]
    assert len(set(prints)) == len(prints)


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
        ({"level": 0}, "level must be at least 1, found 0"),
        ({"min_cluster_size": 0}, "min_cluster_size must be at least 1, found 0"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LabelledVideos(**changes)


@pytest.mark.fault(
    "Relations and sessions: a level that does not exist, of clusters or of siblings",
)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 4}, "there is no level 4: the hierarchy has levels 1 to 3"),
        ({"level": 3, "min_cluster_size": 49}, "found 1 clusters of 49 or more videos at level 3"),
    ],
)
def test_impossible_data_are_refused(clustered, options, message):
    with pytest.raises(ValueError, match=message):
        open_feed(clustered, **options)


@pytest.mark.fault("Relations and sessions: one giant cluster, or no cluster of two videos")
def test_a_single_class_is_refused(clustered):
    corpus = with_levels(clustered, np.zeros(400), np.zeros(400))
    with pytest.raises(HierarchyError, match=r"2 classes, found 1 .* level 2: 1 clusters, 1 of th"):
        LabelledVideos().labels(corpus)
    alone = with_levels(clustered, np.arange(400))
    videos = clustered.is_train.sum()
    with pytest.raises(HierarchyError, match=f"level 1: {videos} clusters, 0 of them large enough"):
        LabelledVideos().labels(alone)


def test_a_missing_hierarchy_or_one_of_another_graph_is_refused(clustered):
    corpus = SimpleNamespace(**(vars(clustered) | {"hierarchy": None}))
    with pytest.raises(ValueError, match=r"cluster labels need clusters.*set --corpus.hierarchy"):
        open_feed(corpus)
    corpus.hierarchy = dataclasses.replace(clustered.hierarchy, graph_fingerprint="another")
    with pytest.raises(HierarchyError, match="made from the train graph another"):
        open_feed(corpus)
