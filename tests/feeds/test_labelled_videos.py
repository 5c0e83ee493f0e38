"""The feed of videos with labels: passes, parts of a pass, and the statistics a run starts from."""

from dataclasses import replace
from itertools import pairwise

import jax
import numpy as np
import pytest

from tests.records.recorded_videos import LAYOUT, write
from vidembed.corpora.labelled import LabelledPaths
from vidembed.feeds.labelled_videos import VideosWithLabels
from vidembed.feeds.passes import order_of_pass
from vidembed.records.bytecode import dequantise
from vidembed.records.importing import import_videos

SIZE = 64
READS = ("visual", "audio")


def opened(corpus, *, seed=3, **options):
    return VideosWithLabels(batch_videos=SIZE, **options).open(corpus, seed=seed, reads=READS)


def rows_of(feed, steps):
    return np.concatenate([feed.at(step)["rows"] for step in range(steps)])


def test_every_pass_has_each_labelled_train_video_once_in_another_order(clustered):
    feed = opened(clustered)
    size, _ = feed.one_pass
    assert size == len(clustered.train_rows)
    rows = rows_of(feed, -(-3 * size // SIZE))[: 3 * size].reshape(3, size)
    for order in rows:
        assert sorted(order) == clustered.train_rows.tolist()
    assert (rows[0] != rows[1]).mean() > 0.9
    assert (rows[1] != rows[2]).mean() > 0.9
    assert (rows_of(opened(clustered, seed=4), 2) != rows_of(feed, 2)).mean() > 0.9


def test_modalities_that_the_model_does_not_read_are_named(clustered):
    assert opened(clustered).notes == ()
    feed = VideosWithLabels(batch_videos=SIZE).open(clustered, seed=3, reads=("audio",))
    assert feed.notes == (
        "the model does not read visual of the data, only audio (--task.model.modalities)",
    )


def test_labels_are_those_of_the_rows(clustered):
    batch = opened(clustered).at(5)
    assert batch["counts"].tolist() == [1.0] * SIZE
    for row, classes in zip(batch["rows"], batch["labels"]):
        known = clustered.labels.of(np.array([row])).values.tolist()
        assert classes[classes >= 0].tolist() == known
        assert len(known) >= 1


def test_the_parts_of_a_pass_weigh_every_video_alike(clustered):
    feed = opened(clustered, whole_pass=True)
    size, _ = feed.one_pass
    parts = -(-size // SIZE)
    weight = np.zeros(len(clustered.is_train))
    for step in range(parts):
        batch = feed.at(step)
        np.add.at(weight, batch["rows"], batch["counts"] * batch["weight"] / SIZE / parts)
    np.testing.assert_allclose(weight[clustered.train_rows], 1 / size, rtol=1e-6)
    assert weight.sum() == np.float64(weight[clustered.train_rows].sum())
    again = feed.at(parts)
    np.testing.assert_array_equal(again["rows"], feed.at(0)["rows"])


def test_statistics_are_those_of_numpy(clustered):
    feed = opened(clustered)
    known = feed.statistics()
    videos = clustered.train_rows
    counts = np.bincount(clustered.labels.of(videos).values, minlength=9)
    np.testing.assert_array_equal(known.class_videos, counts)
    assert known.videos == len(videos)
    for modality, array in clustered.table.features.items():
        rows = dequantise(array[clustered.is_train & clustered.table.has(modality)])
        covariance = np.cov(rows.astype(np.float64), rowvar=False, bias=True)
        result = known.inputs[modality]
        directions = result["directions"].astype(np.float64)
        rotated = directions.T @ covariance @ directions
        np.testing.assert_allclose(rotated, np.diag(result["variances"]), atol=1e-4)
        assert (np.diff(result["variances"]) <= 0).all()
        np.testing.assert_allclose(directions.T @ directions, np.eye(len(directions)), atol=1e-5)


@pytest.mark.parametrize("length", [2, 5, 16, 1000])
@pytest.mark.parametrize("size", [1, 2, 97])
def test_a_pass_in_runs_has_each_place_once_and_keeps_neighbours(size, length):
    orders = [order_of_pass(3, number, size, length).tolist() for number in range(12)]
    for order in orders:
        assert sorted(order) == list(range(size))
        breaks = [place for before, place in pairwise(order) if place != before + 1]
        # Runs begin a whole number of lengths apart, but for the first of all places.
        assert len({place % length for place in [order[0], *breaks] if place}) <= 1
    if size == 97 and length < size:
        assert len({tuple(order) for order in orders}) == 12
        assert len({order[0] % length for order in orders if order[0]}) > 1


def test_a_feed_in_runs_is_another_sequence_of_the_same_videos(clustered):
    feed, runs = opened(clustered), opened(clustered, run_length=8)
    assert opened(clustered, run_length=1).fingerprint == feed.fingerprint
    assert (
        len({feed.fingerprint, runs.fingerprint, opened(clustered, run_length=9).fingerprint}) == 3
    )
    size, _ = runs.one_pass
    rows = rows_of(runs, -(-2 * size // SIZE))[: 2 * size].reshape(2, size)
    for order in rows:
        assert sorted(order) == clustered.train_rows.tolist()
        place = np.searchsorted(clustered.train_rows, order)
        assert (np.diff(place) == 1).mean() > 0.8
    assert (rows[0] != rows[1]).mean() > 0.9
    with pytest.raises(ValueError, match="run_length must be at least 1, found 0"):
        opened(clustered, run_length=0)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """The same videos as records on disk and as a table."""
    folder = tmp_path_factory.mktemp("records")
    write(folder)
    table = str(tmp_path_factory.mktemp("imported") / "table")
    import_videos(folder, table, LAYOUT.importing())
    return LabelledPaths(records=str(folder), layout=LAYOUT), LabelledPaths(table=table)


def test_training_from_records_is_training_from_the_table(paths):
    records, table = (part.open() for part in paths)
    assert records.rows == table.rows
    assert records.space == table.space
    options = VideosWithLabels(batch_videos=12, run_length=4)
    feed = options.open(records, seed=5, reads=READS)
    expected = replace(options, placement="host").open(table, seed=5, reads=READS)
    assert feed.fingerprint == expected.fingerprint
    assert feed.spec == expected.spec
    assert feed.resident() == {}
    for threads in (0, 1, 3):
        threaded = replace(feed.config, read_threads=threads).open(records, seed=5)
        for step, batch, _ in threaded.batches(7, 19):
            jax.tree.map(np.testing.assert_array_equal, batch, expected.at(step))
            np.testing.assert_array_equal(feed.ids_at(step), table.table.ids[batch["rows"]])
    shares = [feed.at(3, (host, 3)) for host in range(3)]
    for name in ("visual", "audio"):
        whole = np.concatenate([share["features"][name] for share in shares])
        np.testing.assert_array_equal(whole, expected.at(3)["features"][name])
        assert len(shares[0]["features"][name]) == 4
    jax.tree.map(np.testing.assert_array_equal, feed.statistics(), expected.statistics())


def test_records_are_gathered_on_the_host_unless_they_cannot_be(paths):
    records, table = (part.open() for part in paths)
    assert VideosWithLabels().open(table, seed=0).config.placement == "device"
    with pytest.raises(ValueError, match=r"stay on disk: use --feed\.placement host"):
        VideosWithLabels(placement="device").open(records, seed=0)
