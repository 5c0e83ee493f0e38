import dataclasses
import datetime
import errno
import gzip
import json
import sys
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from etils import epath

from vidembed.graph.edges import EdgeError, read_edges
from vidembed.records.table import FeatureTable
from vidembed.records.tabular import DIGEST_KEY, METADATA_KEY, RowsDigest


@pytest.fixture(scope="module")
def table():
    """Videos a, b, c, d, e in rows 0 to 4."""
    return FeatureTable(
        ids=np.array([b"a", b"b", b"c", b"d", b"e"]),
        features={"visual": np.zeros((5, 1), np.float32)},
        label_offsets=np.zeros(6, np.int64),
        label_values=np.zeros(0, np.int32),
    )


def write(path, **columns):
    edges = pa.table(columns)
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(edges, path)
    else:
        pq.write_table(edges, path)
    return path


@pytest.fixture(params=["edges.parquet", "edges.csv"])
def path(request, tmp_path):
    return tmp_path / request.param


@pytest.mark.fault(
    "Relations and sessions: loops, repeats, bad weights, isolated videos",
    "dropped, merged, refused, reported",
)
def test_ends_become_rows_sorted_and_each_pair_once(path, table):
    write(
        path,
        source=["d", "b", "a", "a", "e"],
        target=["c", "a", "b", "a", "a"],
        weight=[3, 2, 5, 9, 1],
    )
    edges = read_edges(path, table)
    assert edges.source.tolist() == [0, 0, 2]
    assert edges.target.tolist() == [1, 4, 3]
    assert edges.weight.tolist() == [7, 1, 3], "a-b and b-a add up"
    assert (edges.source.dtype, edges.weight.dtype) == (np.int32, np.float32)
    assert edges.report == {
        "rows": 5,
        "unknown_edges": 0,
        "unknown_ids": 0,
        "unknown": [],
        "loops": 1,
        "merged": 1,
        "edges": 3,
        "notes": [],
    }
    assert len(edges) == 3
    assert not edges.simulated


@pytest.mark.fault(
    "Relations and sessions: a column `kept` in an edge file (older versions wrote one)",
    "the column is ignored; a note names the options that replace it",
)
@pytest.mark.parametrize("name", ["other", "kept"])
def test_other_columns_are_not_used_and_kept_is_noted(path, table, name):
    write(path, source=["a", "b"], target=["b", "c"], weight=[0.5, 2.0], **{name: ["", "no"]})
    edges = read_edges(path, table)
    assert edges.weight.tolist() == [0.5, 2.0]
    notes = edges.report["notes"]
    assert len(notes) == (name == "kept")
    assert all(f"{path}: its column kept is not used" in note for note in notes)
    assert all("--corpus.max-degree" in note for note in notes)


@pytest.mark.fault(
    "Relations and sessions: a column `kept` in an edge file (older versions wrote one)",
)
def test_a_digest_of_an_older_version_covers_its_column_kept(tmp_path, table):
    columns = {"source": ["a", "b"], "target": ["b", "c"], "weight": [1, 2], "kept": [True, False]}
    edges = pa.table(columns).replace_schema_metadata({METADATA_KEY: "{}"})
    digest = RowsDigest(b"{}")
    for batch in edges.to_batches():
        digest.update(batch)
    with pq.ParquetWriter(tmp_path / "e.parquet", edges.schema) as writer:
        writer.write_table(edges)
        writer.add_key_value_metadata({DIGEST_KEY: digest.hexdigest()})
    assert len(read_edges(tmp_path / "e.parquet", table)) == 2


def test_unknown_ids_are_dropped_below_the_threshold_and_refused_above(path, table):
    write(
        path,
        source=["a"] * 98 + ["x", "a"],
        target=["b"] * 98 + ["y", "x"],
        weight=[1] * 100,
    )
    edges = read_edges(path, table, max_unknown_share=0.02)
    assert (edges.report["unknown_edges"], edges.report["unknown"]) == (2, ["x", "y"])
    assert edges.weight.tolist() == [98]
    with pytest.raises(EdgeError, match=r"2 of 100 edges \(2.0%\) name 2 ids .*: x, y\."):
        read_edges(path, table)


def test_only_the_first_ten_unknown_ids_are_listed(path, table):
    names = [f"u{i:02d}" for i in range(30)]
    write(path, source=["a"] * 30, target=names, weight=[1] * 30)
    with pytest.raises(EdgeError, match="30 ids") as error:
        read_edges(path, table)
    assert "u09" in str(error.value)
    assert "u10" not in str(error.value)


def test_numbers_as_ids_in_csv_stay_text(tmp_path, table):
    path = tmp_path / "edges.csv"
    path.write_text("source,target,weight\n007,a,1\na,b,1\n")
    with pytest.raises(EdgeError, match="first: 007"):
        read_edges(path, table)


@pytest.mark.fault("Relations and sessions: loops, repeats, bad weights, isolated videos")
@pytest.mark.parametrize("weight", [-1.0, 0.0, float("nan"), float("inf")])
def test_bad_weights_are_refused_by_row(path, table, weight):
    write(path, source=["a", "b"], target=["b", "c"], weight=[1.0, weight])
    # In a CSV file "nan" means a missing number.
    absent = path.suffix == ".csv" and np.isnan(weight)
    says = "1 of 2 edges have no weight" if absent else "1 of 2 weights .*row 1: b - c"
    with pytest.raises(EdgeError, match=says):
        read_edges(path, table)


def test_missing_columns_say_expected_and_found(path, table):
    write(path, source=["a"], destination=["b"], weight=[1])
    with pytest.raises(EdgeError, match=r"target is missing; .*found source, destination, weight"):
        read_edges(path, table)


@pytest.mark.parametrize("column", ["source", "target", "weight"])
def test_missing_cells_are_refused(path, table, column):
    cells = {"source": ["a", "b"], "target": ["b", "c"], "weight": [1.0, 2.0]}
    cells[column][1] = None
    write(path, **cells)
    with pytest.raises(EdgeError, match=f"1 of 2 edges have no {column}"):
        read_edges(path, table)


def test_empty_absent_and_unreadable_files(tmp_path, table):
    write(tmp_path / "edges.parquet", source=pa.array([], pa.string()), target=[], weight=[])
    with pytest.raises(EdgeError, match="holds no edges"):
        read_edges(tmp_path / "edges.parquet", table)
    with pytest.raises(EdgeError, match=r"no such file; .*edges\.parquet"):
        read_edges(tmp_path / "edge.parquet", table)
    (tmp_path / "text.parquet").write_bytes(b"source,target\0weight\n")
    with pytest.raises(EdgeError, match="cannot be read as edges"):
        read_edges(tmp_path / "text.parquet", table)
    write(tmp_path / "words.parquet", source=["a"], target=["b"], weight=["many"])
    with pytest.raises(EdgeError, match="cannot be read as edges"):
        read_edges(tmp_path / "words.parquet", table)
    write(tmp_path / "loops.parquet", source=["a"], target=["a"], weight=[1])
    with pytest.raises(EdgeError, match="none of its 1 edges"):
        read_edges(tmp_path / "loops.parquet", table)


def test_metadata_is_read(tmp_path, table):
    edges = pa.table({"source": ["a"], "target": ["b"], "weight": [2]})
    metadata = {"simulated": True, "parameters": {"min_weight": 2}}
    edges = edges.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)})
    pq.write_table(edges, tmp_path / "edges.parquet")
    read = read_edges(tmp_path / "edges.parquet", table)
    assert read.simulated
    assert read.metadata == metadata


@pytest.mark.parametrize("mark", [b"not JSON", b"[1]"])
def test_metadata_that_is_not_ours_is_refused_by_name(tmp_path, table, mark):
    edges = pa.table({"source": ["a"], "target": ["b"], "weight": [2]})
    pq.write_table(edges.replace_schema_metadata({METADATA_KEY: mark}), tmp_path / "e.parquet")
    with pytest.raises(EdgeError, match=r"e\.parquet: its metadata 'vidembed' is not JSON"):
        read_edges(tmp_path / "e.parquet", table)


@pytest.mark.parametrize("weight", [datetime.datetime(2026, 1, 1), [1.0], {"a": 1}])
def test_weights_that_are_not_numbers_are_refused_by_name(tmp_path, table, weight):
    write(tmp_path / "e.parquet", source=["a"], target=["b"], weight=[weight])
    with pytest.raises(EdgeError, match=r"e\.parquet: cannot be read as edges"):
        read_edges(tmp_path / "e.parquet", table)


@pytest.mark.fault(
    "Relations and sessions: ids that are neither text, UTF-8 bytes nor whole numbers; "
    '"", null or NaN for an id',
)
@pytest.mark.parametrize("number", [1, 4.5, True, None, "1 ", "", "x"])
@pytest.mark.parametrize("end", ["a", b"a", "", None, 7, 1.0, ["a"], {"id": "a"}])
def test_ids_are_of_the_types_of_one_list(tmp_path, table, end, number):
    """Ends are text, UTF-8 bytes or whole numbers; weights are numbers or numbers as text."""
    table = dataclasses.replace(table, ids=np.array([b"7", b"a", b"b", b"d", b"e"]))
    write(tmp_path / "e", source=["b"], target=[end], weight=[number])
    if end in ("a", b"a", 7) and number in (1, 4.5, "1 ") and number is not True:
        edges = read_edges(tmp_path / "e", table)
        assert edges.source.tolist() + edges.target.tolist() == ([0, 2] if end == 7 else [1, 2])
        return
    with pytest.raises(EdgeError, match=r"/e: .*(target|weight)"):
        read_edges(tmp_path / "e", table)


@pytest.mark.parametrize("weight", ["1e300", "1e-60", "-1", "inf"])
def test_weights_of_any_scale_are_named_by_their_ends(tmp_path, table, weight):
    (tmp_path / "e.csv").write_text(f"source,target,weight\na,b,{weight}\nb,c,1\n")
    with pytest.raises(EdgeError, match=r"from 1e-30 to 1e\+30 \(row 0: a - b"):
        read_edges(tmp_path / "e.csv", table)


def test_a_folder_is_refused(tmp_path, table):
    with pytest.raises(EdgeError, match="is a folder; give the one Parquet or CSV file"):
        read_edges(tmp_path, table)


def test_compressed_csv(tmp_path, table):
    packed = gzip.compress(b"source,target,weight\na,b,2\n")
    path = tmp_path / "edges.csv.gz"
    path.write_bytes(packed)
    assert read_edges(path, table).weight.tolist() == [2]
    path.write_bytes(packed[:-12])
    with pytest.raises(EdgeError, match=r"edges\.csv\.gz: cannot be read as edges"):
        read_edges(path, table)


def test_a_failing_disk_is_not_reported_as_a_bad_file(path, table, monkeypatch):
    write(path, source=["a"], target=["b"], weight=[1])
    failing = OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr(type(epath.Path(path)), "open", Mock(side_effect=failing))
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_edges(path, table)
    assert caught.value is failing


def test_the_package_for_buckets_is_named(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as if it were not installed
    with pytest.raises(ImportError, match="install gcsfs"):
        read_edges("gs://b/e.csv", table)
