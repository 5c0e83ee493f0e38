"""Appending and replacing: the same as one import of all, or nothing, even if killed."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import many
from vidembed.records import arrays, importing, table_folder
from vidembed.records.arrays import ArrayWriter, TableError
from vidembed.records.bytecode import STEP, dequantise
from vidembed.records.importing import Importing, RefusedError
from vidembed.records.inspecting import inspect
from vidembed.records.manifest_form import damaged
from vidembed.records.space import SpaceError
from vidembed.records.table import FeatureTable
from vidembed.records.table_append import TableExtension
from vidembed.records.table_files import remove
from vidembed.records.table_folder import TableWriter, read_manifest, table_state
from vidembed.records.writer import write_videos

OPTIONS = {"modalities": ("v:v:4", "a:a:2"), "missing": "mask"}


class Killed(BaseException):
    """Raised instead of a kill; the code under test must not clean up."""


def records(path, ids, *, without=0):
    """Videos with features seeded by their ids; the first `without` lack `a`."""
    rng = [np.random.default_rng(list(name.encode())) for name in ids]
    v = [each.uniform(-1, 1, 4).astype(np.float32) for each in rng]
    a = [each.uniform(-1, 1, 2).astype(np.float32) if i >= without else None
         for i, each in enumerate(rng)]  # fmt: skip
    write_videos(path, ids, {"v": v, "a": a}, [[len(name)] * (i % 3) for i, name in enumerate(ids)])
    return path


def run(source, table, **options):
    return importing.import_videos(source, table, Importing(**{**OPTIONS, **options}))


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def old(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 4 * 3)  # three rows of `v`
    records(tmp_path / "old.tfrecord", [f"o{i}" for i in range(7)])
    run(tmp_path / "old.tfrecord", tmp_path / "t")
    return tmp_path / "t"


PARTS = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 3), st.sampled_from(["", "a much longer id "])),
    min_size=2,
    max_size=4,
)


@many(6)
@given(PARTS, st.sampled_from(["uint8", "bfloat16", "float32"]), st.sampled_from([4, 12, 999]))
def test_appending_in_parts_equals_one_import_of_all(tmp_path_factory, parts, dtype, chunk):
    folder = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "CHUNK_BYTES", chunk)
        for number, (count, without, prefix) in enumerate(parts):
            names = [f"{prefix}{number}-{i}" for i in range(count)]
            # A modality that no video of a part has would leave no rows to check.
            records(folder / f"{number}.tfrecord", names, without=without)
            source = folder / f"{number}.tfrecord"
            done = run(source, folder / "t", dtype=dtype, append=number > 0)
        whole = run(f"{folder}/*.tfrecord", folder / "all", dtype=dtype)
    table = FeatureTable.open(folder / "t")
    assert table.fingerprint == whole["fingerprint"] == done["fingerprint"]
    assert table.space == FeatureTable.open(folder / "all").space
    np.testing.assert_array_equal(table.has("a"), FeatureTable.open(folder / "all").has("a"))


@pytest.mark.fault(
    "Records: an import with --append or --force killed or failed at any moment",
    "the old or the new table is valid; the same command completes the import and cleans up",
)
@pytest.mark.parametrize("how", ["append", "force"])
def test_killed_at_any_moment_the_old_table_stays_and_the_same_command_completes(
    tmp_path, old, monkeypatch, how
):
    before, rows = FeatureTable.open(old), 8
    (old / "notes").write_text("of somebody")
    records(tmp_path / "new.tfrecord", [f"new video {i}" for i in range(rows)], without=2)
    moments = 0
    while moments < 200:
        with monkeypatch.context() as patch:
            for name in ("flush", "finish", "_resume", "append"):
                patch.setattr(ArrayWriter, name, counted(getattr(ArrayWriter, name)))
            patch.setattr(TableExtension, "abandon", lambda self: None)
            patch.setattr(TableWriter, "abandon", lambda self: None)
            ArrayWriter.left = moments
            try:
                run(tmp_path / "new.tfrecord", old, **{how: True})
                break
            except Killed:
                moments += 6
        assert FeatureTable.open(old).fingerprint == before.fingerprint
    assert 18 <= moments < 200
    assert (old / "notes").read_text() == "of somebody"
    assert len(FeatureTable.open(old)) == 7 * (how == "append") + rows
    assert run(tmp_path / "new.tfrecord", old, append=how == "append")["already_there"]
    whole = run(f"{tmp_path}/[no]*.tfrecord", tmp_path / "all")
    # In the order of file names, `new` comes before `old`.
    assert whole["rows"] == 7 + rows


def counted(method):
    def call(self, *arguments, **options):
        if ArrayWriter.left == 0:
            ArrayWriter.left = -1
            raise Killed
        ArrayWriter.left -= 1
        return method(self, *arguments, **options)

    return call


@pytest.mark.fault("Records: an import with --append or --force killed or failed at any moment")
@pytest.mark.long
@pytest.mark.parametrize("how", ["append", "force"])
@pytest.mark.parametrize("moment", range(0, 24, 3))
def test_killed_for_real(tmp_path, old, moment, how):
    records(tmp_path / "new.tfrecord", [f"new video {i}" for i in range(8)], without=2)
    program = (
        "import os, sys\n"
        "from vidembed.records import arrays, importing\n"
        "left, flush = int(sys.argv[3]), arrays.ArrayWriter.flush\n"
        "def killed(self):\n"
        "    global left\n"
        "    flush(self); left -= 1\n"
        "    if left < 0: os.kill(os.getpid(), 9)\n"
        "arrays.ArrayWriter.flush = killed\n"
        "how = {'modalities': ('v:v:4', 'a:a:2'), 'missing': 'mask', sys.argv[4]: True}\n"
        "importing.import_videos(sys.argv[1], sys.argv[2], importing.Importing(**how))\n"
    )
    before = FeatureTable.open(old).fingerprint
    command = [sys.executable, "-c", program, tmp_path / "new.tfrecord", old, str(moment), how]
    code = subprocess.run(command, check=False).returncode
    assert code in (-9, 0)
    assert (FeatureTable.open(old).fingerprint == before) == (code == -9)
    run(tmp_path / "new.tfrecord", old, **{how: True})
    assert len(FeatureTable.open(old)) == (15 if how == "append" else 8)


@pytest.mark.fault("Records: an import with --append or --force killed or failed at any moment")
@pytest.mark.parametrize("how", ["append", "force"])
def test_a_failed_import_leaves_the_existing_files(tmp_path, old, how):
    fingerprint, names = FeatureTable.open(old).fingerprint, set(contents(old))
    records(tmp_path / "n.tfrecord", [f"n{i}" for i in range(8)])
    with (tmp_path / "n.tfrecord").open("ab") as file:
        file.write(b"cut")
    with pytest.raises(ValueError, match="the file ends after 3"):
        run(tmp_path / "n.tfrecord", old, **{how: True})
    assert set(contents(old)) == names
    assert FeatureTable.open(old).fingerprint == fingerprint


@pytest.mark.fault("Records: an import with --append or --force killed or failed at any moment")
def test_a_replacement_killed_while_the_old_arrays_are_removed(tmp_path, old, monkeypatch):
    def killed(path, unwanted):
        remove(path, lambda key: key.startswith("features/v/c/") and unwanted(key))
        if read_manifest(path)["rows"] < 7:
            raise Killed

    source, plain = records(tmp_path / "n.tfrecord", ["n1", "n2", "n3"]), tmp_path / "plain"
    run(source, plain)
    with monkeypatch.context() as patch:
        patch.setattr(table_folder, "remove", killed)
        with pytest.raises(Killed):
            run(source, old, force=True)
    assert FeatureTable.open(old).fingerprint == FeatureTable.open(plain).fingerprint
    more = records(tmp_path / "more.tfrecord", ["m1"])
    for table in (old, plain):
        run(more, table, append=True)
    assert FeatureTable.open(old).fingerprint == FeatureTable.open(plain).fingerprint
    assert not list(old.glob("label*"))  # left over before


def edits(value, path=()):
    """Every removal of one entry of a JSON tree, and several replacements of it."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, entry in value.items() if isinstance(value, dict) else ():
        yield from ((*path, key, new) for new in ("removed", None, "x", -1, [], {}) if new != entry)
        yield from edits(entry, (*path, key))


def edited(manifest, path):
    *above, key, new = path
    inner = copy = json.loads(json.dumps(manifest))
    for name in above:
        inner = inner[name]
    inner[key] = new
    if new == "removed":
        del inner[key]
    return copy


@pytest.mark.fault("Records: a manifest of a table with malformed entries")
def test_a_manifest_with_any_entry_removed_or_of_another_kind(tmp_path, old, capsys):
    source, file = records(tmp_path / "n.tfrecord", ["n1", "o1", "n2"]), old / "manifest.json"
    more = {"append": True, "duplicates": "first", "space": ("net",)}
    run(tmp_path / "old.tfrecord", old, space=("net",))
    run(source, old, **more)
    manifest, messages = json.loads(file.read_text()), []
    for number, path in enumerate(edits(manifest)):
        after = edited(manifest, path)
        if len(path) > 2 and (damaged(after) or number % 15):
            continue
        file.write_text(json.dumps(after))
        for options in ({}, more):
            command = Importing(**{**OPTIONS, **options})
            given = source if options else tmp_path / "old.tfrecord"
            try:
                FeatureTable.open(old)
                importing.main(str(given), str(old), command)
            except ValueError as error:
                messages.append(str(error))
    assert len(messages) > 90
    assert all(str(tmp_path) in message for message in messages)


@pytest.mark.fault(
    "Records: two imports into one table at once",
    "1: the second must wait, and nothing is lost (gs:// has no locks)",
)
@pytest.mark.parametrize("first", ["append", "force"])
@pytest.mark.parametrize("second", ["append", "force"])
def test_one_writer_at_a_time(tmp_path, old, first, second):
    a, b = (records(tmp_path / name, [name]) for name in ("a", "b"))
    refused = []

    def meanwhile(*_):
        with pytest.raises(TableError, match="is being written by another process: wait") as caught:
            run(b, old, **{second: True})
        refused.append(caught)

    how = Importing(**OPTIONS, **{first: True})
    importing.import_videos(a, old, how, progress=meanwhile)
    assert refused
    run(b, old, append=True)
    ids = FeatureTable.open(old).ids.tolist()
    assert ids[-2:] == [b"a", b"b"]
    assert len(ids) == (9 if first == "append" else 2)


@pytest.mark.fault(
    "Records: appended: existing ids, another space, width or dtype",
    "1, nothing changed; `--duplicates first` skips such ids",
)
def test_existing_ids_are_refused_or_skipped(tmp_path, old):
    records(tmp_path / "n.tfrecord", ["o3", "n1", "o5"])
    before = contents(old)
    with pytest.raises(RefusedError, match=r"again: 2 \(o3 in .*t and n.tfrecord, o5"):
        run(tmp_path / "n.tfrecord", old, append=True)
    assert contents(old) == before
    report = run(tmp_path / "n.tfrecord", old, append=True, duplicates="first")
    assert (report["rows"], report["duplicates"]) == (1, 2)
    table = FeatureTable.open(old)
    assert table.ids.tolist() == [b"o0", b"o1", b"o2", b"o3", b"o4", b"o5", b"o6", b"n1"]
    assert inspect(old).facts["made from"] == "2 shards"


def test_one_network_by_name_and_two_videos_that_are_nearly_alike(tmp_path, old):
    v = np.full((2, 4), 0.5, np.float32) + np.array([[0], [1e-4]], np.float32)
    parquet = pa.table(
        {"id": ["p0", "p1"], "vis": v.tolist(), "aud0": [0.1, 0.1], "aud1": [0.2, 0.2]}
    )
    pq.write_table(parquet, tmp_path / "p")
    columns = {"modalities": ("v:vis:4", "a:aud:2"), "append": True}
    with pytest.raises(SpaceError, match="import --space NAME"):
        run(tmp_path / "p", old, **columns)
    run(tmp_path / "old.tfrecord", old, space=("net",))  # names the table, and imports nothing
    report = run(tmp_path / "p", old, **columns, space=("net",))
    assert (report["rows"], report["warnings"]) == (2, [])
    table = FeatureTable.open(old)
    assert table.space == {"v": "net", "a": "net"}
    np.testing.assert_allclose(dequantise(table.rows(table.find(["p1"]))["v"]), v[1:], atol=STEP)


@pytest.mark.fault("Records: appended: existing ids, another space, width or dtype")
def test_videos_that_do_not_fit_are_refused_and_nothing_changes(tmp_path, old):
    source = records(tmp_path / "n.tfrecord", ["n1"])
    before = contents(old)
    with pytest.raises(TableError, match=r"holds a 2 uint8, v 4 uint8, .* have a 2 bfloat16"):
        run(source, old, append=True, dtype="bfloat16")
    with pytest.raises(TableError, match="append the same modalities, widths and --dtype"):
        run(source, old, append=True, modalities=("v:v:4",))
    with pytest.raises(
        SpaceError, match=r"v of .*t is '4 uint8 from records: v', of the new .* 'x'"
    ):
        run(source, old, append=True, space=("v=x",))
    with pytest.raises(TableError, match="holds no feature table"):
        run(source, tmp_path / "nowhere", append=True)
    with pytest.raises(ValueError, match="give only one of them"):
        run(source, old, append=True, force=True)
    assert contents(old) == before
    chunk = old / "features/v/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[::-1])
    with pytest.raises(TableError, match="features/v"):
        run(source, old, append=True)
    assert table_state(old) == "finished"


@pytest.mark.fault(
    "Records: appended features that the table's dtype rounds to nothing",
    "1: the share; single videos and near duplicates of the table's scale are accepted",
)
@pytest.mark.parametrize("count", [1, 3, 60])
def test_appended_videos_do_not_become_identical(tmp_path, old, count):
    rng = np.random.default_rng(0)
    for scale, shift in ((1e-4, 0), (0.5, 0), (1e-5, 0.5 if count < 9 else 0)):
        rows = (rng.normal(size=(count, 6)) * scale + shift).astype(np.float32)
        path, ids = tmp_path / f"{scale}", [f"{scale} {i}" for i in range(count)]
        write_videos(path, ids, {"v": rows[:, :4], "a": rows[:, 4:]}, [[1]] * count)
        if scale == 0.5 or shift:
            assert run(path, old, append=True)["rows"] == count
        else:
            was = FeatureTable.open(old).fingerprint
            with pytest.raises(RefusedError, match="uint8 rounds the appended values"):
                run(path, old, append=True)
            assert FeatureTable.open(old).fingerprint == was


@pytest.mark.fault(
    "Records: appended features of another scale than the table's",
    "1 if its dtype clips them or rounds them by much of its spread; otherwise a warning",
)
@pytest.mark.parametrize(
    ("dtype", "count", "scale", "shift", "done"),
    [
        ("float32", 1, 3, 0, ""),
        ("float32", 1, 1, 100, "warned"),
        ("float32", 20, 1e-2, 0, "warned"),
        ("uint8", 20, 1, 1.5, "warned"),
        ("uint8", 1, 1, 100, "lie outside"),
        ("bfloat16", 20, 1, 100, "rounds the appended values"),
    ],
)
def test_appended_videos_of_another_scale(tmp_path, count, dtype, scale, shift, done):
    rng, how = np.random.default_rng(0), {"modalities": ("v:v:16",), "dtype": dtype}
    for name, rows in (("old", rng.normal(size=(99, 16))), ("new", rng.normal(size=(count, 16)))):
        v = rows * 0.1 * (scale if name == "new" else 1) + (shift if name == "new" else 0)
        ids = [f"{name}{i}" for i in range(len(v))]
        write_videos(tmp_path / name, ids, {"v": v.astype(np.float32)}, [[1]] * len(v))
    run(tmp_path / "old", tmp_path / "t", **how)
    if done in ("", "warned"):
        warnings = run(tmp_path / "new", tmp_path / "t", append=True, **how)["warnings"]
        assert [w[:27] for w in warnings] == ["v: the appended videos (val"] * (done == "warned")
    else:
        with pytest.raises(RefusedError, match=done):
            run(tmp_path / "new", tmp_path / "t", append=True, **how)


@pytest.mark.fault(
    "Records: finite features that are infinite in the dtype of the table",
    "1: the videos; --invalid skips them, also when appending",
)
def test_values_too_large_for_the_dtype_are_invalid(tmp_path):
    rows = np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4)
    rows[3, 1] = np.finfo("f4").min
    for name, some in (("a", rows[:7]), ("b", rows[::-1][:7])):
        write_videos(tmp_path / name, [f"{name}{i}" for i in range(7)], {"v": some}, [[1]] * 7)
    options = {"modalities": ("v:v:4",), "dtype": "bfloat16"}
    for name, append, bad in (("a", False, "a3"), ("b", True, "b6")):
        with pytest.raises(RefusedError, match=f"too large for bfloat16: 1 .{bad}"):
            run(tmp_path / name, tmp_path / "t", append=append, **options)
        run(tmp_path / name, tmp_path / "t", append=append, invalid="drop", **options)
    table = FeatureTable.open(tmp_path / "t")
    assert len(table) == 12
    assert np.isfinite(table.features["v"].astype(np.float32)).all()
