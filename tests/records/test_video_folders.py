"""Folders of one .npy file per video, and .npz files, against arrays in memory; their faults."""

import re
import shutil
import zipfile

import numpy as np
import pytest

from vidembed.__main__ import main
from vidembed.records import importing
from vidembed.records.faults import ContentError
from vidembed.records.importing import Importing, RefusedError
from vidembed.records.inspecting import inspect
from vidembed.records.npz_rows import read_rows
from vidembed.records.origin import origin_of
from vidembed.records.table import FeatureTable

WIDTHS = {"object": 4, "activity": 3, "audio": 2}


def folders(place, videos=5, lacking=()):
    """Write the folders; returns modality → id → f32[F]. Videos with even numbers have frames."""
    random, made = np.random.default_rng(0), {}
    for modality, width in WIDTHS.items():
        (place / modality).mkdir(parents=True)
        made[modality] = {}
        for number in range(videos):
            if (modality, number) in lacking:
                continue
            frames = random.uniform(-1, 1, (2 + number, width)).astype(np.float32)
            array = frames if number % 2 == 0 else frames[0]
            np.save(place / modality / f"video{number}.npy", array)
            slow = [sum(float(f[i]) for f in frames) / len(frames) for i in range(width)]
            made[modality][f"video{number}"] = np.array(slow if array.ndim == 2 else array)
    return made


def take(source, table, **options):
    return importing.import_videos(source, table, Importing(dtype="float32", **options))


def test_a_file_per_video_is_a_row_and_rows_of_frames_are_averaged(tmp_path, capsys):
    made = folders(tmp_path / "features", lacking={("audio", 1), ("audio", 4), ("object", 3)})
    (tmp_path / "features" / "README.md").write_text("what these are")
    (tmp_path / "features" / "object" / "._video0.npy").write_bytes(b"of a Mac, beside a copy")
    assert (
        main(["import", str(tmp_path / "features"), str(tmp_path / "t"), "--dtype", "float32"]) == 0
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "2 without audio" in said
    assert "1 without object" in said
    assert "several rows (up to 6), whose mean is taken: 3 of activity, 2 of audio, 3 of ob" in said
    table = FeatureTable.open(tmp_path / "t")
    assert table.ids.tolist() == [b"video%d" % number for number in range(5)]
    assert table.widths == WIDTHS
    for modality, vectors in made.items():
        for row, name in enumerate(table.ids.astype(str)):
            assert table.has(modality)[row] == (name in vectors)
            expected = vectors.get(name, np.zeros(WIDTHS[modality]))
            np.testing.assert_allclose(table.features[modality][row], expected, atol=1e-7)
    # Again, a copy elsewhere, and fewer modalities.
    shutil.copytree(tmp_path / "features", tmp_path / "copy")
    assert take(tmp_path / "copy", tmp_path / "t")["already_there"]
    take(tmp_path / "copy", tmp_path / "two", modalities=("o:object:4", "audio:audio:2"))
    assert FeatureTable.open(tmp_path / "two").widths == {"o": 4, "audio": 2}
    found = inspect(tmp_path / "copy")
    assert not found.faults
    assert "3 of object" in found.facts["averaged"]
    assert "import" in found.command


def test_videos_are_appended_by_the_options_of_the_table(tmp_path):
    folders(tmp_path / "a", videos=3)
    folders(tmp_path / "b", videos=5)
    take(tmp_path / "a", tmp_path / "t")
    importing.import_videos(
        tmp_path / "b", tmp_path / "t", Importing(append=True, duplicates="first")
    )
    assert len(FeatureTable.open(tmp_path / "t")) == 5


@pytest.mark.fault(
    "Records: a folder of one .npy file per video, with a file that is damaged, of another width, "
    "of integers or without frames, or a video that lacks a modality",
    "1: the file and what it holds; a lacking modality is masked and counted, or refused "
    "(`--missing refuse`); `--on-error skip` leaves such videos out",
)
def test_files_that_do_not_fit_are_named(tmp_path):
    place = tmp_path / "features"
    folders(place)
    file = place / "activity" / "video3.npy"

    def refused(match, **options):
        with pytest.raises(ValueError, match=match):
            take(place, tmp_path / "t", **options)
        assert not (tmp_path / "t").exists()

    good = file.read_bytes()
    for content, words in (
        (np.ones(7, np.float32), "has width 7, but 'activity' needs 3"),
        (np.ones(3, np.int64), r"holds int64\[3\]; expected floats"),
        (np.ones((0, 3)), r"holds float64\[0, 3\]"),
        (np.ones((1, 1, 3)), r"\[1, 1, 3\]; expected floats, \[width\] or \[frames, width\]"),
        (np.array([None]), "cannot be read as .npy: .*Object arrays"),
    ):
        np.save(file, content)
        refused(rf"activity/video3\.npy: row 3: .*{words}")
    for content in (good[:-2], good + b"x", b"", b"text"):
        file.write_bytes(content)
        refused(r"activity/video3\.npy: row 3: (cannot be read as \.npy|.*and more bytes)")
    assert take(place, tmp_path / "skipped", on_error="skip")["skipped"] == 1
    assert b"video3" not in FeatureTable.open(tmp_path / "skipped").ids.tolist()
    np.save(file, np.array([1, np.nan, 0], np.float32))
    with pytest.raises(RefusedError, match=r"activity with NaN or infinity: 1 \(video3\)"):
        take(place, tmp_path / "t")
    np.save(file, np.array([[1, 1, 1], [1, np.inf, 0]], np.float32))
    refused("activity with NaN or infinity")
    file.unlink()
    refused("row 3: modality 'activity' is missing.*found audio, object", missing="refuse")
    refused("no folder sound among activity, audio, object", modalities=("sound:sound:2",))
    refused("the names of their files: leave --ids out", ids=str(tmp_path / "ids"))


def saved(path, **arrays):
    (np.savez_compressed if path.name.startswith("c") else np.savez)(path, **arrays)
    return path


@pytest.mark.parametrize("name", ["plain.npz", "compressed.npz"])
def test_an_npz_becomes_the_same_table_as_npy_files(tmp_path, name):
    random = np.random.default_rng(1)
    arrays = {m: random.uniform(-1, 1, (300, width)) for m, width in WIDTHS.items()}
    ids = np.array([f"é{number}" for number in range(300)])
    for modality, array in arrays.items():
        np.save(tmp_path / f"{modality}.npy", array)
    np.save(tmp_path / "ids.npy", ids)
    take(f"{tmp_path}/*.npy", tmp_path / "t", ids=str(tmp_path / "ids.npy"))
    arrays["audio"] = np.asfortranarray(arrays["audio"])
    saved(tmp_path / name, ids=ids, **arrays)
    take(tmp_path / name, tmp_path / "z")
    one, other = (FeatureTable.open(tmp_path / table) for table in "tz")
    assert one.ids.tolist() == other.ids.tolist()
    for modality in WIDTHS:
        np.testing.assert_array_equal(one.features[modality], other.features[modality])
    few = list(read_rows(tmp_path / name, origin_of(tmp_path / name, Importing()).format,
                         chunk_records=7))  # fmt: skip
    assert [len(videos.ids) for videos in few] == [7] * 42 + [6]
    np.testing.assert_array_equal(
        np.concatenate([v.features["audio"] for v in few]), arrays["audio"].astype(np.float32)
    )
    saved(tmp_path / name, clip=np.arange(300), x=arrays["object"].astype(np.float16))
    take(tmp_path / name, tmp_path / "n", id_key="clip", modalities=("visual:x:4",))
    assert FeatureTable.open(tmp_path / "n").ids[7] == b"7"


@pytest.mark.fault(
    "Records: an .npz that is damaged, without ids, of Python objects, or whose arrays differ in "
    "their numbers of rows",
    "1: the array, and what the file has",
)
def test_npz_files_that_do_not_fit_are_named(tmp_path):
    path, ids = tmp_path / "v.npz", np.array(["a", "b", "c"])
    rows = np.random.default_rng(2).uniform(-1, 1, (3, 2)).astype(np.float32)

    def refused(match, **options):
        with pytest.raises(ValueError, match=match):
            take(path, tmp_path / "t", **options)
        assert not (tmp_path / "t").exists()

    for arrays, words in (
        ({"x": rows}, r"no array of ids \(ids, id, .*--id-key gives another\): it has x float32"),
        ({"x": rows, "ids": ids[:2]}, "x has 3 rows, for 2 ids"),
        ({"x": rows, "ids": rows}, r"ids is float32\[3, 2\]; ids are text, bytes or integers"),
        ({"x": rows, "ids": np.array(["a", "", "c"])}, r"row 1: id b''"),
        (
            {"x": rows.astype(int), "ids": ids},
            r"no array of floats \[videos, width\]: it has x int",
        ),
        ({"x": rows, "ids": np.array([None, 1, 2])}, "ids.npy holds Python objects"),
        ({"x": rows[:0], "ids": ids[:0]}, "has no videos"),
        ({"x": rows * np.nan, "ids": ids}, r"x with NaN or infinity: 3 \(a, b, c\)"),
    ):
        saved(path, **arrays)
        refused(words)
    saved(path, x=rows, ids=ids)
    refused(r"x is float32\[3, 2\]; expected floats \[videos, 5\]", modalities=("x:x:5",))
    refused("no array 'y': it has x", modalities=("y:y:2",))
    refused("--ids FILE holds the ids of .npy files", ids=str(path))
    good = path.read_bytes()
    place = good.index(rows.tobytes()[:8])
    for content in (good[:-30], good[: len(good) // 2], good[:place] + b"\0" + good[place + 1 :]):
        path.write_bytes(content)
        refused("cannot be read as .npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "none")
    refused(r"notes\.txt cannot be read as \.npy")


def test_messages_name_files_once(tmp_path):
    saved(tmp_path / "v.npz", x=np.ones((1, 2)))
    with pytest.raises(ContentError) as caught:
        take(tmp_path / "v.npz", tmp_path / "t")
    assert len(re.findall(r"v\.npz", str(caught.value))) == 1
