"""Properties of every feed; add a new feed to FEEDS."""

import dataclasses

import numpy as np
import pytest

from vidembed.feeds.captions import VideoCaptions
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.labelled_videos import VideosWithLabels
from vidembed.feeds.negatives import SiblingNegatives
from vidembed.feeds.target_pass import TargetPass
from vidembed.feeds.triplets import Triplets
from vidembed.feeds.whole_pass import WholePass

FEEDS = {
    "triplets": Triplets(batch_triplets=64),
    "smart": Triplets(
        batch_triplets=64,
        anchors="videos",
        negatives=SiblingNegatives(siblings_of="video", curriculum_steps=(8,)),
    ),
    "labelled": LabelledVideos(batch_videos=64),
    "with labels": VideosWithLabels(batch_videos=64),
    "parts of a pass": VideosWithLabels(batch_videos=64, whole_pass=True),
    "captions": VideoCaptions(batch_pairs=64),
    "whole pass": WholePass(batch_shares=64),
    "target pass": TargetPass(batch_targets=64, factors=5),
}


@pytest.fixture(params=FEEDS.values(), ids=FEEDS)
def options(request):
    return request.param


@pytest.fixture
def opened(options, clustered):
    """Opens the feed on the small corpus, with changed options."""

    def open_feed(*, seed=7, **changes):
        return dataclasses.replace(options, **changes).open(clustered, seed=seed)

    return open_feed


def leaves(batch):
    """Entry, or (entry, modality) → array."""
    nested = {n: v if isinstance(v, dict) else {"": v} for n, v in batch.items()}
    return {(n, m): array for n, arrays in nested.items() for m, array in arrays.items()}


def assert_same(batch, expected):
    actual, expected = leaves(batch), leaves(expected)
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        np.testing.assert_array_equal(actual[name], array, err_msg=str(name))


@pytest.mark.fault(
    "Runs: unequal numbers of records per host",
    "cannot happen: batches are made of global row numbers",
)
@pytest.mark.parametrize("placement", ["device", "host"])
@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_put_together_make_the_batch_of_one(opened, placement, hosts):
    feed = opened(placement=placement)
    single = leaves(feed.at(11))
    shares = [leaves(opened(placement=placement).at(11, (host, hosts))) for host in range(hosts)]
    _, ahead, _ = next(feed.batches(11, 12, (1, hosts)))
    assert_same(ahead, feed.at(11, (1, hosts)))
    assert {name for name, _ in single} <= feed.split_axes.keys()
    assert (("features", "visual") in single) == (placement == "host")
    for name, whole in single.items():
        parts, axis = [share[name] for share in shares], feed.split_axes[name[0]]
        for part in parts if axis is None else [np.concatenate(parts, axis)]:
            np.testing.assert_array_equal(part, whole, err_msg=str(name))


@pytest.mark.parametrize("placement", ["device", "host"])
@pytest.mark.parametrize("threads", [0, 2])
def test_batches_from_any_start_are_the_same_batches(opened, placement, threads):
    feed, seen = opened(placement=placement, read_threads=threads), []
    for step, batch, waited in feed.batches(5, 25):
        seen.append(step)
        assert_same(batch, feed.at(step))
        assert waited >= 0
    assert seen == list(range(5, 25))
    resumed = opened(placement=placement, read_threads=threads)
    step, batch, _ = next(resumed.batches(23, 25))
    assert step == 23
    assert_same(batch, feed.at(23))
    far = 10**9
    assert_same(next(feed.batches(far, far + 3))[1], feed.at(far))
    assert list(feed.batches(4, 4)) == []


def test_features_are_sent_as_stored_in_separate_memory(opened, clustered):
    feed, table = opened(placement="host"), clustered.table
    batch = feed.at(2)
    for name, stored in table.features.items():
        assert batch["features"][name].dtype == stored.dtype
        np.testing.assert_array_equal(batch["features"][name], stored[batch["rows"]])
    assert batch["present"].keys() == {"audio"}
    np.testing.assert_array_equal(batch["present"]["audio"], table.present["audio"][batch["rows"]])
    np.testing.assert_array_equal(feed.ids_at(2), table.ids[batch["rows"]])
    batch["features"]["visual"][:] = 0
    assert feed.at(2)["features"]["visual"].any()


def test_steps_differ_and_seeds_differ(opened):
    drawn = [opened(seed=seed).at(step)["rows"] for seed in (7, 8) for step in (0, 1)]
    assert len({rows.tobytes() for rows in drawn}) == 4


def test_how_batches_are_read_does_not_change_the_fingerprint(opened):
    same = {"placement": "host", "read_threads": 1, "prefetch_batches": 9}
    assert opened(**same).fingerprint == opened().fingerprint
    assert opened(seed=8).fingerprint != opened().fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch_UNIT must be at least 1, found 0"),
        ({"placement": "disk"}, "placement must be 'automatic', 'device' or 'host', found"),
        ({"read_threads": -1}, "read_threads must lie between 0 and prefetch_batches"),
        ({"read_threads": 5}, "found 5 threads and 4 batches"),
    ],
)
def test_impossible_options_are_refused(opened, options, changes, message):
    changes = {f"batch_{options.unit}" if n == "batch" else n: v for n, v in changes.items()}
    with pytest.raises(ValueError, match=message.replace("UNIT", options.unit)):
        opened(**changes)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ((2, 2), "host 2 is not one of 2 hosts"),
        ((0, 3), "batch_UNIT must .* found 64 UNIT on 3 hosts; use 63 or 66"),
        ((0, 128), "found 64 UNIT on 128 hosts; use 128"),
    ],
)
def test_hosts_that_cannot_share_a_batch_are_refused(opened, options, part, message):
    feed = opened()
    for read in (lambda: feed.at(0, part), lambda: next(feed.batches(0, 1, part))):
        with pytest.raises(ValueError, match=message.replace("UNIT", options.unit)):
            read()


def test_a_negative_step_is_refused(opened):
    with pytest.raises(ValueError, match="from 0 on, found -1"):
        opened().at(-1)
