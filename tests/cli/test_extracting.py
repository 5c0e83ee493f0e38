"""`vidembed extract`: rows equal slow ones; stops, faults and further videos lose nothing."""

import json
import resource
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.media.clips import picture, tone, turn
from tests.media.graphs import WAVE, graph, write
from vidembed.__main__ import main
from vidembed.media import extracting
from vidembed.media.backbone import Runner
from vidembed.media.frames import sampled_frames
from vidembed.media.video_list import read_list, write_list
from vidembed.records.formats import FrameLevel, Modality
from vidembed.records.frames import read_frames
from vidembed.records.table import FeatureTable
from vidembed.records.window_ids import window_of

SIZE = 32
EXACT = ("--dtype", "float32")


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Two networks: 4 by 4 colours of a frame, and the 8 samples of half a second of sound."""
    folder = tmp_path_factory.mktemp("backbones")
    nodes = [
        helper.make_node("AveragePool", ["data"], ["p"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["p"], ["features"]),
    ]
    ends = [
        helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, SIZE, SIZE]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 48]),
    ]
    made = helper.make_graph(nodes, "colours", ends[:1], ends[1:])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    taken = {"kind": "frame", "height": SIZE, "width": SIZE, "fit": "squeeze", "rate": 5.0}
    write(folder, model.SerializeToString(), taken, scale=128, name="colours")
    (folder / "net.json").rename(folder / "colours.json")
    (folder / "net.onnx").rename(folder / "colours.onnx")
    write(folder, graph((8,), ()), WAVE, "NS", name="samples")
    return folder


def _write(path, images, sound=None):
    """A strongly compressed video of 25 frames per second."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "35"})
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
        audio = out.add_stream("aac", 44_100, layout="stereo") if sound is not None else None
        for image in images:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image))))
        out.mux(stream.encode())
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.T), "fltp", "stereo")
            frame.sample_rate = 44_100
            out.mux([*audio.encode(frame), *audio.encode()])
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Six videos of three seconds that show other pictures; the second has sound."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(6):
        scene = np.random.default_rng(number).integers(0, 256, (4, 4, 3))
        scene = scene.repeat(16, 0).repeat(32, 1)
        mixed = [0.7 * scene + 0.3 * picture(shown) for shown in range(75)]
        images = [image.astype(np.uint8) for image in mixed]
        _write(folder / f"clip{number}.mp4", images, sound=tone(3) if number == 1 else None)
    return folder


@pytest.fixture
def extract(backbones, tmp_path, capsys):
    """Runs the verb; returns exit code, table and what it printed."""

    def run(*words, table="table", exits=0):
        place, given = tmp_path / table, [str(word) for word in words]
        options = next((n for n, word in enumerate(given) if word[:2] == "--"), len(given))
        given = [*given[:options], str(place), "--backbones", str(backbones), *given[options:]]
        code = main(["extract", *given])
        captured = capsys.readouterr()
        assert code == exits, captured.err + captured.out
        finished = (place / "manifest.json").exists()
        return FeatureTable.open(place) if finished else None, captured.out + captured.err

    return run


def slowly(path):
    """Features f64[T, 48] of every fifth frame of 25 per second, by averages of blocks."""
    rows = []
    for frame in sampled_frames(path, [], rate=Fraction(5), height=SIZE, width=SIZE):
        blocks = frame.image.astype(np.float64).reshape(4, 8, 4, 8, 3).mean((1, 3)) / 128
        rows.append(blocks.transpose(2, 0, 1).reshape(-1))
    return np.array(rows)


def test_rows_equal_slow_ones_and_missing_sound_is_masked(extract, clips, tmp_path):
    table, printed = extract(clips, "--pool", "mean", "motion", "first", *EXACT, "--rate", "5")
    assert table.ids.tolist() == [b"clip%d" % n for n in range(6)]
    assert table.has("audio").tolist() == [n == 1 for n in range(6)]
    assert "visual 48" in printed
    manifest = json.loads((tmp_path / "table" / "manifest.json").read_text())
    assert manifest["source"]["options"]["extract"]["pool"] == ["mean", "motion", "first"]
    assert manifest["source"]["shards"][0]["records"] == 6
    for row, name in enumerate(table.ids.astype(str)):
        frames = slowly(clips / f"{name}.mp4")
        motion = np.abs(np.diff(frames, axis=0)).mean(0)
        for modality, expected in (
            ("visual", frames.mean(0)), ("visual-first", frames[0]), ("activity", motion),
        ):  # fmt: skip
            np.testing.assert_allclose(table.features[modality][row], expected, atol=1e-4)
    assert table.space["activity"].startswith("colours/features/")


def test_bytes_cover_the_values_and_an_append_keeps_their_range(extract, clips, tmp_path):
    first = [clips / f"clip{n}.mp4" for n in range(4)]
    exact, _ = extract(clips, "--dtype", "float32", table="exact")
    extract(*first)
    table, printed = extract(clips, "--append")
    assert "2 rows added" in printed
    assert [*table.ids] == [*exact.ids]
    bytes_range = table.ranges["visual"]
    values = bytes_range.dequantise(table.features["visual"])
    inside = np.clip(exact.features["visual"], *bytes_range.bounds)
    np.testing.assert_allclose(values, inside, atol=bytes_range.step / 2 + 1e-6)
    assert "nothing to do" in extract(clips)[1]
    assert "holds all 6" in extract(clips, "--append")[1]


@pytest.mark.fault(
    "Video files: videos are added with other options, or to a table of other features",
    "refused, naming both values",
)
def test_appends_of_other_rows_are_refused(extract, clips, tmp_path):
    first = clips / "clip0.mp4"
    extract(first)
    assert "--pool is ['first']" in extract(first, "--pool", "first", exits=1)[1]
    assert "--components holds" in extract(first, "--components", "c", table="c", exits=1)[1]
    printed = extract(clips, exits=1)[1]
    assert "lacks 5 of 6 videos" in printed
    assert "--append" in printed
    for words, message in (
        (("--pool", "first"), "--pool is ['first']"),
        (("--dtype", "float16"), "--dtype is 'float16'"),
        (("--force",), "only one of them"),
        (("--rate", "2"), "--rate is 2.0"),
    ):
        assert message in extract(clips, "--append", *words, exits=1)[1]


@pytest.mark.fault(
    "Video files: some files cannot be decoded",
    "the others are extracted; exit code 1, a list of files and reasons; later runs add them",
)
def test_a_bad_file_costs_that_file(extract, clips, tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    listed = tmp_path / "list.csv"
    listed.write_text(f"id,path\ngone,gone.mp4\nclip3,{clips}/clip3.mp4\n")
    for number in range(3):
        (folder / f"clip{number}.mp4").write_bytes((clips / f"clip{number}.mp4").read_bytes())
    good = (folder / "clip1.mp4").read_bytes()
    (folder / "clip1.mp4").write_bytes(b"no video at all")
    table, printed = extract(folder, listed, "--backbone", "colours", exits=1)
    assert table.ids.tolist() == [b"clip0", b"clip2", b"clip3"]
    assert "FAILED" in printed
    assert "gone.mp4" in printed
    assert printed.count(f"{folder}/clip1.mp4") == 1
    again = extract(folder, listed, exits=1)[1]
    assert "holds 3 of 5 videos" in again
    assert again.count("FAILED") == 2
    tried = extract(folder, listed, "--append", exits=1)[1]
    assert "2 videos could not be read" in tried
    (folder / "clip1.mp4").write_bytes(good)
    assert "lacks 1 of 4 videos, first 'clip1'" in extract(folder, clips / "clip3.mp4", exits=1)[1]
    table, printed = extract(folder, "--append")
    assert table.ids.tolist() == [b"clip0", b"clip2", b"clip3", b"clip1"]
    assert list(table.features) == ["visual"]
    (folder / "clip0.mp4").write_bytes(good)
    assert f"{folder}/clip0.mp4: its size or time has changed" in extract(folder)[1]
    # As if the process had been killed between the table and its list.
    entries = read_list(tmp_path / "table")
    write_list(tmp_path / "table", [entries["gone"], entries["clip1"]._replace(state="failed")])
    assert "nothing to do" in extract(folder, "--append")[1]


@pytest.mark.fault(
    "Video files: videos are added in shards", "all of them are added by the run without --shard"
)
def test_an_append_in_shards_adds_all(extract, clips, tmp_path):
    extract(clips / "clip0.mp4", "--backbone", "colours")
    for part in ("1/2", "2/2", ""):
        shard = ("--shard", part) if part else ()
        table, _ = extract(clips, "--append", "--features", tmp_path / "common", *shard)
        assert len(table) == (1 if part else 6)


def test_a_video_without_any_modality_is_known(extract, clips, tmp_path, monkeypatch):
    """Only the second has sound."""
    two = [clips / "clip0.mp4", clips / "clip1.mp4"]
    table, printed = extract(*two, "--backbone", "samples")
    assert table.ids.tolist() == [b"clip1"]
    assert "1 videos have none of these modalities and are left out, first 'clip0'" in printed
    assert "holds all 2" in extract(*two)[1]
    table, printed = extract(*two, clips / "clip2.mp4", "--append")
    assert "first 'clip2'" in printed
    assert len(table) == 1
    monkeypatch.chdir(clips)  # the list names absolute paths, and is a manifest
    extract("clip0.mp4", "clip1.mp4", "--backbone", "colours", table="relative")
    table, _ = extract(tmp_path / "relative.videos.csv", "--backbone", "colours", table="same")
    assert len(table) == 2
    other = tmp_path / "clip0.mp4"
    other.write_bytes(two[1].read_bytes())  # now with sound
    table, _ = extract(other, "--append")
    assert table.ids.tolist() == [b"clip1", b"clip0"]


@pytest.mark.fault(
    "Video files: a split file, components, backbones or TABLE that cannot be used",
    "refused by name before any file is decoded",
)
def test_mistakes_are_found_before_any_file_is_decoded(
    extract, clips, backbones, tmp_path, monkeypatch
):
    extract(clips / "clip0.mp4", "--backbone", "colours")
    extract(clips / "clip0.mp4", "--backbone", "colours", "--pool", "first", table="other")
    (tmp_path / "file").write_text("a file")
    other = tmp_path / "backbones"
    shutil.copytree(backbones, other)
    about = json.loads((other / "colours.json").read_text())
    (other / "colours.json").write_text(json.dumps(about | {"scale": 64}))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("notes")

    def decoded(*_, **__):
        raise AssertionError("a file is decoded")

    monkeypatch.setattr("vidembed.cli.extracting.extract", decoded)
    new = {"table": "new", "exits": 1}
    for words, given, message in (
        (("--pca", "2", "--split", tmp_path / "gone.csv"), new, "gone.csv"),
        (("--pca", "2", "--train-share", "0.001"), new, "components need 5 videos each"),
        (("--pca", "2", "--components", tmp_path / "gone"), new, "no such file of principal"),
        (("--workers", "0"), new, "--workers 0"),
        ((), {"table": "file/table", "exits": 1}, "file"),
        ((), {"table": "folder", "exits": 1}, "holds other files"),
        (("--append", "--backbone", "samples"), {"exits": 1}, "made with the backbones colours"),
        (("--append", "--pool", "mean"), {"table": "other", "exits": 1}, "--pool is ['mean']"),
        (("--append", "--components", "c"), {"exits": 1}, "was made without --pca"),
        (("--append", "--backbones", other), {"exits": 1}, "was made with other backbones"),
    ):
        assert message in extract(clips, *words, **given)[1]


@pytest.mark.fault(
    "Video files: a network makes NaN of a file", "that file is left out and listed; exit code 1"
)
def test_features_that_are_not_finite_cost_that_file(extract, clips, monkeypatch):
    run, files = Runner.__call__, iter(range(99))

    def not_finite(runner, values):
        if runner.backbone.name == "colours" and next(files) == 1:
            raise ValueError("output 'features' is not finite")
        return run(runner, values)

    monkeypatch.setattr(Runner, "__call__", not_finite)
    three = [clips / f"clip{n}.mp4" for n in (0, 2, 3)]
    table, printed = extract(*three, "--backbone", "colours", exits=1)
    assert len(table) == 2
    assert "is not finite" in printed


@pytest.mark.long
def test_only_bad_files_make_no_table(extract, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    table, printed = extract(tmp_path / "bad.mp4", exits=1)
    assert table is None
    assert "1 videos could not be read" in printed


@pytest.mark.fault(
    "Video files: a stop in the middle", "the same command goes on with the files that are left"
)
def test_a_stop_loses_no_finished_file(extract, clips, tmp_path, monkeypatch):
    decoded = extracting.decoded

    def stopped(*given, **options):
        for number, file in enumerate(decoded(*given, **options)):
            if number == 3:
                raise KeyboardInterrupt
            yield file

    monkeypatch.setattr(extracting, "decoded", stopped)
    extract(clips, exits=130)
    monkeypatch.setattr(extracting, "decoded", decoded)
    table, printed = extract(clips)
    assert "3 videos were extracted before" in printed
    whole, _ = extract(clips, table="whole")
    for name, array in whole.features.items():
        np.testing.assert_array_equal(table.features[name], array)
    assert not (tmp_path / "table.features").exists()


@pytest.mark.fault(
    "Video files: the disk is full while features are stored",
    "1: the file and the reason; finished videos stay, and the same command goes on",
)
def test_a_full_disk_is_named_and_loses_nothing(extract, clips, tmp_path):
    extract(clips / "clip0.mp4", "--features", tmp_path / "frames", table="first")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))  # makes writes really fail
    try:
        table, printed = extract(clips, "--features", tmp_path / "frames", exits=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert table is None
    assert "File too large" in printed
    assert ".npz" in printed
    table, printed = extract(clips, "--features", tmp_path / "frames")
    assert "1 videos were extracted before" in printed
    assert len(table) == 6


@pytest.mark.long
def test_shards_into_one_folder_equal_one_run(extract, clips, tmp_path):
    common = ("--features", tmp_path / "common")
    for part in ("1/2", "2/2"):
        table, _ = extract(clips, *common, "--shard", part, table="parts")
        assert table is None
    parts, printed = extract(clips, *common, table="parts")
    assert "6 videos were extracted before" in printed
    assert parts.fingerprint == extract(clips, table="whole")[0].fingerprint
    assert "--shard needs" in extract(clips, "--shard", "1/2", table="none", exits=1)[1]


@pytest.mark.long
def test_components_are_fitted_on_train_videos_and_kept_for_later_ones(extract, clips, tmp_path):
    split = tmp_path / "split.csv"
    names = [f"clip{n}" for n in range(6)]
    split.write_text(
        "id,split\n" + "".join(f"{n},{'train' if n != 'clip5' else 'test'}\n" for n in names)
    )
    words = ("--backbone", "colours", "--split", split, "--dtype", "float32")
    raw, _ = extract(clips, *words[:2], *words[4:], table="raw")
    table, printed = extract(clips, *words, "--pca", "4")
    assert "1 components instead of 4" in printed
    train = raw.features["visual"][:5].astype(np.float64)
    axis = np.linalg.svd(train - train.mean(0), full_matrices=False)[2][0]
    expected = (raw.features["visual"] - train.mean(0)) @ axis
    expected /= expected[:5].std()
    made = table.features["visual"][:, 0]
    np.testing.assert_allclose(np.abs(made), np.abs(expected), atol=1e-3)
    reused, _ = extract(
        clips, *words, "--pca", "4", "--components", tmp_path / "table.pca", table="reused"
    )
    np.testing.assert_array_equal(reused.features["visual"], table.features["visual"])
    assert reused.space == table.space
    more = tmp_path / "more"
    more.mkdir()
    (more / "clip6.mp4").write_bytes((clips / "clip0.mp4").read_bytes())
    appended, _ = extract(more, "--append", "--split", split, table="reused")
    np.testing.assert_array_equal(appended.features["visual"][6], appended.features["visual"][0])


@pytest.mark.long
def test_frames_are_written_as_frame_level_records(extract, clips, tmp_path):
    records = tmp_path / "records"
    words = ("--backbone", "colours", "--pca", "1", "--pca-on", "frames", "--train-share", "0.999")
    _, printed = extract(clips, *words, "--frame-records", records, "--dtype", "float32")
    format = FrameLevel(modalities=(Modality(name="visual", key="rgb", width=1),))
    [file] = records.iterdir()
    videos = {video.id: video for video in read_frames(file, format)}
    assert len(videos) == 6
    assert len(videos[b"clip0"].frames["visual"]) == 15
    assert "clipped" in printed
    bare = extract(clips, "--frame-records", records, table="bare", exits=1)[1]
    assert "--pca-on frames" in bare
    full = extract(clips, *words, "--frame-records", records, table="full", exits=1)[1]
    assert "is not empty" in full
    complete = extract(clips, *words, "--frame-records", tmp_path / "more", exits=1)[1]
    assert "lacks none" in complete
    assert (tmp_path / "table.pca").exists()
    extract(clips, "--force")
    assert not (tmp_path / "table.pca").exists()


def test_windows_are_rows_of_their_own(extract, clips, backbones, tmp_path, capsys):
    table, _ = extract(clips / "clip0.mp4", "--backbone", "colours", "--window", "2")
    windows = [window_of(name.decode()) for name in table.ids.tolist()]
    assert [(w.video, w.start, w.end) for w in windows] == [("clip0", 0, 2), ("clip0", 2, 4)]
    frames = slowly(clips / "clip0.mp4")
    expected = [frames[:10].mean(0), frames[10:].mean(0)]
    values = table.ranges["visual"].dequantise(table.features["visual"])
    np.testing.assert_allclose(values, expected, atol=table.ranges["visual"].step)
    slash = [str(clips / "clip0.mp4"), f"{tmp_path}/table/", "--backbones", str(backbones)]
    assert main(["extract", *slash]) == 0
    assert "holds all 1 videos" in capsys.readouterr().out


def test_a_changed_copy_of_a_video_is_its_nearest_neighbour(extract, clips, tmp_path, capsys):
    """Re-encoded at a low quality, cropped, cut, and turned in its metadata."""
    folder = tmp_path / "copies"
    folder.mkdir()
    with av.open(str(clips / "clip2.mp4")) as source:
        images = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    _write(folder / "clip2-crop.mp4", [image[4:-4, 8:-8] for image in images])
    _write(folder / "clip2-cut.mp4", images[:50])
    _write(folder / "clip2-low.mp4", images)
    turned = _write(folder / "clip2-turned.mp4", [np.rot90(image) for image in images])
    turn(turned, ((0, 1), (-1, 0)))  # players turn it back by a quarter
    extract(clips, folder, "--backbone", "colours")
    index = str(tmp_path / "index")
    assert main(["index", str(tmp_path / "table"), index]) == 0
    copies = [f"clip2-{name}" for name in ("crop", "cut", "low", "turned")]
    capsys.readouterr()
    assert main(["search", index, "-k", "4", "--id", *copies]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    nearest = {query: {line[2] for line in lines if line[0] == query} for query in copies}
    for query in copies:
        assert nearest[query] == {"clip2", *copies} - {query}


@pytest.mark.fault(
    "Video files: no folder of backbones, or an empty one", "the message says how to get them"
)
def test_missing_backbones_are_explained(clips, tmp_path, capsys):
    assert main(["extract", str(clips), str(tmp_path / "t")]) == 1
    assert "--backbones FOLDER" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    words = ["extract", str(clips), str(tmp_path / "t"), "--backbones", str(tmp_path / "empty")]
    assert main(words) == 1
    assert "holds no backbone" in capsys.readouterr().err
