"""The feed of videos with labels: passes, parts of a pass, and the statistics a run starts from."""

import numpy as np

from vidembed.feeds.labelled_videos import VideosWithLabels
from vidembed.records.bytecode import dequantise

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
