"""`semantic-ids`: unique IDs of stored vectors, written atomically and continued later."""

import errno
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed.__main__ import main
from vidembed.deploy import semantic_ids
from vidembed.deploy.semantic_ids import read_ids
from vidembed.deploy.stored_vectors import read_vectors
from vidembed.records.table import FeatureTable
from vidembed.records.vector_files import vector_file
from vidembed.serving.index import Index

SIZES = ["--sizes", "4", "4"]


def stored(path, rows=slice(0, 64), space="one", change=None):
    """A file with some of 72 vectors, 8 of which occur twice."""
    vectors = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
    vectors = np.concatenate([vectors, vectors[:8]])[rows]
    ids = np.array([f"v{i:02d}" for i in range(72)][rows], "S3")
    if change is not None:
        vectors = change(vectors)
    nothing = np.zeros(len(ids) + 1, np.int64)
    table = FeatureTable(
        ids=ids,
        features={"video": vectors},
        label_offsets=nothing,
        label_values=np.zeros(0, np.int32),
    )
    with vector_file(path, 8, {"space": space}, modality="video") as file:
        file.add(table, vectors)
    return ids, vectors


def make(*arguments):
    return main(["semantic-ids", *map(str, arguments)])


@pytest.fixture
def made(tmp_path):
    """IDs of the first 64."""
    stored(tmp_path / "v.parquet")
    assert make(tmp_path / "v.parquet", tmp_path / "ids.parquet", *SIZES) == 0
    return tmp_path / "ids.parquet"


@pytest.mark.parametrize("form", ["v.parquet", "v.npy", "table", "index"])
def test_every_form_of_the_vectors_gives_the_same_ids(form, made, tmp_path, capsys):
    place = tmp_path / "again" / form
    if form == "index":
        expected = read_vectors(tmp_path / "v.parquet")
        Index.create(place, expected.ids, expected.vectors, space="one")
    else:
        stored(place)
    assert make(place, tmp_path / "other.parquet", *SIZES) == 0
    assert "space: one" in capsys.readouterr().out
    one, other = pq.read_table(made), pq.read_table(tmp_path / "other.parquet")
    assert one.column_names == ["video_id", "code_1", "code_2", "tie"]
    by_id = [table.sort_by("video_id") for table in (one, other)]
    assert by_id[0].equals(by_id[1])
    rows = {tuple(row.values())[1:] for row in one.to_pylist()}
    assert len(rows) == 64


@pytest.mark.fault(
    "A run in use: other semantic IDs or a foreign file at OUT, or another codebook beside it",
    "1, and nothing is changed; the same IDs are recognised; --force replaces IDs",
)
def test_running_again(made, tmp_path, capsys):
    before, vectors = made.read_bytes(), tmp_path / "v.parquet"
    assert make(vectors, made, *SIZES) == 0
    assert "exist already" in capsys.readouterr().out
    assert make(vectors, made, *SIZES, "--seed", "1") == 1
    assert "--force" in capsys.readouterr().err
    assert made.read_bytes() == before
    assert make(vectors, made, *SIZES, "--seed", "1", "--force") == 0
    assert read_ids(made).made["seed"] == 1
    made.unlink()
    assert make(vectors, made, *SIZES) == 1
    assert "is not the codebook of these IDs" in capsys.readouterr().err
    assert make(vectors, vectors, *SIZES) == 1
    assert "one of the inputs" in capsys.readouterr().err
    pq.write_table(pa.table({"a": [1]}), made)
    assert make(vectors, made, *SIZES, "--force") == 1
    assert "was not made by" in capsys.readouterr().err


@pytest.mark.fault(
    "A run in use: the disk is full, or the process is killed, between a codebook and semantic IDs",
    "no IDs exist, and the same command creates them",
)
def test_interrupted_between_the_two_files(tmp_path, capsys, monkeypatch):
    vectors, out = tmp_path / "v.parquet", tmp_path / "ids.parquet"
    stored(vectors)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(semantic_ids.pq, "write_table", full)
        assert make(vectors, out, *SIZES) == 1
    assert "nothing was written, free some space" in capsys.readouterr().err
    assert not out.exists()
    assert out.with_suffix(".codebook").exists()
    assert make(vectors, out, *SIZES) == 0
    assert len(read_ids(out).ids) == 64


def test_later_videos_get_ids_and_earlier_ids_stay(made, tmp_path, capsys):
    later, out = tmp_path / "later.npy", tmp_path / "more.parquet"
    # 8 are twins of videos that have an ID; 16 are known, and their vectors have changed since.
    stored(later, slice(48, 72), change=lambda v: np.concatenate([-v[:16], v[16:]]))
    assert make(later, out, "--continue", made) == 0
    said = capsys.readouterr().out
    assert "72 videos, 8 of them new" in said
    old, new = read_ids(made), read_ids(out)
    assert f"{new.made['changed']} of these videos would get other codes today" in said
    assert 8 <= new.made["changed"] <= 16
    for name in ("ids", "codes", "ties"):
        np.testing.assert_array_equal(getattr(new, name)[:64], getattr(old, name))
    assert new.ids[64:].tolist() == [f"v{i}".encode() for i in range(64, 72)]
    np.testing.assert_array_equal(new.codes[64:], old.codes[:8])
    for row in range(64, 72):
        same = (old.codes == new.codes[row]).all(axis=1)
        assert new.ties[row] > old.ties[same].max()
    keys = np.column_stack([new.codes, new.ties])
    assert len(np.unique(keys, axis=0)) == 72
    assert make(later, out, "--continue", made) == 0
    # From the codebook only: the same codes.
    assert make(later, tmp_path / "c.parquet", "--codebook", made.with_suffix(".codebook")) == 0
    np.testing.assert_array_equal(read_ids(tmp_path / "c.parquet").codes[16:], old.codes[:8])
    # And continue from there.
    assert make(tmp_path / "v.parquet", tmp_path / "on.parquet", "--continue", out) == 0
    np.testing.assert_array_equal(read_ids(tmp_path / "on.parquet").ties, new.ties)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if path.suffix == ".codebook" else 40] ^= 1
    path.write_bytes(data)


@pytest.mark.fault(
    "A run in use: semantic IDs continued with vectors of another space, another codebook, a "
    "damaged one, damaged or missing IDs",
    "1 with the file and what to do; nothing is written",
)
def test_what_cannot_be_continued(made, tmp_path, capsys):
    vectors, out, book = (
        tmp_path / "v.parquet",
        tmp_path / "x.parquet",
        made.with_suffix(".codebook"),
    )

    def refused(*options, of=vectors):
        assert make(of, out, *options) == 1
        assert not list(tmp_path.glob("x.*"))
        return capsys.readouterr().err

    stored(tmp_path / "o.parquet", space="two")
    assert "'two'" in refused("--continue", made, of=tmp_path / "o.parquet")
    assert make(vectors, tmp_path / "s.parquet", *SIZES, "--seed", "5") == 0
    other = tmp_path / "s.codebook"
    assert "is not the codebook of" in refused("--continue", made, "--codebook", other)
    assert "no such file" in refused("--continue", tmp_path / "none.parquet").lower()
    assert "holds no semantic IDs" in refused("--continue", tmp_path / "o.parquet")
    flip(book)
    assert f"{book} is damaged" in refused("--continue", made)
    flip(made)
    assert str(made) in refused("--continue", made)


@pytest.mark.fault(
    "A run in use: a byte flipped in stored vectors, their ids, or their metadata",
    "1 with the file: no IDs are assigned",
)
def test_flipped_vectors_get_no_ids(tmp_path, capsys):
    out, random = tmp_path / "x.parquet", np.random.default_rng(0)
    ids, vectors = stored(tmp_path / "v.npy")
    index = Index.create(tmp_path / "i", ids, vectors, space="one")
    segment = tmp_path / "i" / index._version.segments[0].name
    for path in (tmp_path / "v.npy", tmp_path / "v.ids.txt", tmp_path / "v.json", segment):
        whole = path.read_bytes()
        for at in [*random.integers(0, len(whole), 9), len(whole) - 2]:
            damaged = bytearray(whole)
            damaged[at] ^= 1 << int(random.integers(7))
            path.write_bytes(damaged)
            assert make(tmp_path / ("i" if path == segment else "v.npy"), out, *SIZES) == 1, at
            assert re.search(r"v\.npy|is damaged", capsys.readouterr().err)
        path.write_bytes(whole)
    assert not out.exists()
    assert make(tmp_path / "i", out, *SIZES) == make(tmp_path / "v.npy", out, *SIZES) == 0


@pytest.mark.fault(
    "A run in use: vectors for semantic IDs with NaN, too few, truncated, or of no known space",
    "1 with the file and what to give",
)
def test_vectors_that_get_no_ids(tmp_path, capsys):
    out = tmp_path / "x.parquet"

    def refused(name, *options):
        assert make(tmp_path / name, out, *options) == 1
        assert not out.exists()
        return capsys.readouterr().err

    def broken(vectors):
        vectors[5, 2] = np.nan
        return vectors

    stored(tmp_path / "nan.parquet", change=broken)
    assert "hold NaN, infinite or huge values (ids v05)" in refused("nan.parquet")
    stored(tmp_path / "v.npy")
    assert "[65] for 64 vectors" in refused("v.npy", "--sizes", "65")
    (tmp_path / "v.json").unlink()
    assert "v.json does not exist" in refused("v.npy")
    stored(tmp_path / "cut.npy")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-9])
    assert "cut.npy: is truncated" in refused("cut.npy")
    stored(tmp_path / "none.parquet", slice(0, 0))
    assert "no vectors at all" in refused("none.parquet")
    foreign = pq.read_table(tmp_path / "nan.parquet").replace_schema_metadata({})
    pq.write_table(foreign, tmp_path / "foreign.parquet")
    assert "does not name the space" in refused("foreign.parquet")
    assert "does not hold vectors" in refused("nowhere")
    stored(tmp_path / "v.parquet")
    assert make(tmp_path / "v.parquet", tmp_path / "x.csv") == 1
    assert "give a name that ends in .parquet" in capsys.readouterr().err
