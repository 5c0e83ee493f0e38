"""Faults of an index: each is named, and nothing is lost."""

import fcntl
import re
import resource
import shutil

import numpy as np
import pytest

from tests.serving.test_index import ENGINES, D, some_ids, some_vectors
from vidembed.records.space import SpaceError
from vidembed.serving import faiss_engine, versions
from vidembed.serving.blocks import BLOCK, Blocks, DamagedIndexError, write_blocks
from vidembed.serving.faiss_engine import FastScan
from vidembed.serving.index import Index


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """297 vectors: 197 of 200 behind an engine, 100 flat."""
    folder, ids, vectors = tmp_path_factory.mktemp("made") / "i", some_ids(300), some_vectors(300)
    index = Index.create(folder, ids[:200], vectors[:200], space="s", engine=ENGINES["ivf"])
    index.add(ids[200:], vectors[200:])
    index.remove(ids[:3])
    return folder


@pytest.fixture
def index(made, tmp_path):
    return Index.open(shutil.copytree(made, tmp_path / "i"))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def broken(vectors, *rows):
    vectors = vectors.copy()
    vectors[list(rows), 1] = np.nan
    return vectors


NEW, MORE = ["a", "b", "c"], some_vectors(3)
REFUSED = {
    "NaN": (lambda i: i.add(NEW, broken(MORE, 1)), r"1 of 3 vectors hold NaN.*\(ids b\)"),
    "huge": (lambda i: i.add(NEW, MORE * np.float32(1e30)), r"3 of 3 vectors hold NaN.* or huge"),
    "float64": (
        lambda i: i.search(MORE.astype(float) * 1e300, 3),
        r"3 of 3 queries hold",
    ),
    "NaN in queries": (lambda i: i.search(broken(MORE, 0, 2), 3), r"2 of 3 queries.*\(rows 0, 2\)"),
    "another width": (lambda i: i.add(NEW, MORE[:, 1:]), rf"must be f32\[n, {D}\], got \[3, 15\]"),
    "ids missing": (lambda i: i.add(NEW[:2], MORE), "2 ids for 3 vectors"),
    "repeated": (lambda i: i.add(["a", "b", "a"], MORE), r"1 ids \(a\) occur more than once"),
    "empty": (lambda i: i.replace(["a", "", "b"], MORE), "an id is empty"),
    "already there": (
        lambda i: i.add([*NEW[:2], "v00299"], MORE),
        r"1 ids \(v00299\) are already in",
    ),
    "numbers": (lambda i: i.remove([1, 2]), "ids must be bytes or text, got int64"),
    "numbers among text": (lambda i: i.remove(["a", 1]), "bytes or text, got int 1 among them"),
    "k": (lambda i: i.search(MORE, 0), "k is 0"),
    "effort": (lambda i: i.search(MORE, 1, effort=0), "effort is 0"),
    "engine": (lambda i: i.merge("annoy"), "'annoy' is not known: choose one of exact, fast-scan"),
    "levels": (lambda i: i.merge(FastScan(levels=[[0.0, 1.0]])), r"levels must be 16 finite.*1, 2"),
    "levels of another width": (
        lambda i: i.merge(FastScan(levels=np.ones((5, 16)))),
        "have 5 dimensions",
    ),
    "space": (lambda i: i.add(NEW, MORE, space="t"), "vectors are of the space 't'.*'s'"),
    "space of queries": (lambda i: i.search(MORE, 1, space="t"), "queries are of the space 't'"),
}


@pytest.mark.fault(
    "Indexes: vectors or queries of another space",
    "refused: both spaces, and what to do",
)
@pytest.mark.fault(
    "Indexes: NaN in vectors or queries, another width, ids missing, repeated, empty or "
    "already there, k or effort below 1, an unknown engine",
    "refused: how many, which ids or rows, what is expected; the folder stays unchanged, byte for "
    "byte",
)
@pytest.mark.parametrize("what", REFUSED)
def test_bad_arguments_are_refused_and_change_nothing(index, tmp_path, what):
    before = files(tmp_path / "i")
    call, message = REFUSED[what]
    kind = SpaceError if "space" in what else TypeError if "numbers" in what else ValueError
    with pytest.raises(kind, match=message):
        call(index)
    assert files(tmp_path / "i") == before
    assert len(index) == 297


@pytest.mark.fault(
    "Indexes: an index created where one exists",
    "refused unless `over` is set; the previous one is kept",
)
def test_an_index_is_not_overwritten_by_default(index, tmp_path):
    with pytest.raises(FileExistsError, match=r"is an index: add to it, or set over=True"):
        Index.create(tmp_path / "i", NEW, MORE, space="s")
    with pytest.raises(ValueError, match="kept as float32 or int8"):
        Index.create(tmp_path / "new", NEW, MORE, space="s", keep="int4")
    with pytest.raises(FileNotFoundError, match=r"is not an index.*Index\.create"):
        Index.open(tmp_path / "new")
    with pytest.raises(ValueError, match="local"):
        Index.open("gs://bucket/index")


@pytest.mark.fault(
    "Indexes: a folder of other files, or none, where an index is made, changed or rolled back",
    "refused; other files stay, whatever their names, and no folder is made",
)
def test_other_files_stay(index, tmp_path):
    folder_of_others = tmp_path / "own"
    folder_of_others.mkdir()
    for name in ("segment-0001.tfrecord", "version-notes"):
        (folder_of_others / name).write_text("mine")
        (tmp_path / "i" / name).write_text("mine")
    with pytest.raises(FileExistsError, match="holds other files"):
        Index.create(folder_of_others, NEW, MORE, space="s", over=True)
    with pytest.raises(FileExistsError, match="is a file: an index is a folder"):
        Index.create(folder_of_others / "version-notes", NEW, MORE, space="s")
    for folder in (folder_of_others, folder_of_others / "version-notes", tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match="is not an index"):
            Index.rollback(folder)
    assert files(folder_of_others) == {"segment-0001.tfrecord": b"mine", "version-notes": b"mine"}
    assert not (tmp_path / "none").exists()
    index.add(NEW, MORE)
    assert files(tmp_path / "i").items() >= files(folder_of_others).items()


def open_and_read(folder):
    opened = Index.open(folder)
    opened.verify()


@pytest.mark.fault(
    "Indexes: a file of an index truncated, lost, swapped, or with a flipped bit",
    "refused, naming file and place, before faiss reads a byte; mapped parts are checked "
    "by `verify`",
)
@pytest.mark.parametrize("name", ["version", "segment", "current"])
def test_cut_and_flipped_files(index, tmp_path, name):
    rng = np.random.default_rng(0)
    stands = ["current", index._version.name, *index._version.header["segments"]]
    for path in [tmp_path / "i" / file for file in stands if file.startswith(name)]:
        whole = path.read_bytes()
        spots = rng.integers(0, len(whole), 30)
        cuts = [whole[:at] for at in [0, 1, 23, *spots[:10], len(whole) - 1] if at < len(whole)]
        flips = []
        for at in [0, 8, 16, *spots, len(whole) - 2]:
            flips.append(bytearray(whole))
            flips[-1][at] ^= 1 << int(rng.integers(8))
        for damaged in [*cuts, *flips, whole + b" x"]:
            path.write_bytes(damaged)
            with pytest.raises(DamagedIndexError, match=r"is damaged: .*Index\.rollback") as caught:
                open_and_read(tmp_path / "i")
            assert str(tmp_path / "i") in str(caught.value)
        path.write_bytes(whole)
    open_and_read(tmp_path / "i")


@pytest.mark.fault("Indexes: a file of an index truncated, lost, swapped, or with a flipped bit")
def test_faiss_reads_no_byte_of_a_damaged_file(index, tmp_path, monkeypatch):
    monkeypatch.setattr(faiss_engine, "FEW", 0)
    path = next(s.blocks.path for s in index._version.segments if s.engine_bytes)
    place = Blocks(path)._begin + Blocks(path)._places["engine faiss"]["begin"]
    data = bytearray(path.read_bytes())
    data[place + 100] ^= 1
    path.write_bytes(data)
    faiss = faiss_engine.faiss_module()
    monkeypatch.setattr(faiss, "deserialize_index", None)
    with pytest.raises(DamagedIndexError, match=rf"{path.name}.*1 of 1 blocks.*engine faiss"):
        Index.open(tmp_path / "i").search(MORE, 3)


@pytest.mark.fault("Indexes: a file of an index truncated, lost, swapped, or with a flipped bit")
def test_a_video_is_not_searched_by_a_damaged_vector(tmp_path):
    """Rows of 3 kB, some in two blocks; undamaged rows are still returned."""
    rng = np.random.default_rng(0)
    ids, vectors = some_ids(2000), rng.normal(size=(2000, 750)).astype(np.float32)
    index = Index.create(tmp_path / "i", ids, vectors, space="s", engine=ENGINES["ivf"])
    blocks = index._version.segments[0].blocks
    at = next(place for place in range(BLOCK, blocks.size, BLOCK) if place > blocks.size / 2)
    begin = blocks._begin + blocks._places["vectors"]["begin"]
    at += blocks._begin  # the first byte of a block, within a row that starts in the previous block
    row = (at - begin) // 3000
    assert begin + row * 3000 < at
    data = bytearray(blocks.path.read_bytes())
    data[at] ^= 1
    blocks.path.unlink()
    blocks.path.write_bytes(data)
    index = Index.open(tmp_path / "i")
    for lost in (row, row + 100):
        with pytest.raises(DamagedIndexError, match=r"1 of \d+ blocks.*\(vectors\)"):
            index.vectors_of(ids[[0, lost]])
    undamaged = np.delete(np.arange(2000), np.arange(row, row + 360))
    np.testing.assert_array_equal(index.vectors_of(ids[undamaged])[0], vectors[undamaged])


@pytest.mark.fault("Indexes: a file of an index truncated, lost, swapped, or with a flipped bit")
def test_a_lost_or_exchanged_file_is_named(index, tmp_path):
    first, second = sorted((tmp_path / "i").glob("segment-*"))[:2]
    kept = first.read_bytes()
    shutil.copy(second, first)
    with pytest.raises(DamagedIndexError, match=rf"{first.name}.*not the segment that was written"):
        Index.open(tmp_path / "i")
    first.unlink()
    with pytest.raises(DamagedIndexError, match=rf"{first.name} is missing"):
        Index.open(tmp_path / "i")
    first.write_bytes(kept)
    assert Index.open(tmp_path / "i").verify()
    shutil.copy(first, tmp_path / "i" / "current")
    for call in (Index.open, Index.rollback):
        with pytest.raises(
            DamagedIndexError, match=r"current is damaged: it was replaced by another file"
        ):
            call(tmp_path / "i")


@pytest.mark.fault(
    "Indexes: the current version is damaged",
    "`rollback` goes back to the previous one; or it is made again in its place",
)
def test_a_damaged_version_is_left_by_rollback_or_anew(index, tmp_path):
    """The remedies that the message names."""
    version = tmp_path / "i" / index._version.name
    version.write_bytes(b"")
    Index.rollback(tmp_path / "i")
    assert len(Index.open(tmp_path / "i")) == 300
    with pytest.raises(ValueError, match="keeps no version before"):
        Index.rollback(tmp_path / "i")
    (tmp_path / "i" / "current").write_bytes(b"nothing")
    Index.create(tmp_path / "i", NEW, MORE, space="s", over=True)
    assert len(Index.open(tmp_path / "i")) == 3


@pytest.mark.fault(
    "Indexes: two processes that change one index",
    "the second is refused; a change applies to the newest version, not to the open one",
)
def test_one_process_changes_an_index_at_a_time(index, tmp_path):
    with open(tmp_path / "i" / ".lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="is being changed by another process"):
            index.add(NEW, MORE)
    index.add(NEW, MORE)
    assert len(index) == 300


@pytest.mark.fault(
    "Indexes: a writer killed before its change is committed",
    "the index is unchanged; the next change removes the leftovers",
)
def test_leftovers_of_a_killed_writer_are_removed_by_the_next(index, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(versions.Folder, "_point_to", killed)
        patch.setattr(versions.Folder, "_clean", killed)
        with pytest.raises(KeyboardInterrupt):
            index.change(add=(NEW, MORE), merge=True)
    (tmp_path / "i" / ".segment-1.4194304999.12ab34cd").write_bytes(b"half")
    opened = Index.open(tmp_path / "i")
    assert len(opened) == len(index) == 297
    opened.add(NEW, MORE)
    named = {opened._version.name, *opened._version.header["segments"]}
    named |= {index._version.name, *index._version.header["segments"]}
    assert set(files(tmp_path / "i")) == named | {"current", ".lock"}
    assert len(Index.rollback(tmp_path / "i")) == 297


@pytest.mark.fault(
    "Indexes: the disk is full while an index is made, added to, merged",
    "names the file; the index stays unchanged, byte for byte",
)
def test_a_full_disk_is_named_and_loses_nothing(index, tmp_path):
    calls = [
        ("i/segment-", lambda: index.add(NEW, MORE)),
        ("i/segment-", index.merge),
        ("i/version-", lambda: index.remove(index.ids[:9])),
        ("new/segment-", lambda: Index.create(tmp_path / "new", NEW, MORE, space="s")),
    ]
    before = files(tmp_path / "i")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name, call in calls:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))  # also fails for real
        try:
            with pytest.raises(OSError, match=f"free some space.*/{name}"):
                call()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(tmp_path / "i") == before
    assert set(files(tmp_path / "new")) == {".lock"}
    assert len(index) == 297


@pytest.mark.fault("Indexes: a file of an index truncated, lost, swapped, or with a flipped bit")
def test_a_file_of_blocks_is_what_was_written(tmp_path):
    """Arrays across blocks, empty arrays, and the name of the array with a flipped bit."""
    arrays = {
        "a": np.arange(BLOCK // 4, dtype=np.float32).reshape(2, -1),
        "none": np.zeros((0, 3), np.int8),
        "ids": np.array([b"x", b"yy"]),
        "b": np.arange(BLOCK // 3, dtype=np.int64),
    }
    digest = write_blocks(tmp_path / "f", {"x": 1}, arrays)
    blocks = Blocks(tmp_path / "f")
    assert (blocks.digest, blocks.header, blocks.names) == (digest, {"x": 1}, list(arrays))
    for name, array in arrays.items():
        assert blocks.verified(name).dtype == array.dtype
        np.testing.assert_array_equal(blocks.verified(name), array)
    assert blocks.verify() == (tmp_path / "f").stat().st_size
    data = bytearray((tmp_path / "f").read_bytes())
    data[-1] ^= 1
    (tmp_path / "f").write_bytes(data)
    blocks = Blocks(tmp_path / "f")
    blocks.verified("a")
    with pytest.raises(DamagedIndexError, match=re.escape("1 of 4 blocks")) as caught:
        blocks.verified("b")
    assert str(caught.value).count("(b)") == 1
    with pytest.raises(TypeError, match="object"):
        write_blocks(tmp_path / "g", {}, {"o": np.array([None])})
