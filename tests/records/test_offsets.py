import errno
import gzip
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from vidembed.records import offsets as module
from vidembed.records.faults import RecordError, Skips
from vidembed.records.framing import frame, write_records
from vidembed.records.offsets import read_offsets
from vidembed.records.shards import shards

PAYLOADS = [b"first", b"", b"the third", b"4" * 300]
STARTS = [0, 21, 37, 62]
STOPS = [21, 37, 62, 378]


@pytest.fixture
def shard(tmp_path):
    write_records(tmp_path / "a.tfrecord", PAYLOADS)
    return tmp_path / "a.tfrecord"


@pytest.fixture
def built(monkeypatch):
    """Counts how often an index is built."""
    counts = []
    build = module._build
    monkeypatch.setattr(module, "_build", lambda *given: (counts.append(1), build(*given))[1])
    return counts


def lists(index):
    return [part.tolist() for part in index]


def test_an_index_locates_each_record_and_is_stored(shard, built):
    for _ in range(3):
        assert lists(read_offsets(shard)) == [STARTS, STOPS, [0, 1, 2, 3]]
    assert len(built) == 1
    assert sorted(p.name for p in shard.parent.iterdir()) == ["a.tfrecord", "a.tfrecord.offsets"]
    assert [p.name for p in shards(shard.parent)] == ["a.tfrecord"]


def test_the_real_shards(tmp_path):
    for path in shards("data/youtube8m"):
        (tmp_path / path.name).symlink_to(path.resolve())
        index = read_offsets(tmp_path / path.name)
        data = path.read_bytes()
        assert index.starts[0] == 0
        assert index.stops[-1] == len(data)
        assert (index.starts[1:] == index.stops[:-1]).all()
        for start, stop in zip(index.starts, index.stops):
            length = int.from_bytes(data[start : start + 8], "little")
            assert stop - start == length + 16
    assert len(list(tmp_path.iterdir())) == 20


@pytest.mark.parametrize(
    "payloads",
    [
        [*PAYLOADS, b"more"],
        PAYLOADS[:-1],
        [b"fir", b"st", b"e third", b"4" * 302],
        [PAYLOADS[1], PAYLOADS[0], *PAYLOADS[2:]],
    ],
)
def test_a_stale_index_is_detected(shard, built, payloads, caplog):
    read_offsets(shard)
    write_records(shard, payloads)
    ends = np.cumsum([16 + len(payload) for payload in payloads]).tolist()
    assert lists(read_offsets(shard))[1] == ends
    assert "does not match its shard" in caplog.text
    assert len(built) == 2
    read_offsets(shard)
    assert len(built) == 2


def test_a_change_at_either_end_of_a_large_shard_is_detected(tmp_path, built):
    path = tmp_path / "a"
    write_records(path, [b"%06d" % i * 100 for i in range(1000)])
    for record in (0, 999):
        read_offsets(path)
        content = bytearray(path.read_bytes())
        begin = record * 616
        content[begin : begin + 616] = frame(b"x" * 600)
        path.write_bytes(content)
    read_offsets(path)
    assert len(built) == 3


def test_a_damaged_index_is_rebuilt(shard, built, caplog):
    read_offsets(shard)
    sidecar = shard.with_name("a.tfrecord.offsets")
    whole = sidecar.read_bytes()
    damages = [whole[:-1], b"", whole[:10], whole + b"x"]
    damages += [whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :] for i in range(len(whole))]
    for count, damaged in enumerate(damages, start=2):
        sidecar.write_bytes(damaged)
        assert lists(read_offsets(shard)) == [STARTS, STOPS, [0, 1, 2, 3]]
        assert len(built) == count
    assert "is damaged" in caplog.text


def as_nobody(work):
    """Run as a user without root's exemption from file permissions."""
    if os.geteuid():
        return work()
    os.seteuid(65534)
    try:
        return work()
    finally:
        os.seteuid(0)


def test_in_a_read_only_folder_the_index_stays_in_memory(built):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a"
        write_records(path, PAYLOADS)
        os.chmod(name, 0o555)
        path.chmod(0o644)
        for _ in range(2):
            assert lists(as_nobody(lambda: read_offsets(path)))[0] == STARTS
        assert [p.name for p in Path(name).iterdir()] == ["a"]
        assert len(built) == 2
        os.chmod(name, 0o755)


def test_a_full_disk_leaves_no_partial_index(shard, built, monkeypatch, caplog):
    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    caplog.set_level("INFO")
    monkeypatch.setattr(type(epath.Path(shard)), "write_bytes", full)
    assert lists(read_offsets(shard))[0] == STARTS
    assert "the index stays in memory" in caplog.text
    assert [p.name for p in shard.parent.iterdir()] == ["a.tfrecord"]


def test_faults_are_raised_or_skipped_and_never_stored(shard, built):
    content = bytearray(shard.read_bytes())
    content[STARTS[2] + 13] ^= 1
    shard.write_bytes(content)
    with pytest.raises(RecordError, match="record 2 at byte 37: its payload"):
        read_offsets(shard)
    for _ in range(2):
        skips = Skips()
        index = read_offsets(shard, skips=skips)
        assert lists(index) == [[0, 21, 62], [21, 37, 378], [0, 1, 3]]
        assert [error.record for error in skips.errors] == [2]
    with pytest.raises(RecordError, match="record 2 at byte 37"):
        read_offsets(shard)


def test_gzip_is_refused_and_empty_is_a_fault(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(frame(b"x")))
    with pytest.raises(RecordError, match="record 0 at byte 0: a gzip file has no random access"):
        read_offsets(path)
    path.write_bytes(b"")
    with pytest.raises(RecordError, match="holds no record"):
        read_offsets(path)
    assert len(read_offsets(path, skips=Skips()).starts) == 0
