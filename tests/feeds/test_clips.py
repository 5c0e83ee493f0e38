"""Clips decoded while training: pure batches, replaced videos, workers that change nothing."""

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from tests.media.clips import number_of, write_video
from vidembed.corpora.clip_files import ClipFilesPaths
from vidembed.evaluators.clip_scores import Probing
from vidembed.evaluators.probe import Probe
from vidembed.feeds.clip_feed import REPLACED, SHORT
from vidembed.feeds.clips import ClipError, DecodedClips

OPTIONS = DecodedClips(
    batch_videos=4, clips=2, frames=3, stride=2, rate=25, height=16, width=32, workers=0
)
LENGTHS = (20, 12, 30, 3, 20, 20, 16, 9)
"""Frames of the videos; the fourth is shorter than a clip."""
BROKEN = 5


def write_list(folder, names, parts):
    columns = {
        "path": names,
        "class": ["even" if row % 2 else "odd" for row in range(len(names))],
        "group": names,
        "split": parts,
    }
    pyarrow.csv.write_csv(pa.table(columns), folder / "clips.csv")
    return ClipFilesPaths(folder=str(folder), clips=str(folder / "clips.csv"))


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Videos whose frames show their numbers; the sixth is cut in its header, the last is for
    testing."""
    folder = tmp_path_factory.mktemp("clips")
    names = [f"v{row}.mp4" for row in range(len(LENGTHS))]
    for name, length in zip(names, LENGTHS):
        write_video(folder / name, range(length))
    whole = (folder / names[BROKEN]).read_bytes()
    (folder / names[BROKEN]).write_bytes(whole[:200])
    return write_list(folder, names, ["train"] * 7 + ["test"])


@pytest.fixture(scope="module")
def corpus(paths):
    return paths.open()


@pytest.fixture
def feed(corpus):
    return OPTIONS.open(corpus, seed=3)


def assert_same(batch, expected):
    assert batch.keys() == expected.keys()
    for name, array in expected.items():
        assert batch[name].dtype == array.dtype
        np.testing.assert_array_equal(batch[name], array, err_msg=name)


def test_clips_are_the_frames_that_were_written(feed):
    steps = [feed.at(step) for step in range(7)]
    for batch in steps:
        assert batch["clips"].shape == (4, 2, 3, 16, 32, 3)
        assert batch["clips"].dtype == np.uint8
        for row, clips, present in zip(batch["rows"], batch["clips"], batch["present"]):
            shown = np.array([[number_of(image) for image in clip] for clip in clips])
            if LENGTHS[row] == 3:
                assert present.tolist() == [True, False]
                assert shown.tolist() == [[0, 2, 1]] * 2
            else:
                assert present.all()
                assert (np.diff(shown, axis=1) == 2).all()
                assert shown.max() < LENGTHS[row]
    starts = {
        number_of(clip[0]) for batch in steps for clip in batch["clips"].reshape(-1, *clip_shape)
    }
    for batch in steps:
        np.testing.assert_array_equal(batch["short"], batch["rows"] == 3)
    assert len(starts) > 8
    assert (feed.spec.clip, feed.spec.clips) == (clip_shape, feed.config.clips)


clip_shape = (3, 16, 32, 3)


@pytest.mark.fault(
    "Runs: a video of a run on clips that cannot be decoded",
    "replaced by the next hash of its place, the same one on every run; counted, and named once",
)
def test_a_broken_video_is_replaced_counted_and_named(feed, corpus, caplog):
    events = []
    for step in range(7):
        batch, planned = feed.at(step), feed.slots.planned(step)
        np.testing.assert_array_equal(batch["replaced"], planned == BROKEN)
        kept = ~batch["replaced"]
        np.testing.assert_array_equal(batch["rows"][kept], planned[kept])
        assert BROKEN not in batch["rows"]
        assert corpus.check(batch) is None
        events += feed.events_of(batch)
    # 7 steps of 4 are 4 passes over the 7 train videos.
    assert events.count(REPLACED) == 4
    assert events.count(SHORT) >= 4
    assert set(events) == {*feed.events}
    assert feed.failures.keys() == {BROKEN}
    assert caplog.text.count("cannot be decoded") == 1
    assert "v5.mp4" in caplog.text


def test_each_train_video_comes_once_per_pass(feed):
    planned = np.concatenate([feed.slots.planned(step) for step in range(7)]).reshape(4, 7)
    assert (np.sort(planned) == np.arange(7)).all()
    assert len({order.tobytes() for order in planned}) == 4
    assert feed.one_pass == (7, "train videos")
    assert feed.ids_at(0).tolist() == [b"v%d" % row for row in planned[0, :4]]


def test_batches_are_pure_in_the_step_and_resume_anywhere(feed, corpus):
    seen = []
    for step, batch, _ in feed.batches(1, 5):
        assert_same(batch, OPTIONS.open(corpus, seed=3).at(step))
        seen.append(step)
    assert seen == [1, 2, 3, 4]
    assert_same(next(feed.batches(4, 5))[1], feed.at(4))
    assert (feed.at(2)["clips"] != OPTIONS.open(corpus, seed=4).at(2)["clips"]).any()
    with pytest.raises(ValueError, match="from 0 on, found -1"):
        feed.at(-1)


def test_each_host_decodes_its_own_places_only(feed, monkeypatch):
    whole, read = feed.at(6), []
    pictures = type(OPTIONS.pictures)
    original = pictures.read
    monkeypatch.setattr(pictures, "read", lambda of, path: read.append(path) or original(of, path))
    for hosts in (2, 4):
        read.clear()
        parts = [feed.at(6, (host, hosts)) for host in range(hosts)]
        assert len(read) == 4 + whole["replaced"].sum()
        for name, array in whole.items():
            assert feed.split_axes[name] == 0
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)


def test_labels_are_given_to_a_task_that_reads_them(corpus, feed):
    labelled = OPTIONS.open(corpus, seed=3, reads=("labels",))
    batch = labelled.at(2)
    assert batch["labels"].tolist() == [int(row % 2 == 0) for row in batch["rows"]]
    assert_same({name: of for name, of in batch.items() if name != "labels"}, feed.at(2))
    assert labelled.spec.class_names == ("even", "odd")


def test_only_what_changes_batches_changes_the_fingerprint(feed, corpus):
    same = replace(OPTIONS, workers=3, read_threads=1).open(corpus, seed=3)
    assert same.fingerprint == feed.fingerprint
    for change in (
        {"rate": 5},
        {"clips": 3},
        {"stride": 1},
        {"starts": "even"},
        {"fit": "squeeze"},
    ):
        assert replace(OPTIONS, **change).open(corpus, seed=3).fingerprint != feed.fingerprint


def test_the_clips_to_embed_are_spread_evenly_and_failures_have_none(corpus, caplog):
    source, rows = corpus.table, np.array([0, BROKEN, 7])
    for _ in range(2):
        batch = source.clips(rows, OPTIONS.taking, rate=25, height=16, width=32)
    assert caplog.text.count("v5.mp4") == 1
    assert len(source) == len(corpus)
    assert batch["present"].tolist() == [[True, True], [False, False], [True, True]]
    assert not batch["clips"][1].any()
    shown = [[number_of(image) for image in clip] for clip in batch["clips"][0]]
    assert shown == [[4, 6, 8], [12, 14, 16]]
    assert source.failures.keys() == {BROKEN}


def test_outputs_of_clips_are_measured_without_a_table(corpus, paths, tmp_path):
    """Brightness of the first clip, as an output."""

    def output(source, rows):
        batch = source.clips(rows, OPTIONS.taking, rate=25, height=16, width=32)
        return batch["clips"][:, 0].mean((1, 2)) + 1.0

    names = [f"v{row}.mp4" for row in (0, 1, 2, 6, 7, 4)]
    listed = write_list(tmp_path, names, ["train"] * 4 + ["test"] * 2)
    few = replace(listed, folder=paths.folder).open()
    probe = Probe(probing=Probing(l2=(1.0,), folds=2), at=(1,), resamples=40)
    probe.check(few)
    scores = probe.run({"video": lambda of, rows: output(of, rows).reshape(len(rows), -1)}, few)
    assert {"test/r@1", "test/probe"} <= scores.scores.keys()
    assert probe.baselines(few).keys() == {"chance"}
    assert scores.per_query["test"].ids.tolist() == [b"v7", b"v4"]


def test_real_clips():
    """Fights and other scenes on cameras, and sports: all decode, and no source leaks."""
    folder = Path(os.environ.get("VIDEMBED_ACTIONS", "no-such-folder"))
    if not (folder / "split.csv").exists():
        pytest.skip("VIDEMBED_ACTIONS names no folder with split.csv")
    corpus = ClipFilesPaths(folder=str(folder), clips=str(folder / "split.csv")).open()
    options = replace(OPTIONS, batch_videos=8, frames=8, stride=1, rate=8)
    batch = options.open(corpus, seed=0).at(0)
    assert corpus.check(batch) is None
    assert not batch["replaced"].any()
    assert batch["clips"].std((2, 3, 4, 5)).min() > 5
    assert len({*batch["rows"].tolist()}) == 8


@pytest.mark.fault(
    "Runs: videos of a run on clips of which none can be decoded, or a short one that is refused",
    "1: the files and the reasons, or the file, its frames and those of a clip",
)
def test_videos_that_all_fail_and_short_ones_are_errors(corpus, tmp_path):
    with pytest.raises(ClipError, match=r"v3\.mp4: has 3 frames at 25 per second, .* spans 5"):
        for _ in (
            replace(OPTIONS, short="refuse", read_threads=0).open(corpus, seed=3).batches(0, 7)
        ):
            pass
    for name in "abc":
        (tmp_path / f"{name}.mp4").write_bytes(b"no video at all" * 40)
        (tmp_path / f"{name}2.mp4").write_bytes(b"no video at all" * 40)
    names = sorted(file.name for file in tmp_path.glob("*.mp4"))
    broken = write_list(tmp_path, names, ["train"] * 4 + ["test"] * 2).open()
    with pytest.raises(ClipError, match=r"8 videos in a row cannot be decoded, such as .*a.*mp4"):
        OPTIONS.open(broken, seed=0).at(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workers": -1}, "workers must be at least 0"),
        ({"workers": 1, "prefetch_batches": 0, "read_threads": 0}, "set workers 0, too"),
        ({"rate": 0}, "rate is 0; it must be above 0"),
        ({"fit": "pad"}, "fit is 'pad'"),
        ({"height": 0}, "at least 1 pixel"),
        ({"batch_videos": 0}, "batch_videos must be at least 1"),
    ],
)
def test_impossible_options_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(OPTIONS, **change)


@pytest.mark.long
def test_the_number_of_worker_processes_changes_nothing(feed, corpus):
    expected = [feed.at(step) for step in range(2, 6)]
    for workers in (1, 3):
        working = replace(OPTIONS, workers=workers).open(corpus, seed=3)
        for (_, batch, _), one in zip(working.batches(2, 6), expected, strict=True):
            assert_same(batch, one)
        parts = [next(working.batches(5, 6, (host, 2)))[1] for host in range(2)]
        for name, array in expected[-1].items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)
        assert working.failures.keys() == {BROKEN}


@pytest.mark.long
@pytest.mark.fault(
    "Runs: a process that decodes clips is killed, or finds a video that it must refuse",
    "the error ends the run, which resumes; nothing waits forever",
)
def test_a_worker_that_raises_or_is_killed_ends_the_reading(corpus):
    refusing = replace(OPTIONS, workers=2, short="refuse").open(corpus, seed=3)
    with pytest.raises(Exception, match="has 3 frames at 25 per second"):
        for _ in refusing.batches(0, 7):
            pass
    working = replace(OPTIONS, workers=2, prefetch_batches=2).open(corpus, seed=3)
    batches = working.batches(0, 10_000)
    next(batches)
    victim = multiprocessing.active_children()[-1]
    os.kill(victim.pid, signal.SIGKILL)
    with pytest.raises(Exception):  # noqa: B017, PT011  the kind is Grain's own
        for _ in batches:
            pass
