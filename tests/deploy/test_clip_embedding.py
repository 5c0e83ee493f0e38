"""A run on clips in use: videos and clips as tables with deviations, their index, their faults."""

import os
import shutil
from functools import cache

import numpy as np
import pytest

import vidembed
from tests.deploy import clip_run
from tests.deploy.clip_run import RATE, D, Rows, T
from vidembed.__main__ import main
from vidembed.cli import embedding, indexing, searching
from vidembed.deploy import clip_outputs
from vidembed.deploy.clip_outputs import ClipOutputs
from vidembed.deploy.inputs import InputError
from vidembed.engine.model import load_model
from vidembed.records.space import SpaceError
from vidembed.records.table import FeatureTable
from vidembed.workdir.layout import Workdir


@cache
def load(path, step):
    return vidembed.load(path, step, classes=(Rows,))


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch):
    for verb in (embedding, indexing, searching):
        monkeypatch.setattr(verb, "load", load)
    monkeypatch.setattr(clip_outputs, "BLOCK_CLIPS", 15)


def embed(run, videos, out, *options):
    return main(["embed", run, str(videos), str(out), "--step", "latest", *options])


def of_mixture(table, rows):
    """The direction of the mean and the deviation of a mixture of these clips."""
    mean, deviation = (np.float64(table.features[n][rows]) for n in ("clip", "clip_deviation"))
    middle = mean.mean(axis=0)
    variance = (deviation**2 + mean**2).mean(axis=0) - middle**2
    return middle / np.linalg.norm(middle), np.sqrt(variance)


@pytest.mark.long
def test_videos_and_clips_become_tables_with_deviations(shapes, of_files, tmp_path, capsys):
    assert embed(of_files, shapes, tmp_path / "v", "--clips", str(tmp_path / "c")) == 0
    printed = capsys.readouterr().out
    run = load(of_files, "latest")
    assert f"16 vectors of {D}; space: {run.space}" in printed
    assert "48 clips" in printed
    videos, clips = (FeatureTable.open(tmp_path / name) for name in "vc")
    assert videos.widths == {"video": D, "video_deviation": D}
    assert videos.space["video"] == run.space
    assert clips.widths == {"clip": D, "clip_deviation": D, "start_seconds": 1}
    # Against the outputs of the model, which read the run's own corpus.
    model = load_model(Workdir(of_files), "latest", classes=(Rows,))
    source = model.recipe.corpus.open().table
    assert sorted(source.ids.tolist()) == videos.ids.tolist()
    rows = videos.find(source.ids)
    for name in ("clip", "clip_deviation"):
        expected = model[name](source)
        found = clips.features[name].reshape(16, 3, D)[rows]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    for number, video in enumerate(videos.ids):
        own = clips.find(np.array([b"%s#%d" % (video, k) for k in range(3)]))
        assert own.tolist() == [3 * number, 3 * number + 1, 3 * number + 2]
        direction, deviation = of_mixture(clips, own)
        np.testing.assert_allclose(videos.features["video"][number], direction, atol=1e-5)
        np.testing.assert_allclose(
            videos.features["video_deviation"][number], deviation, rtol=1e-3, atol=1e-6
        )
    # Of 12 frames at 6 per second, clips of 3 frames have 10 starts.
    starts = clips.features["start_seconds"].reshape(16, 3)
    np.testing.assert_allclose(starts, np.tile(np.array([1, 5, 8]) / RATE, (16, 1)), rtol=1e-6)
    # In Python, all in memory.
    ids, vectors = run.clips.embed(shapes)
    assert ids.tolist() == videos.ids.tolist()
    np.testing.assert_allclose(vectors.videos["video"], videos.features["video"], atol=1e-6)
    assert vectors.clips["clip"].shape == (16, 3, D)


@pytest.mark.fault(
    "A run in use: videos of a run on clips that cannot be decoded",
    "1: each is named and left out, the others are embedded; refused if there is no other",
)
@pytest.mark.fault(
    "A run in use: other vectors of clips at the output path, videos that changed since",
    "1, and nothing is changed; the same vectors are recognised",
)
def test_videos_that_cannot_be_decoded_are_left_out(shapes, of_files, tmp_path, capsys, caplog):
    videos, out = tmp_path / "videos", tmp_path / "v"
    shutil.copytree(shapes / "left", videos)
    (videos / "empty.mp4").touch()
    (videos / "text.mp4").write_text("no video")
    assert embed(of_files, videos, out) == 1
    printed = capsys.readouterr().out
    assert "2 vectors" in printed
    assert printed.count("FAILED") == 2
    assert "2 videos could not be read and are left out" in printed
    ids = FeatureTable.open(out).ids.tolist()
    assert ids == [b"left_g000", b"left_g001"]
    assert embed(of_files, videos, out) == 0
    assert "exist already" in capsys.readouterr().out
    ids_in_memory, _ = load(of_files, "latest").clips.embed([videos])
    assert ids_in_memory.tolist() == ids
    assert "2 of 4 videos cannot be read, and are left out" in caplog.text
    # A file that changed, and only undecodable ones.
    os.utime(videos / "left_g000.mp4", (1, 1))
    assert embed(of_files, videos, out) == 1
    assert "--force" in capsys.readouterr().err
    assert embed(of_files, videos, out, "--shard", "1/2", "--force") == 1
    assert FeatureTable.open(out).ids.tolist() == [b"left_g000"]
    capsys.readouterr()
    assert embed(of_files, videos / "text.mp4", tmp_path / "none") == 1
    assert "none of 1 videos can be embedded" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="1 of 1 videos cannot be read"):
        load(of_files, "latest").clips.embed(videos / "text.mp4")


@pytest.mark.fault(
    "A run in use: embedding of clips is interrupted",
    "the same command resumes after the last finished block; no table appears before it is whole",
)
def test_an_interrupted_embedding_resumes(shapes, of_files, tmp_path, capsys, monkeypatch):
    out, clips = tmp_path / "v", tmp_path / "c"
    assert embed(of_files, shapes, tmp_path / "whole", "--clips", str(tmp_path / "wholes")) == 0
    calls, compute = [], ClipOutputs.__call__

    def breaks(outputs, source, rows):
        calls.append(rows.tolist())
        if len(calls) == 3:
            raise OSError("the disk is gone")
        return compute(outputs, source, rows)

    monkeypatch.setattr(ClipOutputs, "__call__", breaks)
    assert embed(of_files, shapes, out, "--clips", str(clips)) == 1
    assert not out.exists()
    assert not clips.exists()
    capsys.readouterr()
    assert embed(of_files, shapes, out, "--clips", str(clips)) == 0
    assert "10 videos were embedded before the last interruption" in capsys.readouterr().out
    assert calls[3:] == [[10, 11, 12, 13, 14], [15]]
    for made, whole in ((out, "whole"), (clips, "wholes")):
        tables = [FeatureTable.open(place) for place in (made, tmp_path / whole)]
        assert tables[0].fingerprint == tables[1].fingerprint
    assert not (tmp_path / "v.partial").exists()
    # A table of clips is added to one of videos.
    shutil.rmtree(clips)
    assert embed(of_files, shapes, out, "--clips", str(clips)) == 0
    assert FeatureTable.open(clips).fingerprint == tables[0].fingerprint


@pytest.mark.long
def test_windows_of_stored_features_are_embedded(stored, of_windows, tmp_path):
    out, clips = tmp_path / "v", tmp_path / "c"
    assert embed(of_windows, stored, out, "--clips", str(clips)) == 0
    model = load_model(Workdir(of_windows), "latest")
    source = model.recipe.corpus.open().table
    table, windows = FeatureTable.open(out), FeatureTable.open(clips)
    rows = table.find(source.ids)
    for name in ("video", "video_deviation"):
        np.testing.assert_allclose(table.features[name][rows], model[name](source), atol=1e-5)
    # Of 9 frames every quarter of a second, from 0.5 s on: 7 windows.
    assert windows.features["start_seconds"][:4, 0].tolist() == [0.5, 1.0, 1.5, 2.0]
    assert T == 3


@pytest.mark.long
def test_clips_are_indexed_too(shapes, of_files, tmp_path):
    videos, table = tmp_path / "v", tmp_path / "c"
    assert embed(of_files, shapes, videos, "--clips", str(table)) == 0
    run = vidembed.load(of_files, "latest", output="clip", classes=(Rows,))
    found = run.index(table).search(ids=["left_g000#0"], k=2)
    clips = FeatureTable.open(table)
    scores = (
        clips.features["clip"] @ clips.features["clip"][clips.find(np.array([b"left_g000#0"]))][0]
    )
    [(_, best)] = found.each()
    np.testing.assert_allclose(best, np.sort(scores)[::-1][1:3], atol=1e-5)


def test_the_table_is_indexed_and_searched(shapes, of_files, tmp_path, capsys):
    table, index = str(tmp_path / "v"), str(tmp_path / "index")
    assert embed(of_files, shapes, table) == 0
    options = ["--step", "latest"]
    assert main(["index", of_files, table, index, *options]) == 0
    assert "16 videos, 6 dimensions" in capsys.readouterr().out
    assert main(["search", index, "--id", "left_g000", "-k", "3"]) == 0
    found = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    made = FeatureTable.open(table)
    vectors = np.float64(made.features["video"])
    query = made.find(np.array([b"left_g000"]))[0]
    scores = vectors @ vectors[query]
    order = [row for row in np.argsort(-scores) if row != query][:3]
    assert [line[2].encode() for line in found] == made.ids[order].tolist()
    record = ["--record", table, "--run", of_files]
    assert main(["search", index, *record, *options, "-k", "1"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 16
    assert all(line[0] == line[2] for line in lines)
    assert main(["index", of_files, table, index, "--refresh", *options]) == 0
    assert "0 videos added" in capsys.readouterr().out


@pytest.mark.fault(
    "A run in use: features in the place of videos or videos in the place of features, "
    "features of another backbone, files of vectors that have no place for deviations",
    "refused, with what to give",
)
def test_what_does_not_fit_a_run_on_files_is_refused(shapes, stored, of_files, tmp_path, capsys):
    def refused(code):
        assert code == 1
        return " ".join(capsys.readouterr().err.split())

    out = tmp_path / "v"
    assert "holds features of frames: give the videos" in refused(embed(of_files, stored, out))
    assert "name a folder" in refused(embed(of_files, shapes, f"{out}.parquet"))
    assert "reads clips" in refused(embed(of_files, shapes, out, "--lacking", "pixels"))
    assert "lies among them" in refused(embed(of_files, shapes, shapes / "table"))
    same = embed(of_files, shapes, out, "--clips", str(out))
    assert "is one of the inputs" in refused(same)
    printed = refused(main(["index", of_files, str(shapes), str(out), "--step", "latest"]))
    assert f"embed the videos first (vidembed embed {of_files} {shapes} TABLE)" in printed
    assert not out.exists()


@pytest.mark.long
def test_what_does_not_fit_a_run_on_windows_is_refused(
    shapes, stored, of_windows, tmp_path, capsys
):
    assert embed(of_windows, shapes, tmp_path / "v") == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert "give FEATURES/net-out-12345678" in printed
    other = clip_run.features(tmp_path / "other", ["a"], "other/out/87654321")
    with pytest.raises(SpaceError, match="other-out-87654321"):
        load(of_windows, "latest").clips.open(other)
    damaged = tmp_path / "damaged"
    shutil.copytree(stored, damaged)
    file = next(damaged.glob("*.npz"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="1 of 16 files are not stored features, or damaged"):
        load(of_windows, "latest").clips.open(damaged)
