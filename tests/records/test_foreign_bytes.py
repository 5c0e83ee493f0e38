"""Any bytes as records: never a traceback, never a changed input, never a partial table."""

import gzip
import io
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import many
from vidembed.__main__ import main
from vidembed.records.example import encode_example
from vidembed.records.frames import encode_frames
from vidembed.records.framing import frame
from vidembed.records.kind import kind_of
from vidembed.records.table_folder import table_state

ROWS = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
RECORDS = b"".join(
    frame(encode_example({"id": b"v%d" % i, "labels": [i], "v": row})) for i, row in enumerate(ROWS)
)
FRAMES = encode_frames(
    "f", [1], {"visual": np.zeros((3, 1024), np.uint8), "audio": np.zeros((3, 128), np.uint8)}
)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def parquet():
    file = io.BytesIO()
    ids = [f"v{i}" for i in range(9)]
    pq.write_table(pa.table({"id": ids, "v": ROWS.tolist(), "labels": [[1]] * 9}), file)
    return file.getvalue()


def npz(save=np.savez):
    file = io.BytesIO()
    save(file, v=ROWS, ids=np.arange(9))
    return file.getvalue()


SNAPPED = pa.compress(RECORDS, codec="snappy", asbytes=True)
KINDS = {
    "TFRecord": RECORDS,
    "gzip-compressed TFRecord": gzip.compress(RECORDS, mtime=0),
    "gzip-compressed text": gzip.compress(b"id,v\n", mtime=0),
    "zlib-compressed TFRecord": zlib.compress(RECORDS),
    "zstd-compressed": pa.compress(RECORDS, codec="zstd", asbytes=True),
    "snappy-compressed TFRecord": SNAPPED,
    "snappy-compressed TFRecord ": len(SNAPPED).to_bytes(4) + SNAPPED,
    "Parquet": parquet(),
    "a numpy file": npy(ROWS),
    "a zip archive": npz(),
    "text": "id,v\nä,1\n".encode(),
    "a web page": b"<!DOCTYPE html><html></html>",
    "one bare message, tf.train.Example": encode_example({"id": b"x"}),
    "one bare message, frame-level records": FRAMES,
    "a pickle": b"\x80\x04\x95\x00",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "empty": b"",
    "of no known kind": bytes(range(256)),
}


@pytest.mark.fault(
    "Records: a file of another kind: other compression, frame-level records, one bare message, a "
    "pickle, a web page, text",
    "1: its kind, by its first bytes, and what to do",
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_shows_by_the_first_bytes_whatever_the_name(tmp_path, kind, capsys):
    for name in ("a.tfrecord", "b [1], c@d.csv"):
        path = tmp_path / name
        path.write_bytes(KINDS[kind])
        assert kind_of(path).startswith(kind.strip())
        options = ["--ids", str(tmp_path / "ids")] if kind == "a numpy file" else []
        (tmp_path / "ids").write_text("".join(f"v{i}\n" for i in range(9)))
        code = main(["inspect", str(path), *options])
        output = capsys.readouterr().out
        arrays = ("a numpy file", "a zip archive")
        readable = kind in ("TFRecord", "gzip-compressed TFRecord", "Parquet", *arrays)
        assert code == (0 if readable else 1), output
        if readable:
            assert output.count("import it with: python -m vidembed import") == 1
            # rich must not replace ":v:" by an emoji.
            assert "--modalities v:v:3" in output or kind in arrays
        elif kind not in ("empty", "of no known kind"):
            assert f"is not a TFRecord file, but {kind.strip()}" in output


@pytest.mark.fault(
    "Records: a file of another kind: other compression, frame-level records, one bare message, a "
    "pickle, a web page, text",
)
def test_frame_level_records_are_named(tmp_path, capsys):
    path = tmp_path / "f"
    path.write_bytes(frame(FRAMES) * 5)
    assert main(["inspect", str(path)]) == 1
    output = capsys.readouterr().out
    assert output.count("frame-level records (tf.train.SequenceExample) with the lists audio") == 1
    assert "5 such records" in output
    for more in ([], ["--missing", "mask"]):
        assert main(["import", str(path), str(tmp_path / "t"), *more]) == 1
        assert "frame-level records" in capsys.readouterr().err


ARRAYS = [npy(ROWS), npy(np.arange(9)), npz(), npz(np.savez_compressed)]
SEEDS = st.sampled_from([*KINDS.values(), RECORDS, parquet(), *ARRAYS])
DAMAGE = st.lists(st.tuples(st.integers(0, 1 << 12), st.binary(max_size=4)), max_size=3)


@st.composite
def files(draw):
    if draw(st.booleans()):
        head = draw(st.sampled_from([b"", *(seed[:12] for seed in KINDS.values())]))
        return head + draw(st.binary(max_size=60))
    data = draw(SEEDS)
    for place, octets in draw(DAMAGE):
        place %= len(data) + 1
        data = data[:place] + octets + data[place + draw(st.integers(0, 4)) :]
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


def check(folder, data, ids, options, skip):
    path, beside, table = folder / "a [x]", folder / "ids", folder / "table"
    path.write_bytes(data)
    beside.write_bytes(ids)
    more = [*options, *(["--ids", str(beside)] if data.startswith(b"\x93NUMPY") else [])]
    assert main(["inspect", str(path), *more]) in (0, 1)
    code = main(["import", str(path), str(table), *more, "--on-error", skip])
    assert code in (0, 1)
    assert table_state(table) == ("empty" if code else "finished")
    assert (path.read_bytes(), beside.read_bytes()) == (data, ids)


OPTIONS = st.sampled_from(
    [
        [],
        ["--modalities", "v:v:3"],
        ["--missing", "mask"],
        ["--labels-key", "", "--modalities", "v:v:3"],
    ]
)
SKIP = st.sampled_from(["error", "skip"])
IDS = st.sampled_from([b"".join(b"v%d\n" % i for i in range(9)), npy(np.arange(9))]) | files()


@pytest.mark.fault(
    "Records: arbitrary bytes as records, ids or arrays",
    "read, or 1 with a message; no file is changed, no table left",
)
@many(60)
@given(files(), IDS, OPTIONS, SKIP)
def test_any_bytes(tmp_path_factory, data, ids, options, skip):
    check(tmp_path_factory.mktemp("any"), data, ids, options, skip)


@pytest.mark.fault("Records: arbitrary bytes as records, ids or arrays")
@pytest.mark.long
@many(1000)
@given(files(), IDS, OPTIONS, SKIP)
def test_many_bytes(tmp_path_factory, data, ids, options, skip):
    check(tmp_path_factory.mktemp("any"), data, ids, options, skip)


def test_values_near_the_end_of_float32_are_clipped_without_a_warning(tmp_path, capsys):
    """A regression test: `test_many_bytes` found a product that overflowed."""
    (tmp_path / "v.npy").write_bytes(npy(np.where(ROWS > 0, np.float32(3e38), ROWS)))
    (tmp_path / "ids").write_text("".join(f"v{i}\n" for i in range(9)))
    options = ["--ids", str(tmp_path / "ids")]
    assert main(["import", str(tmp_path / "v.npy"), str(tmp_path / "table"), *options]) == 1
    assert "uint8 would clip them" in capsys.readouterr().err
