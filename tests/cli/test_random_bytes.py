"""Whatever stands in a file: no verb ends with a traceback, or changes what it was given."""

import bz2
import gzip
import io
import shutil
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidembed.__main__ import main

SAMPLE = Path(__file__).resolve().parents[2] / "data/youtube8m/validate0009.tfrecord"
NAMES = (
    "x", "x.csv", "x.parquet", "x.tfrecord", "x.csv.gz", "x.tfrecord.gz", "x.npy", "x.json",
    "a [1].csv", "b=1, c@2.parquet",
)  # fmt: skip
HEADS = (b"", b"PAR1", b"\x1f\x8b", b"BZh9", b"(\xb5/\xfd", b"\x93NUMPY", b"\x00" * 12, b"\xff\xfe")


def parquet(**columns):
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def numbers(values):
    file = io.BytesIO()
    np.save(file, np.array(values))
    return file.getvalue()


WHOLE = (
    SAMPLE.read_bytes()[:30_000],
    b"session_id,timestamp,video_id\ns,1,a\ns,2,b\nt,3,a\n",
    b"source,target,weight\na,b,2\nb,c,3\n",
    b"id,split\nv0000,train\n",
    parquet(session_id=["s", "s"], timestamp=[1, 2], video_id=["a", "b"]),
    parquet(source=["a"], target=["b"], weight=[1.5]),
    parquet(session_id=[[1]], timestamp=[None], video_id=[{"a": 1}]),
    numbers([1.5, 2.5]),
    b'{"source": "a", "target": "b", "weight": 1}\n',
    b"source,target,weight\na,b,1e999\nb,c," + b"9" * 400 + b"\n",
)  # fmt: skip


@st.composite
def contents(draw):
    """Bytes without meaning, behind a head that promises some; or a whole file, with some of its
    bytes exchanged, compressed or not."""
    if draw(st.booleans()):
        made = draw(st.sampled_from(HEADS)) + draw(st.binary(max_size=60))
    else:
        made = bytearray(draw(st.sampled_from(WHOLE)))
        for _ in range(draw(st.integers(0, 3))):
            at = draw(st.integers(0, len(made)))
            made[at : at + draw(st.integers(0, 9))] = draw(st.binary(max_size=9))
    pack = draw(st.sampled_from([bytes, bytes, gzip.compress, bz2.compress, zlib.compress]))
    return pack(bytes(made))


def commands(table):
    """Verb and what stands before and behind the file."""
    return (
        (["inspect"], []),
        (["import"], ["OUT"]),
        (["cowatch"], ["OUT", "--threads", "1"]),
        (["cluster"], ["OUT"]),
        (["cluster"], ["OUT", "--table", table, "--max-unknown-share", "1"]),
        (["cluster", f"{table}/../edges.parquet", "OUT", "--table", table, "--split"], []),
        (["import", str(SAMPLE), "OUT", "--counts"], []),
        (["simulate"], ["OUT"]),
    )


def check(folder, words, capsys):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    out = folder / "out"
    try:
        code = main([str(out) if word == "OUT" else word for word in words])
    except SystemExit as end:
        code = end.code
    assert code in (0, 1, 2)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert code == 0 or said.err or said.out
    assert all(path.read_bytes() == content for path, content in before.items())
    left = {path for path in folder.rglob("*") if path.is_file()} - before.keys()
    assert all(path.is_relative_to(out) for path in left), "something is left beside the output"
    shutil.rmtree(out, ignore_errors=True)
    out.unlink(missing_ok=True)


@pytest.mark.fault(
    "Records: any bytes in any file that a verb reads",
    "read, or 1; no traceback, the file stays as it was, nothing is left",
)
@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_file_of_any_bytes(data, corpus_paths, tmp_path, capsys):
    file = tmp_path / data.draw(st.sampled_from(NAMES))
    file.write_bytes(data.draw(contents()))
    before, behind = data.draw(st.sampled_from(commands(corpus_paths.table)))
    try:
        check(tmp_path, [*before, str(file), *behind], capsys)
    finally:
        file.unlink()


@pytest.mark.fault("Records: any bytes in any file that a verb reads")
@pytest.mark.parametrize("name", ["manifest.json", "zarr.json", "ids/zarr.json", "ids/c/0/0"])
def test_a_table_of_any_bytes(name, corpus_paths, tmp_path, capsys):
    table = shutil.copytree(corpus_paths.table, tmp_path / "table")
    told = (b"{}", b"null", b'{"kind": "vidembed feature table"}')
    for content in (b"", b"[]", b"\xff\xfe", *(told if name == "manifest.json" else ())):
        (table / name).write_bytes(content)
        for words in (
            ["inspect", str(table)],
            ["simulate", str(table), "OUT"],
            ["cluster", corpus_paths.edges, "OUT", "--table", str(table)],
            ["import", str(SAMPLE), str(table)],
        ):
            check(tmp_path, words, capsys)
