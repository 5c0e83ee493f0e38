"""Windows of frame features: what they hold, from stores and records, and what is refused."""

import os
from dataclasses import replace

import numpy as np
import pytest

from tests.feeds.test_clips import assert_same, write_list
from tests.records import recorded_frames
from vidembed.corpora import frame_sources
from vidembed.corpora.frame_sources import FramesError, StoredFrames, moved
from vidembed.corpora.labelled import LabelledPaths
from vidembed.feeds.clip_feed import SHORT
from vidembed.feeds.windows import FeatureWindows
from vidembed.media.feature_store import FeatureStore, FrameFeatures
from vidembed.records.bytecode import dequantise

OPTIONS = FeatureWindows(batch_videos=4, clips=2, frames=3, stride=2)
LENGTHS = (20, 5, 30, 4, 0, 9, 6)
"""Frames of the videos; the fourth is shorter than a window, the fifth has none."""
WIDTH = 3


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Features in which frame t of video v is (v, t, -t); the last two videos are for testing."""
    folder = tmp_path_factory.mktemp("windows")
    store = FeatureStore(folder / "features", {"space": "numbers"})
    names = [f"v{row}" for row in range(len(LENGTHS))]
    for row, (name, length) in enumerate(zip(names, LENGTHS)):
        time = np.arange(length)
        values = np.stack([np.full(length, row), time, -time], 1).astype(np.float32)
        store.write(name, {}, FrameFeatures(time / 8, values.reshape(length, WIDTH)))
        (folder / f"{name}.mp4").write_bytes(bytes(row))
    listed = write_list(folder, [f"{name}.mp4" for name in names], ["train"] * 5 + ["test"] * 2)
    return replace(listed, frames=str(store.folder))


@pytest.fixture(scope="module")
def corpus(paths):
    return paths.open()


@pytest.fixture
def feed(corpus):
    return OPTIONS.open(corpus, seed=2, reads=("visual",))


def test_windows_are_consecutive_frames_of_the_video(feed):
    begins = set()
    for step in range(8):
        batch = feed.at(step)
        assert batch["clips"].dtype == np.float32
        assert batch["clips"].shape == (4, 2, 3, WIDTH)
        assert set(batch["rows"]) <= {0, 1, 2, 3}
        for row, windows, present in zip(batch["rows"], batch["clips"], batch["present"]):
            assert (windows[..., 0] == row).all()
            if row == 3:
                assert present.tolist() == [True, False]
                assert windows[..., 1].tolist() == [[0, 2, 0]] * 2
            else:
                assert present.all()
                assert (np.diff(windows[..., 1]) == 2).all()
                begins |= set(windows[:, 0, 1])
        assert list(feed.events_of(batch)) == [SHORT] * int((batch["rows"] == 3).sum())
        assert not batch["replaced"].any()
    assert len(begins) > 10
    assert feed.spec.widths == {"visual": WIDTH}
    assert (feed.spec.clip, feed.spec.clips) == ((3, WIDTH), feed.config.clips)
    notes = " ".join(feed.notes)
    assert "1 train videos have no frames" in notes
    assert "1 of 4 train videos are shorter than a clip of 5 frames" in notes


def test_batches_are_pure_and_resume_and_hosts_make_their_parts(feed, corpus):
    for step, batch, _ in feed.batches(2, 6):
        assert_same(batch, OPTIONS.open(corpus, seed=2).at(step))
    assert_same(next(feed.batches(5, 6))[1], feed.at(5))
    whole = feed.at(5)
    for hosts in (2, 4):
        parts = [feed.at(5, (host, hosts)) for host in range(hosts)]
        for name, array in whole.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)
    assert corpus.check(whole) is None
    assert OPTIONS.open(corpus, seed=3).fingerprint != feed.fingerprint
    assert replace(OPTIONS, stride=1).open(corpus, seed=2).fingerprint != feed.fingerprint
    assert replace(OPTIONS, read_threads=0).open(corpus, seed=2).fingerprint == feed.fingerprint


def test_statistics_are_those_of_all_train_frames(feed, corpus):
    frames = np.concatenate([corpus.stored["visual"].read(row) for row in range(4)])
    known = feed.statistics()["visual"]
    np.testing.assert_allclose(known["mean"], frames.mean(0), rtol=1e-6)
    np.testing.assert_allclose(known["deviation"], frames.std(0), rtol=1e-6)


def test_windows_to_embed_are_spread_evenly(corpus):
    batch = corpus.table.windows(np.array([5, 4]), OPTIONS.taking, "visual")
    assert batch["clips"][0, ..., 1].tolist() == [[1, 3, 5], [3, 5, 7]]
    assert batch["present"].tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("modality", ["visual", "audio"])
def test_frames_of_records(modality, tmp_path):
    """The frames that were written, up to the layout's most; videos without them are left out."""
    recorded_frames.write(tmp_path)
    videos = list(recorded_frames.made_videos())
    corpus = LabelledPaths(records=str(tmp_path), layout=recorded_frames.LAYOUT).open()
    feed = replace(OPTIONS, batch_videos=32).open(corpus, seed=0, reads=(modality,))
    assert feed.spec.clip == (3, {"visual": 7, "audio": 3}[modality])
    absent = [not len(frames.get(modality, ())) for _, _, frames in videos]
    assert feed.one_pass[0] == (corpus.is_train & ~np.array(absent)).sum()
    batch = feed.at(1)
    assert corpus.check(batch) is None
    for row, windows, present in zip(batch["rows"], batch["clips"], batch["present"]):
        frames = dequantise(videos[row][2][modality][: recorded_frames.MOST])
        known = [
            frames[[(begin + 2 * number) % len(frames) for number in range(3)]]
            for begin in range(max(1, len(frames) - 4))
        ]
        assert all(any((window == of).all() for of in known) for window in windows)
        assert present.all() == (len(frames) >= 5)


@pytest.mark.fault(
    "Runs: features of frames that are missing, short and refused, or that change under a run",
    "1: the videos, or the file and what it should hold; nothing is begun, or the run ends",
)
def test_what_does_not_fit_is_refused(paths, corpus, tmp_path):
    with pytest.raises(ValueError, match=r"1 of 4 train .* fewer frames than the 5 .*: v3\. Use"):
        replace(OPTIONS, short="refuse").open(corpus, seed=0)
    with pytest.raises(
        ValueError, match=r"reads \['audio'\], and there are frames of \['visual'\]"
    ):
        OPTIONS.open(corpus, seed=0, reads=("audio",))
    with pytest.raises(ValueError, match=r"give --corpus\.frames FOLDER"):
        OPTIONS.open(replace(paths, frames="").open(), seed=0)
    with pytest.raises(FramesError, match=r"lacks the features of 1 of 2 videos.*: other"):
        StoredFrames.open(paths.frames, ("v0", "other"))
    store = FeatureStore(tmp_path, {"space": "numbers"})
    for name, width in (("a", 2), ("b", 3)):
        store.write(name, {}, FrameFeatures(np.arange(4.0), np.zeros((4, width))))
    with pytest.raises(FramesError, match="one width expected, found 2, 3"):
        StoredFrames.open(store.folder, ("a", "b"))
    source = StoredFrames.open(store.folder, ("a",))
    store.write("a", {}, FrameFeatures(np.arange(5.0), np.zeros((5, 2))))
    with pytest.raises(FramesError, match=r"a: \[4, 2\] features expected, found \[5, 2\]"):
        source.read(0)
    for place in store.folder.glob("*.npz"):
        os.truncate(place, os.path.getsize(place) // 2)
    with pytest.raises(FramesError, match="found nothing readable"):
        source.read(0)


def test_labels_are_given_to_a_task_that_reads_them(corpus, feed):
    labelled = OPTIONS.open(corpus, seed=2, reads=("labels", "visual"))
    assert (labelled.spec.classes, labelled.spec.class_names) == (2, ("even", "odd"))
    assert (feed.spec.classes, feed.spec.class_names) == (0, ())
    for step in (0, 3):
        batch = labelled.at(step)
        assert batch["labels"].dtype == np.int32
        expected = [corpus.labels.names[label] for label in batch["labels"]]
        assert expected == ["even" if row % 2 else "odd" for row in batch["rows"]]
        assert_same({n: array for n, array in batch.items() if n != "labels"}, feed.at(step))
    parts = [labelled.at(3, (host, 2))["labels"] for host in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), batch["labels"])
    assert labelled.split_axes["labels"] == 0
    assert "labels" not in feed.split_axes


@pytest.mark.fault(
    "Runs: classes of clips of which one has no train video",
    "a WARNING: the class, which is never predicted",
)
def test_classes_without_a_train_video_are_named(corpus):
    clips = corpus.clips
    part = np.where(clips.labels == 0, "test", "train")
    other = replace(corpus, clips=replace(clips, part=part))
    notes = OPTIONS.open(other, seed=0, reads=("labels",)).notes
    assert notes[0].startswith("WARNING: 1 of 2 classes have no train video")
    assert notes[0].endswith(": even")


@pytest.mark.fault(
    "Runs: classes of clips that have none, or several",
    "1: how many videos, and what to give",
)
def test_videos_without_a_single_class_are_refused(tmp_path):
    recorded_frames.write(tmp_path)
    corpus = LabelledPaths(records=str(tmp_path), layout=recorded_frames.LAYOUT).open()
    with pytest.raises(ValueError, match=r"each train video needs one class, and of .* have sev"):
        replace(OPTIONS, batch_videos=8).open(corpus, seed=0, reads=("labels", "visual"))


def test_motion_is_the_difference_of_consecutive_frames(paths, corpus):
    still, only, beside = (
        replace(paths, motion=motion).open().stored["visual"]
        for motion in ("none", "only", "beside")
    )
    for row, length in enumerate(LENGTHS):
        frames = still.read(row)
        assert len(frames) == still.lengths[row] == length
        expected = [np.abs(frames[t] - frames[t - 1]) for t in range(1, length)]
        assert len(only.read(row)) == len(beside.read(row)) == only.lengths[row] == len(expected)
        if expected:
            np.testing.assert_array_equal(only.read(row), expected)
            np.testing.assert_array_equal(beside.read(row), np.hstack([frames[1:], expected]))
    others = replace(paths, motion="only").others([paths.frames])
    assert others.space == {"visual": only.space}
    row = others.ids.tolist().index(corpus.ids[0])
    np.testing.assert_array_equal(others.stored["visual"].read(row), only.read(0))
    assert len(others.stored["visual"].times(row)) == only.lengths[0]
    assert (still.width, only.width, beside.width) == (WIDTH, WIDTH, 2 * WIDTH)
    assert len({of.fingerprint for of in (still, only, beside)}) == 3
    np.testing.assert_array_equal(moved(np.ones((1, 2), np.float32), "only"), [[0, 0]])
    np.testing.assert_array_equal(moved(np.ones((1, 2), np.float32), "beside"), [[1, 1, 0, 0]])
    with pytest.raises(ValueError, match="motion must be none, only, beside, found 'slow'"):
        replace(paths, motion="slow").open()


def test_features_stay_in_memory_as_long_as_they_fit(paths, monkeypatch):
    monkeypatch.setattr(frame_sources, "KEPT_BYTES", 30 * 4 * WIDTH)
    source = paths.open().stored["visual"]
    rows = [source.read(row) for row in range(3)]
    assert [source.read(row) is values for row, values in enumerate(rows)] == [True, True, False]
    with pytest.raises(ValueError, match="read-only"):
        rows[0][0] = 1
