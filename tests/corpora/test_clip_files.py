"""Videos as files: their lists, in published forms too, digests, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from tests.corpora.test_clips import write
from vidembed.corpora.clip_files import SIMULATED, ClipFilesPaths
from vidembed.corpora.clips import ClipsError
from vidembed.corpora.published_clips import hmdb51, kinetics, ucf101
from vidembed.records.split import LeakError


def touch(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x" * len(path))


@pytest.fixture
def paths(tmp_path):
    files = ("jump/a1", "jump/a2", "jump/b1", "sit/c1", "sit/d1", "sit/e1")
    touch(tmp_path, *(f"{name}.mp4" for name in files))
    return ClipFilesPaths(folder=str(tmp_path), clips=str(write(tmp_path / "clips.csv")))


def test_a_corpus_of_files_has_parts_labels_and_a_check(paths, tmp_path):
    corpus = paths.open()
    assert len(corpus) == 6
    assert corpus.ids.tolist() == [b"a1", b"a2", b"b1", b"c1", b"d1", b"e1"]
    assert corpus.files[3] == str(tmp_path / "sit" / "c1.mp4")
    assert corpus.labels.names == ("jump", "sit")
    assert corpus.labels.values.tolist() == [0, 0, 0, 1, 1, 1]
    assert [corpus.sources[group] for group in corpus.groups] == list("aabcde")
    assert np.flatnonzero(corpus.is_train).tolist() == [0, 1, 3]
    assert {n: np.flatnonzero(m).tolist() for n, m in corpus.parts.items()} == {
        "test": [2, 5],
        "validation": [4],
    }
    assert corpus.space == {"pixels": "RGB frames"}
    assert "6 video files" in corpus.notes[0]
    assert "3 for training, 2 for test, 1 for validation; 2 classes" in corpus.notes[0]
    assert corpus.check({"rows": np.array([0, 3])}) is None
    with pytest.raises(LeakError, match=r"1 videos of the eval partition .*: e1"):
        corpus.check({"rows": np.array([3, 5])})
    with pytest.raises(ValueError, match="does not say which videos"):
        corpus.check({"clips": np.zeros(3)})
    assert not corpus.simulated
    (tmp_path / SIMULATED).write_text("made")
    assert paths.open().simulated
    assert "simulated" in paths.open().notes[-1]


def test_the_digest_changes_with_the_data_and_not_with_the_place(paths, tmp_path):
    before = paths.open().rows
    (tmp_path / "sit" / "e1.mp4").write_bytes(b"another video")
    assert paths.open().rows != before
    moved = tmp_path / "sub"
    moved.mkdir()
    for file in ("jump", "sit", "clips.csv"):
        (tmp_path / file).rename(moved / file)
    after = replace(paths, folder=str(moved), clips=str(moved / "clips.csv")).open()
    touch(moved, "sit/e1.mp4")
    assert after.rows != before
    assert replace(paths, folder=str(moved), clips=str(moved / "clips.csv")).open().rows == before


def lines(path, *texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(texts) + "\n")


@pytest.fixture
def ucf(tmp_path):
    names = [f"{c}/v_{c}_g{g:02d}_c01.avi" for c in ("Archery", "Surfing") for g in (1, 8, 9)]
    touch(tmp_path / "videos", *names)
    numbered = [f"{name} {1 + (name[0] == 'S')}" for name in names if "_g01_" not in name]
    lines(tmp_path / "lists" / "trainlist01.txt", *numbered)
    lines(tmp_path / "lists" / "testlist01.txt", *(name for name in names if "_g01_" in name))
    return tmp_path


def test_ucf101(ucf):
    clips = ucf101(ucf / "lists", ucf / "videos")
    assert clips.classes == ("Archery", "Surfing")
    assert dict(zip(clips.ids.tolist(), clips.part.tolist())) == {
        b"v_Archery_g08_c01": "train",
        b"v_Archery_g09_c01": "train",
        b"v_Surfing_g08_c01": "train",
        b"v_Surfing_g09_c01": "train",
        b"v_Archery_g01_c01": "test",
        b"v_Surfing_g01_c01": "test",
    }
    assert clips.sources[clips.groups[0]] == "v_Archery_g08"
    corpus = ClipFilesPaths(
        folder=str(ucf / "videos"), clips=str(ucf / "lists"), form="ucf101"
    ).open()
    assert corpus.files[0].endswith("videos/Archery/v_Archery_g08_c01.avi")


def test_hmdb51(tmp_path):
    names = {
        "brush_hair": [
            "April_09_brush_hair_u_0.avi",
            "Bob_brush_hair_u_1.avi",
            "C_brush_hair_2.avi",
        ],
        "wave": ["April_09_wave_u_0.avi", "Dora_wave_u_1.avi", "Eve_wave_u_2.avi"],
    }
    for name, files in names.items():
        touch(tmp_path / "videos", *(f"{name}/{file}" for file in files[:2]))
        uses = [f"{file} {use} " for file, use in zip(files, (1, 2, 0))]
        lines(tmp_path / "lists" / f"{name}_test_split1.txt", *uses)
        lines(tmp_path / "lists" / f"{name}_test_split2.txt", *uses[::-1])
    clips = hmdb51(tmp_path / "lists", tmp_path / "videos")
    assert clips.paths == (
        "brush_hair/April_09_brush_hair_u_0.avi",
        "brush_hair/Bob_brush_hair_u_1.avi",
        "wave/April_09_wave_u_0.avi",
        "wave/Dora_wave_u_1.avi",
    )
    assert clips.part.tolist() == ["train", "test"] * 2
    assert clips.sources == ("April_09", "Bob", "Dora")
    lines(
        tmp_path / "lists" / "wave_test_split1.txt",
        "April_09_wave_u_0.avi 2",
        "Dora_wave_u_1.avi 1",
    )
    assert hmdb51(tmp_path / "lists", tmp_path / "videos").sources == (
        "April_09 (test)",
        "April_09 (train)",
        "Bob",
        "Dora",
    )


@pytest.fixture
def kinetics_folder(tmp_path):
    header = "label,youtube_id,time_start,time_end,split,is_cc"
    for part, ids in (("train", "ABCD"), ("val", "EF")):
        rows = [
            f"{'riding a bike' if n % 2 else 'yoga'},{i * 11},{n},{n + 10},{part},0"
            for n, i in enumerate(ids)
        ]
        lines(tmp_path / "lists" / f"{part}.csv", header, *rows)
    touch(
        tmp_path / "videos",
        "train/yoga/AAAAAAAAAAA_000000_000010.mp4",
        "train/riding a bike/BBBBBBBBBBB_000001_000011.mp4",
        "yoga/CCCCCCCCCCC_000002_000012.mkv",
        "riding_a_bike/DDDDDDDDDDD_000003_000013.mp4",
        "val/EEEEEEEEEEE_000000_000010.mp4",
        "FFFFFFFFFFF_000001_000011.webm",
    )
    return tmp_path


def test_kinetics(kinetics_folder):
    clips = kinetics(kinetics_folder / "lists", kinetics_folder / "videos")
    assert clips.classes == ("riding a bike", "yoga")
    assert clips.part.tolist() == ["train"] * 4 + ["test"] * 2
    assert clips.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert clips.ids[3] == b"DDDDDDDDDDD_000003_000013"
    assert clips.paths[3] == "riding_a_bike/DDDDDDDDDDD_000003_000013.mp4"
    assert clips.sources[clips.groups[0]] == "A" * 11


@pytest.mark.fault(
    "Runs: a published split that names videos which are not there, or is of another form",
    "1: how many, the first names, and the folder; or the line and the expected form",
)
def test_published_splits_that_do_not_fit_are_refused(ucf, kinetics_folder, tmp_path):
    (ucf / "videos" / "Surfing" / "v_Surfing_g01_c01.avi").unlink()
    with pytest.raises(ClipsError, match=r"1 of 6 videos are not in .*: Surfing/v_Surfing_g01"):
        ucf101(ucf / "lists", ucf / "videos")
    (kinetics_folder / "videos" / "FFFFFFFFFFF_000001_000011.webm").unlink()
    with pytest.raises(ClipsError, match=r"1 of 6 videos are not in .*: FFFFFFFFFFF_000001"):
        kinetics(kinetics_folder / "lists", kinetics_folder / "videos")
    (kinetics_folder / "lists" / "val.csv").unlink()
    with pytest.raises(ClipsError, match=r"no val\.csv or validate\.csv"):
        kinetics(kinetics_folder / "lists", kinetics_folder / "videos")
    with pytest.raises(ClipsError, match=r"trainlist02\.txt: no such file"):
        ucf101(ucf / "lists", ucf / "videos", split=2)
    touched = (ucf / "lists" / "testlist01.txt").read_text()
    lines(ucf / "lists" / "testlist01.txt", touched, "Archery/archer.avi")
    with pytest.raises(ClipsError, match=r"line 4: Class/v_Class_g01_c01\.avi expected"):
        ucf101(ucf / "lists", ucf / "videos")
    lines(ucf / "lists" / "testlist01.txt", "Archery/v_Archery_g08_c01.avi")
    with pytest.raises(ClipsError, match="1 sources are on both sides of the split: v_Archery_g08"):
        ucf101(ucf / "lists", ucf / "videos")
    lines(tmp_path / "h" / "wave_test_split1.txt", "Dora_wave_u_1.avi 3")
    with pytest.raises(ClipsError, match="line 1: FILE and 0, 1 or 2 expected"):
        hmdb51(tmp_path / "h", tmp_path)
    with pytest.raises(ClipsError, match="lists no clips"):
        hmdb51(tmp_path / "h", tmp_path, split=3)
    lines(tmp_path / "h" / "wave_test_split2.txt", "Dora_wave_u_1.avi 1", "Eve_wave_u_2.avi 2")
    with pytest.raises(ClipsError, match=r"2 of 2 videos are not in .*: wave/Dora_wave_u_1\.avi"):
        hmdb51(tmp_path / "h", tmp_path, split=2)
    with pytest.raises(ValueError, match="form must be list, kinetics, ucf101 or hmdb51"):
        ClipFilesPaths(folder=".", clips=".", form="sports").open()
