"""Tables are read back as written, and every kind of damage is detected."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorstore as ts
import zarr

from vidembed.records import arrays
from vidembed.records.table import FeatureTable, TableError
from vidembed.records.table_folder import TableWriter, table_state

ROWS = 50


def make_table(rows=ROWS, dtype=np.uint8, seed=0, **fields):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 4, rows)
    features = {
        "visual": rng.integers(0, 256, (rows, 12)).astype(dtype),
        "audio": rng.integers(0, 256, (rows, 3)).astype(dtype),
    }
    standard = {
        "ids": np.array([b"v%03d" % i for i in rng.permutation(rows)], "S4"),
        "features": features,
        "label_offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "label_values": rng.integers(0, 9, lengths.sum()).astype(np.int32),
    }
    return FeatureTable(**{**standard, **fields})


def assert_same(a: FeatureTable, b: FeatureTable):
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_array_equal(a.label_offsets, b.label_offsets)
    np.testing.assert_array_equal(a.label_values, b.label_values)
    for first, second in ((a.features, b.features), (a.present, b.present)):
        assert first.keys() == second.keys()
        for name in first:
            assert first[name].dtype == second[name].dtype
            np.testing.assert_array_equal(first[name], second[name])


@pytest.fixture
def small_chunks(monkeypatch):
    # 12 bytes per row of `visual` make four rows per chunk, so that tables have many chunks and a
    # partial last one.
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 48)


@pytest.fixture
def written(tmp_path, small_chunks):
    path = tmp_path / "table"
    make_table().write(path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, ml_dtypes.bfloat16, np.float16, np.float32])
def test_comes_back_as_written(tmp_path, small_chunks, dtype):
    table = make_table(dtype=dtype, present={"audio": np.arange(ROWS) % 3 > 0})
    table.write(tmp_path / "a table%20")
    back = FeatureTable.open(tmp_path / "a table%20")
    assert_same(back, table)
    assert back.fingerprint == table.fingerprint
    assert back.widths == {"visual": 12, "audio": 3}
    assert back.space == table.space
    assert table.space["audio"] == f"3 {np.dtype(dtype)} from arrays"
    # A copy of the copy preserves ids, digests and origin.
    back.write(tmp_path / "copy")
    assert_same(FeatureTable.open(tmp_path / "copy"), table)


def test_fingerprint_depends_only_on_the_content():
    table = make_table()
    wider = make_table(ids=table.ids.astype("S9"))
    assert wider.fingerprint == table.fingerprint
    different = [
        make_table(seed=1),
        make_table(ids=table.ids[::-1].copy()),
        make_table(label_values=table.label_values + np.int32(1)),
        make_table(present={"audio": np.arange(ROWS) > 0}),
        make_table(features={"visual": table.features["visual"]}),
        make_table(dtype=np.float32),
    ]
    assert len({table_.fingerprint for table_ in [table, *different]}) == 7


@pytest.mark.fault(
    "Scores: rows or labels out of range, k above the corpus",
    "error with the range; k beyond the list counts the existing entries",
)
def test_rows_gathers_and_refuses_rows_out_of_range():
    table = make_table()
    indices = np.array([[3, 3, 0], [49, 7, 1]])
    got = table.rows(indices)
    for name, array in table.features.items():
        np.testing.assert_array_equal(got[name], array[indices])
    out = {name: np.empty((2, 3, width), np.uint8) for name, width in table.widths.items()}
    again = table.rows(indices, out=out)
    assert all(again[name] is out[name] for name in out)
    np.testing.assert_array_equal(out["visual"], got["visual"])
    assert table.rows(np.array([], int))["audio"].shape == (0, 3)
    with pytest.raises(IndexError, match=r"2 row numbers lie outside 0\.\.49, first 50"):
        table.rows(np.array([1, 50, 60]))
    with pytest.raises(IndexError, match="first -1"):
        table.rows(np.array([-1]))


def test_labels_of_a_row():
    table = make_table(
        rows=2,
        label_offsets=np.array([0, 2, 3]),
        label_values=np.array([5, 6, 7], np.int32),
    )
    assert table.labels(0).tolist() == [5, 6]
    assert table.labels(1).tolist() == [7]
    for row in (-1, 2):
        with pytest.raises(IndexError):
            table.labels(row)


def test_has_is_true_if_no_row_lacks_the_modality():
    mask = np.arange(ROWS) % 2 == 0
    table = make_table(present={"audio": mask})
    np.testing.assert_array_equal(table.has("audio"), mask)
    assert table.has("visual").tolist() == [True] * ROWS


@pytest.mark.parametrize("width", [4, 8, 11])
def test_find_equals_a_dictionary(width):
    rng = np.random.default_rng(width)
    names = {bytes(rng.integers(97, 100, rng.integers(1, width + 1)).tolist()) for _ in range(300)}
    # An id of the full width and a prefix of it, which must not be confused.
    names |= {b"z" * width, b"z" * (width - 1)}
    ids = np.array(rng.permutation(sorted(names)), f"S{width}")
    rows = {name: row for row, name in enumerate(ids.tolist())}
    table = make_table(rows=len(ids), ids=ids)
    queries = [bytes(rng.integers(97, 100, rng.integers(1, 14)).tolist()) for _ in range(300)]
    queries += [*names, b"z" * (width + 1), b"z" * (width - 2), b"", b"\xff" * width]
    expected = [rows.get(name, -1) for name in queries]
    assert table.find(np.array(queries)).tolist() == expected
    assert table.find(queries[:4]).tolist() == expected[:4]
    text = [name.decode("latin-1") for name in queries[:-1]]
    assert table.find(text).tolist() == expected[:-1]
    assert table.find(np.array(queries[:6]).reshape(2, 3)).shape == (2, 3)
    assert table.find([]).tolist() == []


def test_find_refuses_numbers_and_repeated_ids():
    with pytest.raises(TypeError, match="bytes or text"):
        make_table().find([1, 2])
    twice = make_table(rows=3, ids=np.array([b"a", b"b", b"a"]))
    with pytest.raises(TableError, match="1 ids occur more than once, first a"):
        twice.find([b"a"])


def test_refuses_arrays_that_do_not_fit():
    good = make_table()
    visual = good.features["visual"]
    wrong = [
        {"ids": good.ids.astype("U4")},
        {"features": {}},
        {"features": {"visual": visual[:-1]}},
        {"features": {"visual": visual.astype(np.float64)}},
        {"features": {"visual": visual[:, 0]}},
        {"present": {"audio": np.ones(3, bool)}},
        {"present": {"audio": np.ones(ROWS, np.uint8)}},
        {"present": {"smell": np.ones(ROWS, bool)}},
        {"label_offsets": good.label_offsets[:-1]},
        {"label_offsets": good.label_offsets.astype(np.int32)},
        {"label_offsets": good.label_offsets + 1},
        {"label_offsets": np.concatenate([[0], good.label_offsets[:0:-1]])},
        {"label_values": good.label_values[:-1]},
        {"label_values": good.label_values.astype(np.int64)},
    ]
    for fields in wrong:
        with pytest.raises(TableError):
            make_table(**fields)


def test_zeros_are_stored(tmp_path, small_chunks):
    table = make_table(features={"visual": np.zeros((ROWS, 12), np.uint8)})
    table.write(tmp_path / "t")
    assert_same(FeatureTable.open(tmp_path / "t"), table)


@pytest.mark.fault(
    "Records: a table flipped, cut, a chunk lost or exchanged",
    "1: array and chunk",
)
@pytest.mark.parametrize("verify", [True, False])
def test_flipped_byte(written, verify):
    chunk = written / "features/visual/c/3/0"
    content = bytearray(chunk.read_bytes())
    content[5] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(TableError, match=r"features/visual.*import it again") as caught:
        FeatureTable.open(written, verify=verify)
    assert "c/3/0" in str(caught.value)


@pytest.mark.fault("Records: a table flipped, cut, a chunk lost or exchanged")
def test_deleted_chunk(written):
    (written / "features/visual/c/3/0").unlink()
    with pytest.raises(TableError, match="features/visual"):
        FeatureTable.open(written, verify=False)


@pytest.mark.fault("Records: a table flipped, cut, a chunk lost or exchanged")
def test_truncated_chunk(written):
    os.truncate(written / "features/audio/c/0/0", 20)
    with pytest.raises(TableError, match="features/audio"):
        FeatureTable.open(written, verify=False)


@pytest.mark.fault("Records: a table flipped, cut, a chunk lost or exchanged")
def test_exchanged_chunk_is_detected_only_by_the_digest(written):
    chunks = written / "features/visual/c"
    shutil.copy(chunks / "3/0", chunks / "4/0")
    FeatureTable.open(written, verify=False)
    with pytest.raises(TableError, match="exchanged or replaced"):
        FeatureTable.open(written)


@pytest.mark.parametrize(("field", "value"), [("shape", [40, 12]), ("data_type", "int8")])
def test_edited_array_description(written, field, value):
    file = written / "features/visual/zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with pytest.raises(TableError, match=r"the manifest says uint8\[50, 12\]"):
        FeatureTable.open(written, verify=False)


def test_edited_manifest(written):
    file = written / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["arrays"]["features/visual"]["shape"] = [50, 13]
    file.write_text(json.dumps(manifest))
    with pytest.raises(TableError, match="was edited"):
        FeatureTable.open(written)
    file.write_text(file.read_text()[:100])
    with pytest.raises(TableError, match="manifest is damaged"):
        FeatureTable.open(written)
    file.write_text(json.dumps({**manifest, "kind": "something"}))
    with pytest.raises(TableError, match="not that of a feature table"):
        FeatureTable.open(written)
    file.write_text(json.dumps({**manifest, "version": 99}))
    with pytest.raises(TableError, match="version 99"):
        FeatureTable.open(written)


@pytest.mark.fault(
    "Records: a manifest of a table with malformed entries",
    "1: the entry, and advice to import the table again",
)
@pytest.mark.parametrize(
    "entry",
    [
        *({"source": value} for value in (None, [], 3, {"appended": 3}, {"appended": [None]})),
        *({"source": {name: None}} for name in ("options", "shards")),
        {"source": {"shards": [{"name": "a"}]}},
        *({"arrays": value} for value in (None, [], {}, {"ids": None}, {"ids": {}})),
        *({"space": value} for value in ([1], None, "x", {"visual": 1})),
        *({"rows": value} for value in ("6", None, -1, 3, 6.0, True)),
        {"version": None},
        {"version": []},
        {"fingerprint": None},
    ],
    ids=str,
)
def test_a_manifest_of_another_form(tmp_path, entry):
    make_table().write(tmp_path)
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entry}))
    with pytest.raises(TableError, match=r"is damaged, (\w+)|was edited") as caught:
        FeatureTable.open(tmp_path)
    assert next(iter(entry)) in str(caught.value) or "edited" in str(caught.value)
    for key in ("dtype", "shape", "xxh3", "path"):
        assert f"'{key}'" not in str(caught.value)


def test_nothing_there(tmp_path):
    with pytest.raises(TableError, match="holds no feature table"):
        FeatureTable.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_interrupted_write_is_recognised_and_cleared(tmp_path, small_chunks):
    # A real kill, after some chunks are on the disk.
    program = (
        "import os, sys, numpy as np\n"
        "from vidembed.records import arrays; arrays.CHUNK_BYTES = 48\n"
        "from vidembed.records.table_folder import TableWriter\n"
        "writer = TableWriter(sys.argv[1], source={})\n"
        "for _ in range(9): writer.append({'visual': np.ones((5, 12), np.uint8)})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "table"
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -9
    assert list(path.glob("features/visual/c/*/0"))
    assert table_state(path) == "unfinished"
    with pytest.raises(TableError, match="interrupted; run it again"):
        FeatureTable.open(path)
    # Fewer rows than in the interrupted write: none of its chunks may remain.
    table = make_table(rows=3)
    table.write(path)
    assert_same(FeatureTable.open(path), table)
    assert len(list(path.glob("features/visual/c/*/0"))) == 1


def test_never_overwrites(written, tmp_path):
    with pytest.raises(TableError, match="already holds a feature table"):
        make_table().write(written)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("years of work")
    with pytest.raises(TableError, match="holds other files"):
        make_table().write(tmp_path / "other")
    with pytest.raises(TableError, match="holds other files"):
        TableWriter(tmp_path / "other", source={}, replace=True)
    assert (tmp_path / "other/thesis.tex").exists()
    FeatureTable.open(written)


def test_replacing_is_recognised_from_its_first_step(written, monkeypatch):
    """After a kill during the removal of a damaged table, the rest is not taken for a table."""

    def killed(self, keep=""):
        raise KeyboardInterrupt

    (written / "manifest.json").write_text('{"kind": "vidembed feature table"}')
    monkeypatch.setattr(TableWriter, "_clear", killed)
    with pytest.raises(KeyboardInterrupt):
        TableWriter(written, source={}, replace=True)
    assert table_state(written) == "unfinished"


def test_writer_refuses_rows_that_differ(tmp_path):
    writer = TableWriter(tmp_path / "t", source={})
    with pytest.raises(TableError, match="no rows were written"):
        writer.finish({})
    writer.append({"a": np.zeros((2, 3), np.uint8), "b": np.zeros((2, 1), np.uint8)})
    for wrong in (
        {"a": np.zeros((2, 3), np.uint8)},
        {"a": np.zeros((2, 3), np.uint8), "b": np.zeros((1, 1), np.uint8)},
        {"a": np.zeros((2, 4), np.uint8), "b": np.zeros((2, 1), np.uint8)},
        {"a": np.zeros((2, 3), np.int8), "b": np.zeros((2, 1), np.uint8)},
    ):
        with pytest.raises(TableError):
            writer.append(wrong)


def test_abandoned_table_leaves_nothing(tmp_path, small_chunks):
    writer = TableWriter(tmp_path / "t", source={})
    writer.append({"a": np.zeros((20, 12), np.uint8)})
    writer.abandon()
    assert table_state(tmp_path / "t") == "empty"


@pytest.mark.parametrize("place", ["/proc/no/such/table", "a file/table"])
def test_folder_that_cannot_be_written(tmp_path, place):
    (tmp_path / "a file").write_text("")
    with pytest.raises(TableError, match=r"(?i)cannot write|check the"):
        make_table().write(tmp_path / place if place[0] != "/" else Path(place))


@pytest.mark.parametrize("replacing", [False, True])
def test_full_disk(tmp_path, replacing):
    # A limit on file sizes imitates a full disk without privileges.
    program = (
        "import resource, signal, sys, numpy as np\n"
        "from vidembed.records.table_folder import TableWriter\n"
        "from vidembed.records.arrays import TableError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "writer = TableWriter(sys.argv[1], source={}, replace=True)\n"
        "try:\n"
        "    for _ in range(40): writer.append({'a': np.ones((2048, 512), np.uint8)})\n"
        "    writer.finish({})\n"
        "except TableError as error: print(error)\n"
    )
    path, table = tmp_path / "table", make_table()
    if replacing:
        table.write(path)
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], check=True, capture_output=True, text=True
    )
    assert "cannot write" in done.stdout
    assert "free space" in done.stdout
    if replacing:
        assert_same(FeatureTable.open(path), table)
    else:
        assert table_state(path) == "unfinished"


def test_opens_in_zarr_python(written):
    table = make_table()
    with pytest.warns(zarr.errors.ZarrUserWarning, match="manifest"):
        names = {name for name, _ in zarr.open_group(written, mode="r").members(max_depth=None)}
    assert {"features/visual", "features/audio", "ids", "label_values"} <= names
    visual = zarr.open_array(written / "features/visual", mode="r")
    np.testing.assert_array_equal(visual[:], table.features["visual"])
    ids = zarr.open_array(written / "ids", mode="r")[:]
    np.testing.assert_array_equal(ids.view("S4").reshape(-1), table.ids)


def test_locations():
    gcs = arrays.location("gs://bucket/a b/table")
    assert gcs == {"driver": "gcs", "bucket": "bucket", "path": "a b/table/"}
    assert arrays.location("s3://bucket") == {"driver": "s3", "bucket": "bucket", "path": ""}
    assert arrays.location("file:///x/y/") == {"driver": "file", "path": "/x/y/"}
    for name in ("gs://bucket/table", "s3://bucket/table"):
        spec = {"driver": "zarr3", "kvstore": arrays.location(name)}
        assert ts.Spec(spec).kvstore.url.startswith(name)
    with pytest.raises(TableError, match="ftp:// is not supported"):
        arrays.location("ftp://x/y")
