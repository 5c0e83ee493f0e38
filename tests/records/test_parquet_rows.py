"""Parquet and .npy files against a slow reader of single values."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import many
from vidembed.records import importing
from vidembed.records.faults import ContentError, RecordError, Skips
from vidembed.records.formats import Modality, VideoLevel
from vidembed.records.importing import Importing, RefusedError
from vidembed.records.inspecting import inspect
from vidembed.records.numpy_rows import read_ids
from vidembed.records.parquet_rows import read_rows
from vidembed.records.table import FeatureTable

V, A = Modality(name="v", key="v", width=2), Modality(name="a", key="a", width=11)
FLOATS = st.floats(-1, 1, width=16).map(lambda x: x or 0.5)
IDS = {
    "text": (pa.string(), st.text(max_size=3)),
    "long text": (pa.large_string(), st.text(max_size=3)),
    "bytes": (pa.binary(), st.binary(max_size=3)),
    "integers": (pa.int64(), st.integers(-9, 99)),
    "categories": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from("abc")),
}
LISTS = [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float16(), 2)]
LABELS = {
    "lists": (pa.list_(pa.int64()), st.lists(st.integers(-1, 5) | st.none(), max_size=3)),
    "one": (pa.int32(), st.integers(-1, 5)),
}


def or_null(values):
    return st.sampled_from([True] * 9 + [False]).flatmap(lambda sure: values if sure else st.none())


@st.composite
def tables(draw):
    """(table, rows as Python values: id, labels, v, a)."""
    n = draw(st.integers(1, 7))
    id_type, ids = IDS[draw(st.sampled_from(sorted(IDS)))]
    columns = {"id": pa.array([draw(or_null(ids)) for _ in range(n)], id_type)}
    list_type = draw(st.sampled_from(LISTS))
    widths = (
        st.just(2) if pa.types.is_fixed_size_list(list_type) else st.sampled_from([2] * 9 + [0, 3])
    )
    vectors = [
        draw(or_null(widths.flatmap(lambda w: st.lists(or_null(FLOATS), min_size=w, max_size=w))))
        for _ in range(n)
    ]  # fmt: skip
    columns["v"] = pa.array(vectors, list_type)
    several = [draw(or_null(st.lists(or_null(FLOATS), min_size=11, max_size=11))) for _ in range(n)]
    for k in draw(st.permutations(range(11))):
        columns[f"a{k}"] = pa.array([row and row[k] for row in several], pa.float32())
    labels = [[]] * n
    if draw(st.booleans()):
        label_type, values = LABELS[draw(st.sampled_from(sorted(LABELS)))]
        labels = [draw(or_null(values)) for _ in range(n)]
        columns["labels"] = pa.array(labels, label_type)
    rows = list(zip(columns["id"].to_pylist(), labels, vectors, several))
    order = draw(st.permutations(sorted(columns)))
    return pa.table({name: columns[name] for name in order}), rows


def slowly(row, missing):
    """(id, labels, v, a) of one row as it should be read, None if it must be refused."""
    name, labels, v, a = row
    name = name if isinstance(name, bytes) else b"" if name is None else str(name).encode()
    labels = [labels] if isinstance(labels, int) else labels or []
    if not name or b"\0" in name or any(n is None or n < 0 for n in labels):
        return None
    a = None if a is None or all(x is None for x in a) else a
    read = []
    for vector, width in ((v or None, 2), (a, 11)):
        if vector is not None and (len(vector) != width or None in vector):
            return None
        if vector is None and missing == "refuse":
            return None
        read.append(vector)
    return name, labels, *read


@pytest.mark.fault(
    "Records: columns of the wrong type, nulls, lists of another length, arrays that do "
    "not fit their ids",
)
@many(120)
@given(tables(), st.sampled_from(["refuse", "mask"]), st.integers(1, 4))
def test_rows_are_those_that_a_slow_reader_finds(tmp_path_factory, made, missing, chunk):
    table, rows = made
    path = tmp_path_factory.mktemp("p") / "x"
    pq.write_table(table, path, row_group_size=3)
    format, skips = VideoLevel(modalities=(V, A), missing=missing), Skips(quiet=True)
    rows_read = []
    for videos in read_rows(path, format, skips=skips, chunk_records=chunk):
        for i, name in enumerate(videos.ids.tolist()):
            vectors = [
                videos.features[m][i].tolist() if videos.present[m][i] else None for m in ("v", "a")
            ]
            begin, end = videos.label_offsets[i : i + 2]
            rows_read.append((name, videos.label_values[begin:end].tolist(), *vectors))
    expected = [slowly(row, missing) for row in rows]
    assert rows_read == [row for row in expected if row is not None]
    refused = [number for number, row in enumerate(expected) if row is None]
    assert [error.record for error in skips.errors] == refused
    assert all(isinstance(error, ContentError) for error in skips.errors)


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.fault(
    "Records: columns of the wrong type, nulls, lists of another length, arrays that do "
    "not fit their ids",
    "1: the column, or the row; never a cast",
)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"v": [[1.0, 2.0]]}, "no column of ids: expected id or video_id, found v"),
        ({"id": [1.5], "v": [[1.0, 2.0]]}, "column 'id' is double: ids are text or integers"),
        ({"id": [["a"]], "v": [[1.0, 2.0]]}, "column 'id' is list"),
        ({"id": ["a"], "v": [[1, 2]]}, "column 'v' is list.*int64.*: features are floats"),
        ({"id": ["a"], "v": ["x"]}, "column 'v' is string: features are floats"),
        ({"id": ["a"], "v0": [1.0], "v1": [1.0], "v2": [1.0]}, "3 columns of numbers, v0 to v2"),
        ({"id": ["a"], "w": [[1.0, 2.0]]}, "no column 'v', or v0, v1, ...: found id, w"),
        ({"id": ["a"], "v": [[1.0, 2.0]], "labels": ["x"]}, "column 'labels' is string"),
        ({"id": ["a"], "v": [[1.0, 2.0, 3.0]]}, "row 0: modality 'v' .*expected 2 values, found 3"),
    ],
)
def test_columns_that_cannot_be_read_are_named(tmp_path, columns, message):
    path = write(tmp_path / "x", **columns)
    with pytest.raises(RecordError, match=message):
        list(read_rows(path, VideoLevel(modalities=(V,))))
    inspection = inspect(path, Importing(modalities=("v:v:2",)))
    assert len(inspection.faults) == 1  # besides the list of the file's columns
    assert len(inspection.holds) == len(pq.read_schema(path)) or "v0" in columns


def test_an_import_with_wrong_options_prints_the_right_ones(tmp_path):
    rows = np.random.default_rng(0).uniform(-1, 1, (9, 3)).astype(np.float32)
    ids = [f"x{i}" for i in range(9)]
    path = write(tmp_path / "f x", clip=ids, emb=rows.tolist(), topic_label=[1] * 9)
    with pytest.raises(ContentError, match="no column of ids") as caught:
        importing.import_videos(path, tmp_path / "t")
    command = f"import '{path}' TABLE --modalities emb:emb:3 --id-key clip --labels-key topic_label"
    assert str(caught.value).endswith(command)
    chosen = Importing(modalities=("emb:emb:3",), id_key="clip", labels_key="topic_label")
    assert importing.import_videos(path, tmp_path / "t", chosen)["rows"] == 9


def test_arrays_become_the_same_table_as_columns(tmp_path):
    rng = np.random.default_rng(0)
    v, a = (rng.uniform(-1, 1, (5000, width)).astype(np.float32) for width in (4, 2))
    names = [f"é{i}" for i in range(5000)]
    folder = tmp_path / "arrays"
    folder.mkdir()
    np.save(folder / "v.npy", v)
    np.save(folder / "a.npy", a.astype(np.float64))
    (folder / "ids").write_text("\ufeff" + "\r\n".join(names), "utf-8")
    np.save(folder / "ids.npy", np.array(names))
    np.save(folder / "bytes.npy", np.array([name.encode() for name in names]))
    whole = write(tmp_path / "x", id=names, v=v.tolist(), a=a.tolist())
    columns = Importing(modalities=("v:v:4", "a:a:2"), labels_key="")
    prints = {importing.import_videos(whole, tmp_path / "t", columns)["fingerprint"]}
    kinds = (
        ("ids", f"{folder}/[va].npy"),
        ("ids.npy", f"{folder}/[va].npy"),
        ("bytes.npy", f"{folder}/[va].npy"),
    )
    for number, (ids, pattern) in enumerate(kinds):
        chosen = Importing(ids=str(folder / ids))
        prints.add(importing.import_videos(pattern, tmp_path / f"t{number}", chosen)["fingerprint"])
    assert len(prints) == 1
    (folder / "bytes.npy").unlink()
    # The file of ids beside the arrays is not taken for an array.
    report = importing.import_videos(folder, tmp_path / "f", Importing(ids=str(folder / "ids.npy")))
    assert prints == {report["fingerprint"]}
    assert FeatureTable.open(tmp_path / "f").widths == {"a": 2, "v": 4}
    np.save(folder / "ids.npy", np.arange(5000))
    assert read_ids(folder / "ids.npy")[:2] == [b"0", b"1"]


@pytest.mark.fault(
    "Records: columns of the wrong type, nulls, lists of another length, arrays that do "
    "not fit their ids",
)
def test_arrays_that_do_not_fit_are_named(tmp_path):
    v, ids = tmp_path / "v.npy", tmp_path / "ids"
    np.save(v, np.ones((3, 2), np.float32))
    ids.write_text("a\nb\n")

    def refused(match, **options):
        with pytest.raises(ValueError, match=match):
            importing.import_videos(v, tmp_path / "t", Importing(**options))
        assert not (tmp_path / "t").exists()

    refused("--ids FILE holds the ids of .npy files")
    refused("expected one row per id, found 2 in .*ids, 3 in .*v.npy", ids=str(ids))
    ids.write_text("a\n\nc\n")
    refused("row 1: id b'': expected at least one byte", ids=str(ids))
    ids.write_text("a\nb\nc\n")
    refused("has width 2, but 'x' needs 5", ids=str(ids), modalities=("x:v:5",))
    refused("no w.npy is among v.npy", ids=str(ids), modalities=("x:w:2",))
    np.save(v, np.ones((3, 2), np.int64))
    refused("holds int64.* features are floats", ids=str(ids))
    np.save(v, np.ones(3, np.float32))
    refused(r"has the shape \[3\]; expected videos x width", ids=str(ids))
    np.save(v, np.array([None, 1]), allow_pickle=True)
    refused("cannot be read as .npy: .*Python objects", ids=str(ids))
    np.save(v, np.ones((3, 2), np.float32))
    v.write_bytes(v.read_bytes()[:-4])
    refused("cannot be read as .npy", ids=str(ids))
    np.save(tmp_path / "w.npy", np.full((3, 2), math.nan, np.float32))
    with pytest.raises(RefusedError, match=r"w with NaN or infinity: 3 \(a, b, c\)"):
        importing.import_videos(tmp_path / "w.npy", tmp_path / "t", Importing(ids=str(ids)))
    write(tmp_path / "w.parquet", id=["a"])
    with pytest.raises(ValueError, match=r"expected files of one kind; .* is Parquet, .* is a n"):
        importing.import_videos(f"{tmp_path}/w*", tmp_path / "t")


@pytest.mark.fault(
    "Records: Parquet with columns of structs, maps or lists of lists",
    "`inspect` ignores them; an import that names one: 1 with its type",
)
def test_nested_columns_are_not_features_labels_or_ids(tmp_path):
    nested = {
        "s": pa.array([{"x": 1.0}, {"x": 2.0}]),
        "m": pa.array([[("k", 1.0)], []], pa.map_(pa.string(), pa.float64())),
        "l": pa.array([[[1.0]], [[2.0]]]),
    }
    columns = {"id": ["a", "b"], "v": [[0.5, 1.0], [0.25, 0.5]], **nested}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert not inspect(tmp_path / "a.parquet").faults
    for name in nested:
        for options in (
            {"modalities": (f"{name}:{name}:2",), "labels_key": ""},
            {"modalities": ("v:v:2",), "labels_key": name},
            {"modalities": ("v:v:2",), "labels_key": "", "id_key": name},
        ):
            with pytest.raises(RecordError, match=f"column '{name}' is (struct|map|list)"):
                importing.import_videos(
                    tmp_path / "a.parquet", tmp_path / "t", Importing(**options)
                )


@pytest.mark.fault(
    "Records: .npz for .npy, and a folder of ids",
    "1: its kind, and the expected one",
)
def test_an_npz_and_a_folder_of_ids_are_named(tmp_path):
    np.savez(tmp_path / "v.npz", v=np.ones((2, 2), np.float32))
    np.save(tmp_path / "v.npy", np.ones((2, 2), np.float32))
    (tmp_path / "ids").write_text("a\nb\n")
    (tmp_path / "folder").mkdir()
    for source, ids, message in (
        ("v.npz", "ids", r"v\.npz is a zip archive \(numpy's \.npz"),
        ("v.np*", "ids", r"v\.npz is a zip archive"),
        ("v.npy", "folder", r"folder: is a folder; give --ids"),
    ):
        options = Importing(ids=str(tmp_path / ids))
        with pytest.raises(ValueError, match=message):
            importing.import_videos(tmp_path / source, tmp_path / "t", options)
