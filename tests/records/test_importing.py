"""Imports: every row in its place, every fault named, all or nothing written."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from functools import partial

import ml_dtypes
import numpy as np
import pytest

from tests.messages import encode_video
from vidembed.records import arrays, importing, streaming
from vidembed.records.bytecode import OFFSET, STEP, dequantise, quantise
from vidembed.records.faults import RecordError
from vidembed.records.formats import YOUTUBE_8M, Modality, VideoLevel
from vidembed.records.framing import read_records, write_records
from vidembed.records.importing import Importing, RefusedError, main
from vidembed.records.shards import shards
from vidembed.records.streaming import stream_videos
from vidembed.records.table import FeatureTable, TableError
from vidembed.records.table_folder import read_manifest, table_state
from vidembed.records.youtube8m import parse_video, read_videos

FORMAT = VideoLevel(
    modalities=(
        Modality(name="visual", key="mean_rgb", width=8),
        Modality(name="audio", key="mean_audio", width=2),
    )
)
MASKED = VideoLevel(modalities=FORMAT.modalities, missing="mask")


def options_of(format, **options):
    """The command-line options for a format, with other options."""
    typed = tuple(f"{m.name}:{m.key}:{m.width}" for m in format.modalities)
    labels = format.labels_key or ""
    return Importing(modalities=typed, labels_key=labels, missing=format.missing, **options)


def import_videos(records, table, *, format=YOUTUBE_8M, progress=lambda *_: None, **options):
    chosen = options_of(format, **options)
    return importing.import_videos(records, table, chosen, progress=progress)


def video(name, shift=0.0, labels=(1, 2), **features):
    rng = np.random.default_rng(list(name.encode()))
    made = {"visual": rng.uniform(-1, 1, 8) + shift, "audio": rng.uniform(-1, 1, 2) + shift}
    return name, list(labels), {**made, **features}


def write(folder, *contents, compress=False):
    """Write one shard per list of videos; returns the folder."""
    folder.mkdir(exist_ok=True)
    for number, videos in enumerate(contents):
        payloads = []
        for name, labels, features in videos:
            present = {key: value for key, value in features.items() if value is not None}
            payloads.append(encode_video(name, labels, present, MASKED))
        write_records(folder / f"shard{number:02d}.tfrecord", payloads, compress=compress)
    return folder


@pytest.fixture
def records(tmp_path):
    return write(
        tmp_path / "records",
        [video(f"a{n}", labels=range(n % 4)) for n in range(7)],
        [video(f"b{n}") for n in range(3)],
        [video(f"c{n}") for n in range(5)],
    )


def expected_rows(folder, name):
    """The rows by the slow way: one record at a time."""
    rows = []
    for file in sorted(folder.glob("*.tfrecord")):
        rows += [parse_video(payload, MASKED).features[name] for payload in read_records(file)]
    return np.stack(rows)


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("uint8", quantise),
        ("float32", lambda rows: rows),
        ("bfloat16", lambda rows: rows.astype(ml_dtypes.bfloat16)),
    ],
)
def test_rows_are_those_of_the_records(tmp_path, records, monkeypatch, dtype, stored):
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 32)  # many chunks
    report = import_videos(records, tmp_path / "t", format=FORMAT, dtype=dtype)
    table = FeatureTable.open(tmp_path / "t")
    names = [f"{s}{n}".encode() for s, count in zip("abc", (7, 3, 5)) for n in range(count)]
    assert table.ids.tolist() == names
    for name in ("visual", "audio"):
        expected = stored(expected_rows(records, name))
        assert table.features[name].dtype == expected.dtype
        np.testing.assert_array_equal(table.features[name], expected)
    labels = [list(range(n % 4)) for n in range(7)] + [[1, 2]] * 8
    assert [table.labels(row).tolist() for row in range(15)] == labels
    assert table.present == {}
    assert report["fingerprint"] == table.fingerprint
    assert (report["rows"], report["records"], report["without_labels"]) == (15, 15, 2)
    shard_counts = [(s["name"], s["records"]) for s in table.manifest["source"]["shards"]]
    assert shard_counts == [
        ("shard00.tfrecord", 7),
        ("shard01.tfrecord", 3),
        ("shard02.tfrecord", 5),
    ]


def test_real_shards_within_half_a_step(tmp_path):
    here = os.path.join(os.path.dirname(__file__), "../../data/youtube8m")
    report = import_videos(f"{here}/validate000[0-1].tfrecord", tmp_path / "u8")
    import_videos(f"{here}/validate000[0-1].tfrecord", tmp_path / "f32", dtype="float32")
    small, exact = FeatureTable.open(tmp_path / "u8"), FeatureTable.open(tmp_path / "f32")
    assert report["rows"] == len(small) == 284 + 305
    assert small.widths == {"visual": 1024, "audio": 128}
    for name in small.features:
        error = np.abs(dequantise(small.features[name]) - exact.features[name])
        assert error.max() <= STEP / 2 * 1.0001
    assert report["clipped_share"] == {"visual": 0, "audio": 0}


def test_order_does_not_depend_on_the_workers(tmp_path, monkeypatch):
    folder = write(
        tmp_path / "r", *[[video(f"{s}-{n}") for n in range(1 + s % 5)] for s in range(12)]
    )
    prints = {
        import_videos(folder, tmp_path / f"t{w}", format=FORMAT, workers=w)["fingerprint"]
        for w in (1, 2, 5)
    }
    assert len(prints) == 1
    with pytest.raises(ValueError, match="at least 1"):
        import_videos(folder, tmp_path / "t0", format=FORMAT, workers=0)
    # Also if a shard has many chunks.
    monkeypatch.setattr(streaming, "read_videos", partial(read_videos, chunk_records=1))
    orders = [
        [v.ids[0] for _, v in stream_videos(shards(folder), FORMAT, workers=w)] for w in (1, 2, 5)
    ]
    assert orders[0] == FeatureTable.open(tmp_path / "t1").ids.tolist()
    assert orders[0] == orders[1] == orders[2]


def test_only_a_few_shards_are_read_ahead(records, monkeypatch):
    opened = []

    def read(file, *arguments, **options):
        opened.append(file.name)
        return read_videos(file, *arguments, **options)

    monkeypatch.setattr(streaming, "read_videos", read)
    stream = stream_videos(shards(records), FORMAT, workers=2)
    assert next(stream)[0] == 0
    stream.close()  # no thread is left that could open another
    assert set(opened) <= {"shard00.tfrecord", "shard01.tfrecord"}


def test_only_a_few_chunks_are_in_memory(tmp_path, records, monkeypatch):
    """Chunks are on the disk before the last record is read."""
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 8)  # one row of `visual`
    seen = []

    def progress(done, total, rows):
        seen.append((done, total, rows, len(list((tmp_path / "t").glob("features/visual/c/*/0")))))

    import_videos(records, tmp_path / "t", format=FORMAT, progress=progress)
    assert [row[:3] for row in seen] == [(0, 3, 7), (1, 3, 10), (2, 3, 15), (3, 3, 15)]
    assert seen[2][3] >= 9


def test_duplicates(tmp_path):
    again = [video(f"x{n}", shift=0.1) for n in range(12)]
    folder = write(
        tmp_path / "r", [video(f"x{n}") for n in range(13)], again, [video("y"), video("y", 0.2)]
    )
    with pytest.raises(RefusedError, match=r"13 \(x0 in shard00.tfrecord and shard01") as caught:
        import_videos(folder, tmp_path / "t", format=FORMAT)
    assert "x9 in shard00.tfrecord and shard01.tfrecord and 3 more" in str(caught.value)
    assert "--duplicates first" in str(caught.value)
    assert table_state(tmp_path / "t") == "empty"
    report = import_videos(
        folder, tmp_path / "t", format=FORMAT, duplicates="first", dtype="float32"
    )
    table = FeatureTable.open(tmp_path / "t")
    assert table.ids.tolist() == [f"x{n}".encode() for n in range(13)] + [b"y"]
    assert (report["rows"], report["records"], report["duplicates"]) == (14, 27, 13)
    named = [f"x{n} in shard00.tfrecord and shard01.tfrecord" for n in range(10)]
    assert report["findings"] == {"ids that occur again": {"count": 13, "named": named}}
    for name, expected in (("x5", video("x5")), ("y", video("y"))):
        row = table.find([name])
        np.testing.assert_allclose(
            table.rows(row)["visual"][0], expected[2]["visual"].astype(np.float32)
        )


BAD = {
    "nan": {"visual": np.array([1.0] * 7 + [np.nan])},
    "inf": {"audio": np.array([np.inf, 1.0])},
    "minus": {"visual": np.array([-np.inf] + [1.0] * 7)},
    "zero": {"audio": np.zeros(2)},
}


@pytest.fixture
def faulty(tmp_path):
    return write(
        tmp_path / "faulty",
        [video("ok0"), *(video(name, **fields) for name, fields in BAD.items())],
        [video("ok1"), video("deaf", audio=np.array([np.nan, 0]), visual=np.zeros(8))],
    )


def test_invalid_rows_are_refused(tmp_path, faulty):
    with pytest.raises(RefusedError) as caught:
        import_videos(faulty, tmp_path / "t", format=FORMAT)
    message = str(caught.value)
    assert "visual with NaN or infinity: 2 (nan, minus)" in message
    assert "audio with NaN or infinity: 2 (inf, deaf)" in message
    assert "visual all zero: 1 (deaf)" in message
    assert "audio all zero: 1 (zero)" in message
    assert "--invalid drop" in message
    assert "--invalid mask" in message


def test_invalid_rows_are_dropped(tmp_path, faulty):
    report = import_videos(faulty, tmp_path / "t", format=FORMAT, invalid="drop")
    table = FeatureTable.open(tmp_path / "t")
    assert table.ids.tolist() == [b"ok0", b"ok1"]
    assert table.present == {}
    assert report["not_finite"] == {"visual": 2, "audio": 2}
    assert report["all_zero"] == {"visual": 1, "audio": 1}
    assert report["findings"] == {
        "visual with NaN or infinity": {"count": 2, "named": ["nan", "minus"]},
        "visual all zero": {"count": 1, "named": ["deaf"]},
        "audio with NaN or infinity": {"count": 2, "named": ["inf", "deaf"]},
        "audio all zero": {"count": 1, "named": ["zero"]},
    }


def test_the_command_names_what_it_left_out_or_masked(tmp_path, faulty, capsys):
    write_records(
        faulty / "shard09.tfrecord",
        [encode_video(name, [1], video("ok0")[2], MASKED) for name in ["ok0", "ok1"]]
        + [encode_video("none", [1], {}, MASKED)],
    )
    for invalid, action in (("drop", "left out"), ("mask", "masked")):
        for _ in range(2):  # the second time from the manifest
            options = options_of(MASKED, duplicates="first", invalid=invalid)
            main(str(faulty), str(tmp_path / invalid), options)
            output = capsys.readouterr().out
            assert f"\n  visual with NaN or infinity, {action}: 2 (nan, minus)\n" in output
            assert f"\n  audio all zero, {action}: 1 (zero)\n" in output
            assert "\n  ids that occur again, the first kept: 2 (ok0 in shard00" in output
            assert "\n  videos without any modality, left out: 1 (none)\n" in output


@pytest.mark.fault("Records: NaN, infinity, all zero")
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_invalid_rows_are_masked(tmp_path, faulty, dtype):
    report = import_videos(faulty, tmp_path / "t", format=FORMAT, invalid="mask", dtype=dtype)
    table = FeatureTable.open(tmp_path / "t")
    # Nothing is left of "deaf".
    assert table.ids.tolist() == [b"ok0", b"nan", b"inf", b"minus", b"zero", b"ok1"]
    assert table.has("visual").tolist() == [True, False, True, False, True, True]
    assert table.has("audio").tolist() == [True, True, False, True, False, True]
    assert report["missing"] == {"visual": 2, "audio": 2}
    for name in table.features:
        gone = dequantise(table.features[name][~table.has(name)])
        assert np.abs(gone).max() <= STEP / 2
        row = table.find(["ok1"])
        expected = video("ok1")[2][name]
        np.testing.assert_allclose(dequantise(table.rows(row)[name])[0], expected, atol=STEP / 2)


def test_missing_modalities(tmp_path):
    folder = write(
        tmp_path / "r",
        [video("both"), video("deaf", audio=None), video("none", audio=None, visual=None)],
    )
    with pytest.raises(RecordError, match=r"shard00.tfrecord: record 1 .*'audio' is missing"):
        import_videos(folder, tmp_path / "t", format=FORMAT)
    with pytest.raises(RefusedError, match=r"without any modality: 1 \(none\)"):
        import_videos(folder, tmp_path / "t", format=MASKED)
    report = import_videos(folder, tmp_path / "t", format=MASKED, invalid="drop")
    table = FeatureTable.open(tmp_path / "t")
    assert table.ids.tolist() == [b"both", b"deaf"]
    assert table.has("audio").tolist() == [True, False]
    assert list(table.present) == ["audio"]
    assert report["missing"] == {"audio": 1}


def test_missing_beside_invalid(tmp_path):
    """The masks of rows without a modality and of unusable rows are aligned."""
    folder = write(
        tmp_path / "r",
        [video("deaf", audio=None), video("ok"), video("nan", audio=np.array([np.nan, 1]))],
    )
    import_videos(folder, tmp_path / "t", format=MASKED, invalid="mask")
    table = FeatureTable.open(tmp_path / "t")
    assert table.has("audio").tolist() == [False, True, False]
    import_videos(folder, tmp_path / "u", format=MASKED, invalid="drop")
    assert FeatureTable.open(tmp_path / "u").ids.tolist() == [b"deaf", b"ok"]


@pytest.mark.fault(
    "Records: a worker that raises or dies",
    "the error is raised, no thread remains, nothing waits forever",
)
def test_threads_end_with_a_failed_import(tmp_path, monkeypatch):
    # More chunks than are read ahead, so that readers are still running when the import fails.
    monkeypatch.setattr(streaming, "read_videos", partial(read_videos, chunk_records=1))
    folder = write(tmp_path / "r", *[[video(f"{s}-{n}") for n in range(5)] for s in range(8)])
    (folder / "shard00.tfrecord").write_bytes(b"x" * 40)
    with pytest.raises(RecordError):
        import_videos(folder, tmp_path / "t", format=FORMAT, workers=4)
    assert [t.name for t in threading.enumerate() if t.name.startswith("shard")] == []


def test_wrong_width(tmp_path, records):
    wider = VideoLevel(modalities=(Modality(name="visual", key="mean_rgb", width=9),))
    with pytest.raises(RecordError, match=r"shard00.tfrecord: record 0 .*of 9, found .*of 8"):
        import_videos(records, tmp_path / "t", format=wider)
    assert table_state(tmp_path / "t") == "empty"


def test_clipping(tmp_path):
    # 100 values in 10 videos; two of visual's 80 lie outside the range of uint8.
    far = np.array([3.0, -2.1] + [0.5] * 6)
    edge = np.full(8, OFFSET + 255 * STEP + STEP * 0.49)
    folder = write(
        tmp_path / "r",
        [video(f"v{n}") for n in range(8)] + [video("far", visual=far), video("e", visual=edge)],
    )
    with pytest.raises(RefusedError, match=r"visual: 2.50% .*from -2.1 to 3\) .*--dtype bfloat16"):
        import_videos(folder, tmp_path / "t", format=FORMAT)
    report = import_videos(folder, tmp_path / "t", format=FORMAT, max_clipped_share=0.03)
    assert report["clipped_share"] == {"visual": 0.025, "audio": 0.0}
    assert FeatureTable.open(tmp_path / "t").features["visual"][8, :2].tolist() == [255, 0]
    assert import_videos(folder, tmp_path / "f", format=FORMAT, dtype="float32")["rows"] == 10


def test_unreadable_records(tmp_path, records):
    shard = records / "shard00.tfrecord"
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    cut = records / "shard02.tfrecord"
    os.truncate(cut, cut.stat().st_size - 3)
    (records / "counts.json").write_text(
        json.dumps({"shard00.tfrecord": 7, "shard01.tfrecord": 3, "shard02.tfrecord": 5})
    )
    with pytest.raises(RecordError, match=r"shard00.tfrecord: record 0 at byte 0"):
        import_videos(records, tmp_path / "t", format=FORMAT)
    # Skipped records do not also make the shard count as cut.
    report = import_videos(records, tmp_path / "t", format=FORMAT, on_error="skip")
    assert (report["rows"], report["skipped"]) == (6 + 3 + 4, 2)
    assert {text.split(":")[0].rpartition("/")[2] for text in report["skipped_first"]} == {
        "shard00.tfrecord",
        "shard02.tfrecord",
    }
    assert FeatureTable.open(tmp_path / "t").ids[:2].tolist() == [b"a1", b"a2"]


def cut_last_record(shard):
    write_records(shard, list(read_records(shard))[:-1])


@pytest.mark.fault(
    "Records: TFRecord cut between records, a shard lost",
    "1: shard, records found and expected, by `counts.json`",
)
def test_clean_cut_is_noticed_by_the_counts(tmp_path, records):
    counts = records / "counts.json"
    counts.write_text(json.dumps({f"shard{n:02d}.tfrecord": c for n, c in enumerate((7, 3, 5))}))
    import_videos(records, tmp_path / "t", format=FORMAT)
    cut_last_record(records / "shard01.tfrecord")
    (records / "shard02.tfrecord").unlink()
    (records / "shard09.tfrecord").write_bytes((records / "shard01.tfrecord").read_bytes())
    with pytest.raises(RefusedError) as caught:
        import_videos(records, tmp_path / "t2", format=FORMAT, duplicates="first")
    message = str(caught.value)
    assert "shard01.tfrecord holds 2 records, 3 were expected" in message
    assert "shard02.tfrecord is missing, 5 records were expected" in message
    assert "shard09.tfrecord is not among the expected shards" in message
    # Shards outside the pattern are not missing.
    import_videos(records / "shard00*", tmp_path / "t3", format=FORMAT)
    with pytest.raises(RefusedError, match=r"shard02.tfrecord is missing"):
        import_videos(records / "shard0[02]*", tmp_path / "t4", format=FORMAT)


def test_counts_given_by_name(tmp_path, records):
    counts = tmp_path / "expected.json"
    import_videos(records / "shard01.tfrecord", tmp_path / "t", format=FORMAT)
    counts.write_text('{"shard01.tfrecord": 4}')
    with pytest.raises(RefusedError, match="holds 3 records, 4 were expected"):
        import_videos(records / "shard01.tfrecord", tmp_path / "u", format=FORMAT, counts=counts)
    # Also detected if the import finished before the counts were given.
    with pytest.raises(RefusedError, match="holds 3 records, 4 were expected"):
        import_videos(records / "shard01.tfrecord", tmp_path / "t", format=FORMAT, counts=counts)
    for content in ("[1]", '{"shard01.tfrecord": "3"}', "{"):
        counts.write_text(content)
        with pytest.raises(ValueError, match=r"expected\.json"):
            import_videos(records, tmp_path / "u", format=FORMAT, counts=counts)
    with pytest.raises(ValueError, match="cannot read the expected record counts"):
        import_videos(records, tmp_path / "u", format=FORMAT, counts=tmp_path / "none.json")


def test_empty_shard_and_no_shards(tmp_path, records):
    (records / "shard03.tfrecord").write_bytes(b"")
    with pytest.raises(RecordError, match=r"shard03.tfrecord"):
        import_videos(records, tmp_path / "t", format=FORMAT)
    with pytest.raises(FileNotFoundError, match="no feature file matches"):
        import_videos(tmp_path / "record*" / "*.gz", tmp_path / "t", format=FORMAT)
    assert table_state(tmp_path / "t") == "empty"


def test_running_again(tmp_path, records):
    first = import_videos(records, tmp_path / "t", format=FORMAT)
    manifest = (tmp_path / "t/manifest.json").read_bytes()
    again = import_videos(records, tmp_path / "t", format=FORMAT)
    assert again == {**first, "already_there": True}
    assert not first["already_there"]
    assert (tmp_path / "t/manifest.json").read_bytes() == manifest
    with pytest.raises(TableError, match=r"dtype is 'float32', was 'uint8'.*--force"):
        import_videos(records, tmp_path / "t", format=FORMAT, dtype="float32")
    write(records, [video("new")])
    with pytest.raises(TableError, match=r"the shards differ"):
        import_videos(records, tmp_path / "t", format=FORMAT)
    assert len(FeatureTable.open(tmp_path / "t")) == 15
    report = import_videos(records, tmp_path / "t", format=FORMAT, force=True)
    assert report["rows"] == 9
    assert len(FeatureTable.open(tmp_path / "t")) == 9


def test_the_space_of_features_is_stored_but_not_part_of_the_content(tmp_path, records):
    plain = import_videos(records, tmp_path / "t", format=FORMAT)
    stand_in = {
        "visual": "8 uint8 from records: mean_rgb",
        "audio": "2 uint8 from records: mean_audio",
    }
    assert "space" not in read_manifest(tmp_path / "t")
    assert FeatureTable.open(tmp_path / "t").space == stand_in
    named = import_videos(records, tmp_path / "u", format=FORMAT, space=("audio=vggish",))
    table = FeatureTable.open(tmp_path / "u")
    assert table.space == {**stand_in, "audio": "vggish"}
    assert named["fingerprint"] == plain["fingerprint"] == table.fingerprint
    table.write(tmp_path / "copy")
    assert FeatureTable.open(tmp_path / "copy").space == table.space
    # A missing name is added; an existing name stays, unless the table is replaced.
    assert import_videos(
        records, tmp_path / "u", format=FORMAT, space=("visual=a", "audio=vggish")
    )["already_there"]
    assert import_videos(records, tmp_path / "u", format=FORMAT)["already_there"]
    assert FeatureTable.open(tmp_path / "u").space == {"visual": "a", "audio": "vggish"}
    with pytest.raises(TableError, match=r"audio is 'b', was 'vggish'.*--force"):
        import_videos(records, tmp_path / "u", format=FORMAT, space=("b",))
    import_videos(records, tmp_path / "u", format=FORMAT, space=("b",), force=True)
    assert FeatureTable.open(tmp_path / "u").space == {"visual": "b", "audio": "b"}
    with pytest.raises(ValueError, match="each of visual, audio"):
        import_videos(records, tmp_path / "v", format=FORMAT, space=("text=b",))


def test_a_copy_is_the_same_shard_and_other_content_is_not(tmp_path, records):
    first = import_videos(records, tmp_path / "t", format=FORMAT)
    copy = tmp_path / "copy"
    shutil.copytree(records, copy, copy_function=shutil.copyfile)
    for shard in copy.iterdir():
        os.utime(shard, (1, 1))
    assert import_videos(copy, tmp_path / "t", format=FORMAT) == {**first, "already_there": True}
    # Other content of the same size and modification time.
    old = (records / "shard02.tfrecord").stat()
    payloads = [*read_records(copy / "shard02.tfrecord")]
    write_records(copy / "shard02.tfrecord", [*payloads[1:], payloads[0]])
    os.utime(copy / "shard02.tfrecord", ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (copy / "shard02.tfrecord").stat().st_size == old.st_size
    with pytest.raises(TableError, match=r"the shards differ \(in names, sizes or contents\)"):
        import_videos(copy, tmp_path / "t", format=FORMAT)


def test_a_table_from_memory_is_not_taken_for_an_import(tmp_path, records):
    import_videos(records, tmp_path / "t", format=FORMAT)
    table = FeatureTable.open(tmp_path / "t")
    FeatureTable(
        ids=table.ids,
        features=table.features,
        label_offsets=table.label_offsets,
        label_values=table.label_values,
    ).write(tmp_path / "u")
    with pytest.raises(TableError, match="was imported differently"):
        import_videos(records, tmp_path / "u", format=FORMAT)


@pytest.mark.fault(
    "Records: an import killed",
    "the table is marked unfinished; the same command starts again",
)
def test_killed_import_is_started_again(tmp_path, records):
    program = textwrap.dedent(
        """
        import os, signal, sys
        from vidembed.records import arrays, importing
        arrays.CHUNK_BYTES = 16
        kill = lambda done, total, rows: done == 2 and os.kill(os.getpid(), signal.SIGKILL)
        importing.import_videos(
            sys.argv[1], sys.argv[2], importing.Importing(modalities=("visual:mean_rgb:8",)),
            progress=kill,
        )
        """
    )
    command = [sys.executable, "-c", program, str(records), str(tmp_path / "t")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert table_state(tmp_path / "t") == "unfinished"
    with pytest.raises(TableError, match="interrupted"):
        FeatureTable.open(tmp_path / "t")
    report = import_videos(records, tmp_path / "t", format=FORMAT)
    assert len(FeatureTable.open(tmp_path / "t")) == 15
    assert report["fingerprint"] == read_manifest(tmp_path / "t")["fingerprint"]


def test_gzip_and_records_without_labels(tmp_path):
    folder = write(tmp_path / "r", [video("a", labels=()), video("b", labels=())], compress=True)
    unlabelled = VideoLevel(modalities=FORMAT.modalities, labels_key=None)
    report = import_videos(folder, tmp_path / "t", format=unlabelled)
    assert report["without_labels"] == 2
    assert FeatureTable.open(tmp_path / "t").labels(1).tolist() == []


def test_equal_names_in_several_folders(tmp_path):
    for part in ("x", "y"):
        (tmp_path / "r" / part).mkdir(parents=True)
        write(tmp_path / "r" / part, [video(f"{part}{n}") for n in range(2)])
    import_videos(tmp_path / "r/*/*.tfrecord", tmp_path / "t", format=FORMAT)
    source = read_manifest(tmp_path / "t")["source"]["shards"]
    assert [entry["records"] for entry in source] == [2, 2]
    assert [entry["name"].endswith(f"{p}/shard00.tfrecord") for entry, p in zip(source, "xy")]
