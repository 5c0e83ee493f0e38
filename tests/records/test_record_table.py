"""Records on disk as a table: the rows are those of an import, and what changed is refused."""

import dataclasses
import gzip
import os
import struct

import numpy as np
import pytest

from tests.messages import encode_video
from tests.records.recorded_videos import LAYOUT, SIZES, VIDEOS, payloads, write
from vidembed.records import record_index_file, record_payloads
from vidembed.records.arrays import TableError
from vidembed.records.faults import RecordError
from vidembed.records.framing import frame, read_records, write_records
from vidembed.records.importing import RefusedError, import_videos
from vidembed.records.offsets import read_offsets
from vidembed.records.open_files import OpenFiles
from vidembed.records.record_index import ELSEWHERE
from vidembed.records.record_table import open_records
from vidembed.records.rows import read_rows
from vidembed.records.table import FeatureTable


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    write(folder)
    return folder


@pytest.fixture(scope="module", params=["float32", "uint8", "bfloat16"])
def both(request, folder, tmp_path_factory):
    """The records as they are, and imported."""
    layout = dataclasses.replace(LAYOUT, dtype=request.param, space=("a network",))
    path = tmp_path_factory.mktemp("imported") / "table"
    import_videos(folder, path, layout.importing())
    return open_records(folder, layout), FeatureTable.open(path)


def assert_same(rows, expected):
    assert rows.keys() == expected.keys()
    for name, array in expected.items():
        assert rows[name].dtype == array.dtype
        np.testing.assert_array_equal(rows[name], array)


def test_the_rows_are_those_of_the_imported_table(both):
    records, table = both
    assert records.fingerprint == table.fingerprint
    assert records.space == table.space
    assert records.widths == table.widths
    assert len(records) == VIDEOS
    positions = records.features["visual"].reader.index.vectors["visual"]
    assert (positions == ELSEWHERE).sum() == len(range(4, VIDEOS, 9))
    for name in ("ids", "label_offsets", "label_values"):
        np.testing.assert_array_equal(getattr(records, name), getattr(table, name))
    assert_same(records.present, table.present)
    rng = np.random.default_rng(1)
    for shape in ((), (0,), (1,), (7,), (300,), (3, 40)):
        rows = rng.integers(0, VIDEOS, shape)
        assert_same(records.rows(rows), table.rows(rows))
    in_order = np.arange(VIDEOS)
    assert_same(records.rows(in_order), table.rows(in_order))
    np.testing.assert_array_equal(records.find(table.ids[[5, 3]]), [5, 3])
    with pytest.raises(IndexError, match=r"1 row numbers lie outside 0\.\.97, first 98"):
        records.rows(np.array([98]))


def test_a_column_is_indexed_as_an_array(both):
    records, table = both
    rng = np.random.default_rng(2)
    indices = [
        slice(None, None, 7), slice(90, 40, -3), rng.random(VIDEOS) < 0.3, 4, -1, [3, -2, 3],
        np.empty(0, np.int64), rng.integers(0, VIDEOS, (2, 3)), np.zeros(VIDEOS, bool),
    ]  # fmt: skip
    for name, array in table.features.items():
        column = records.features[name]
        assert (column.shape, column.dtype, column.ndim) == (array.shape, array.dtype, 2)
        for index in indices:
            np.testing.assert_array_equal(column[index], array[index])
        for index in (VIDEOS, [-VIDEOS - 1], np.ones(3, bool)):
            with pytest.raises(IndexError):
                column[index]
        with pytest.raises(TableError, match="which memory need not hold"):
            np.asarray(column)
    rows = rng.integers(0, VIDEOS, 20)
    read, expected = (read_rows(part, rows, ["audio"]) for part in both)
    assert_same(read["features"], expected["features"])
    assert_same(read["present"], expected["present"])


def test_rows_are_written_to_given_memory(both):
    records, table = both
    rows, mixed = np.array([[4, 90], [37, 4]]), np.empty((2, 2, 11), table.features["audio"].dtype)
    out = {"visual": np.empty((2, 2, 5), mixed.dtype), "audio": mixed[..., ::4]}
    assert records.rows(rows, out=out)["audio"] is out["audio"]
    assert_same(out, table.rows(rows))


@pytest.mark.parametrize(("buffer", "gap"), [(1, 0), (250, 0), (250, 40), (1 << 20, 1 << 20)])
def test_how_records_are_read_together_does_not_matter(both, monkeypatch, buffer, gap):
    monkeypatch.setattr(record_payloads, "BUFFER_BYTES", buffer)
    monkeypatch.setattr(record_payloads, "GAP_BYTES", gap)
    records, table = both
    for seed in range(4):
        rows = np.random.default_rng(seed).integers(0, VIDEOS, 50)
        assert_same(records.rows(rows), table.rows(rows))


def test_few_files_are_kept_open(folder):
    paths = [str(path) for path in sorted(folder.glob("*.tfrecord"))]
    files, memory = OpenFiles(paths), np.empty(9, np.uint8)
    files._room = 1
    before = len(os.listdir("/proc/self/fd"))
    for number in (0, 1, 2, 1, 0):
        assert files.fill(number, 3, memory)
        with open(paths[number], "rb") as file:
            assert memory.tobytes() == file.read(12)[3:]
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert not files.fill(1, 10**6, memory)
    del files
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def own(tmp_path):
    """Files that a test may damage."""
    return write(tmp_path)


@pytest.mark.fault(
    "Annotation: records that stay on disk flipped, cut or replaced after they were indexed",
    "the step stops: file, record, byte, id; no wrong row is returned",
)
def test_records_changed_after_indexing_are_refused_by_name(own):
    records = open_records(own[0].parent, LAYOUT)
    whole, row = own[2].read_bytes(), SIZES[0] + SIZES[1] + 8
    offsets = read_offsets(own[2])
    start, stop = int(offsets.starts[8]), int(offsets.stops[8])
    names = rf"{own[2]}: record 8 at byte {start}: video v046: its payload is not the one"
    for place in range(start + 12, stop - 4, 3):
        own[2].write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(RecordError, match=names):
            records.rows(np.array([3, row]))
        records.rows(np.array([3, row - 1]))
    for size in (stop - 5, start + 12, start, 0):
        own[2].write_bytes(whole[:size])
        with pytest.raises(RecordError, match=rf"record 8 at byte {start}: .*ends in it or before"):
            records.features["audio"][[row]]
    own[2].write_bytes(whole)
    records.rows(np.array([row]))
    others = [payload.replace(b"v046", b"w046") for payload in read_records(own[2])]
    own[2].write_bytes(b"".join(map(frame, others)))
    with pytest.raises(RecordError, match=names):
        records.rows(np.array([row]))


def test_an_index_is_kept_and_made_again_if_a_file_changed(own, tmp_path, monkeypatch, caplog):
    index = tmp_path / "index"
    first = open_records(tmp_path, LAYOUT, index=index)
    assert [path.name for path in tmp_path.iterdir() if path not in own] == ["index"]
    made = []
    build = record_index_file.builder_of(LAYOUT)
    monkeypatch.setattr(
        record_index_file,
        "builder_of",
        lambda _: lambda *given, **options: (made.append(1), build(*given, **options))[1],
    )
    os.utime(own[0], ns=(1, 1))  # the same content
    again = open_records(tmp_path, LAYOUT, index=index)
    assert not made
    assert again.fingerprint == first.fingerprint
    assert_same(again.rows(np.arange(VIDEOS)), first.rows(np.arange(VIDEOS)))
    np.testing.assert_array_equal(again.label_values, first.label_values)

    open_records(tmp_path, dataclasses.replace(LAYOUT, dtype="bfloat16"), index=index)
    assert len(made) == 1
    write_records(own[1], [next(payloads(seed=5, videos=1)).replace(b"v000", b"v037")])
    changed = open_records(tmp_path, LAYOUT, index=index)
    assert f"{own[1]} has changed" in caplog.text
    assert len(made) == 2
    assert changed.fingerprint != first.fingerprint
    for path in index.iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    assert open_records(tmp_path, LAYOUT, index=index).fingerprint == changed.fingerprint
    assert "is damaged" in caplog.text


def with_features(number, **features):
    videos = {"visual": np.ones(5), "audio": np.ones(3)} | features
    format = LAYOUT.format()
    return encode_video(f"w{number}", [1], {n: f for n, f in videos.items() if len(f)}, format)


@pytest.mark.fault(
    "Annotation: NaN, zeros, repeated ids, lost videos in records that stay on disk",
    "refused before training, with file, record and id of the first ten of each kind",
)
def test_unusable_records_are_refused_as_an_import_does(own, tmp_path):
    faulty = [
        with_features(0, visual=[1, np.nan, 1, 1, 1]),
        with_features(1),
        with_features(2, audio=np.zeros(3)),
        with_features(3, audio=[], visual=[]),
        with_features(1),
        next(payloads()),
    ]
    write_records(own[1], faulty)
    with pytest.raises(RefusedError) as caught:
        open_records(tmp_path, LAYOUT)
    message = str(caught.value)
    assert "visual with NaN or infinity, or too large for the dtype: 1 (w0 in videos1.tf" in message
    assert "audio all zero: 1 (w2 in videos1.tfrecord, record 2); importing with" in message
    assert "videos without any modality: 1 (w3 in videos1.tfrecord, record 3)" in message
    assert (
        "ids that occur again: 2 (w1 in videos1.tfrecord, record 4, v000 in videos1.tfrecord, "
        "record 5)" in message
    )
    write_records(own[1], list(payloads())[37:38])
    (tmp_path / "counts.json").write_text('{"videos0.tfrecord": 38}')
    with pytest.raises(RefusedError, match=r"videos0\.tfrecord holds 37 records, 38 were expected"):
        open_records(tmp_path, LAYOUT)
    (tmp_path / "counts.json").unlink()
    with pytest.raises(RecordError, match=r"videos0.tfrecord: record \d+ .*modality 'audio' is mi"):
        open_records(tmp_path, dataclasses.replace(LAYOUT, missing="refuse"))


@pytest.mark.fault(
    "Annotation: records that stay on disk damaged, compressed, in a bucket, of another kind",
    "refused before training, naming the file, with the remedy",
)
def test_files_that_cannot_be_read_at_random_are_refused(own, tmp_path):
    whole = own[1].read_bytes()
    own[1].write_bytes(whole[:-7])
    with pytest.raises(RecordError, match=r"videos1.tfrecord: record 0 .*import.* --on-error skip"):
        open_records(tmp_path, LAYOUT)
    own[1].write_bytes(gzip.compress(whole))
    with pytest.raises(RecordError, match=r"videos1.tfrecord: record 0 .*no random access"):
        open_records(tmp_path, LAYOUT)
    with pytest.raises(ValueError, match=r"gs://videos/\*: .*copy the files to a local disk"):
        open_records("gs://videos/*", LAYOUT)
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + struct.pack("<I", 0) + b"PAR1")
    with pytest.raises(ValueError, match=r"a.parquet is Parquet: only TFRecord files are read"):
        open_records(tmp_path / "a.parquet", LAYOUT)
