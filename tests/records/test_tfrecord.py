import errno
import gzip
import io
import pickle
import struct
import tracemalloc

import grain
import numpy as np
import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from vidembed.records.crcs import mask
from vidembed.records.faults import Faults, RecordError, Skips
from vidembed.records.framing import frame, read_blocks, read_records, write_records
from vidembed.records.shards import shards

GO_ON = "--on-error skip (in Python skips=Skips()) continues without the lost records"
DATA = "data/youtube8m"
PAYLOADS = [b"first", b"", b"the third of them", bytes(range(200))]


def slow_crc32c(data: bytes) -> int:
    """crc32c bit by bit, as in RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def slow_mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def slow_frame(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    parts = [part + struct.pack("<I", slow_mask(slow_crc32c(part))) for part in (length, payload)]
    return b"".join(parts)


def starts(payloads) -> list[int]:
    return np.cumsum([0, *(16 + len(payload) for payload in payloads)]).tolist()


def write(path, data: bytes):
    path.write_bytes(data)
    return path


def test_frames_follow_the_format(tmp_path):
    assert slow_crc32c(b"123456789") == 0xE3069283
    for payload in PAYLOADS:
        assert frame(payload) == slow_frame(payload)
    crcs = np.array([0, 1, 0xE3069283, 0xFFFFFFFF], np.uint32)
    assert mask(crcs).tolist() == [slow_mask(int(crc)) for crc in crcs]
    assert write_records(tmp_path / "a", PAYLOADS) == 4
    assert (tmp_path / "a").read_bytes() == b"".join(map(slow_frame, PAYLOADS))


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_written_is_read(tmp_path, compress):
    path = tmp_path / "a.tfrecord"
    write_records(path, PAYLOADS * 50, compress=compress)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == compress
    assert list(read_records(path)) == PAYLOADS * 50
    assert list(read_records(str(path))) == PAYLOADS * 50


def test_grain_reads_what_is_written(tmp_path):
    write_records(tmp_path / "a", PAYLOADS)
    assert list(grain.experimental.TFRecordIterDataset(str(tmp_path / "a"))) == PAYLOADS


def test_the_real_shards_are_read_as_a_naive_reader_does():
    count = 0
    for path in shards(DATA):
        data, position, naive = path.read_bytes(), 0, []
        while position < len(data):
            (length,) = struct.unpack_from("<Q", data, position)
            naive.append(data[position + 12 : position + 12 + length])
            position += 16 + length
        assert list(read_records(path)) == naive
        count += len(naive)
    assert count == 2950


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(("records", "block_bytes"), [(1, 1 << 20), (3, 64), (2048, 1), (7, 300)])
def test_blocks_of_any_size_hold_the_same_records(tmp_path, compress, records, block_bytes):
    payloads = [bytes([i]) * (i * 37 % 400) for i in range(40)]
    path = epath.Path(tmp_path / "a")
    write_records(path, payloads, compress=compress)
    faults, got, numbers, offsets = Faults(path), [], [], []
    for block in read_blocks(path, faults, records=records, block_bytes=block_bytes):
        assert 0 < len(block.starts) <= records
        got += [block.data[a:b].tobytes() for a, b in zip(block.starts, block.stops)]
        numbers += block.numbers.tolist()
        offsets += block.offsets.tolist()
    assert got == payloads
    assert numbers == list(range(40))
    assert offsets == starts(payloads)[:-1]


@pytest.mark.fault("Records: TFRecord cut, within a record")
def test_a_cut_at_any_byte_is_found_and_placed(tmp_path):
    data, begins = b"".join(map(frame, PAYLOADS)), starts(PAYLOADS)
    for cut in range(len(data)):
        path = write(tmp_path / "a", data[:cut])
        if cut in begins[1:]:
            # The file itself does not show it; expected record counts do.
            assert list(read_records(path)) == PAYLOADS[: begins.index(cut)]
            continue
        whole = sum(begin <= cut for begin in begins) - 1
        with pytest.raises(RecordError) as caught:
            list(read_records(path))
        assert str(caught.value).startswith(f"{path}: record {whole} at byte {begins[whole]}: ")
        skips = Skips()
        assert list(read_records(path, skips=skips)) == PAYLOADS[:whole]
        assert [(e.record, e.offset) for e in skips.errors] == [(whole, begins[whole])]


@pytest.mark.fault(
    "Records: bits flipped in payload or length",
    "1: as above; no wrong record is returned",
)
def test_a_flip_of_any_bit_is_found_and_placed(tmp_path):
    payloads = PAYLOADS[:3]
    data, begins = b"".join(map(frame, payloads)), starts(payloads)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path = write(tmp_path / "a", bytes(flipped))
        record = sum(begin <= bit // 8 for begin in begins) - 1
        with pytest.raises(RecordError) as caught:
            list(read_records(path))
        assert (caught.value.record, caught.value.offset) == (record, begins[record])
        in_header = bit // 8 - begins[record] < 12
        intact = payloads[:record] + ([] if in_header else payloads[record + 1 :])
        skips = Skips()
        assert list(read_records(path, skips=skips)) == intact
        assert [e.record for e in skips.errors] == [record]


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(st.data())
def test_a_damaged_file_never_yields_a_wrong_record(tmp_path_factory, data):
    payloads = data.draw(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
    content = bytearray(b"".join(map(frame, payloads)))
    if data.draw(st.booleans()):
        content = bytearray(gzip.compress(bytes(content), mtime=0))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        removed = data.draw(st.integers(0, 6))
        content[at : at + removed] = data.draw(st.binary(max_size=6))
    path = write(tmp_path_factory.mktemp("fuzz") / "a", bytes(content))
    skips = Skips()
    skipped = list(read_records(path, skips=skips))
    left = iter(payloads)
    assert all(record in left for record in skipped)  # a subsequence of what was written
    if skips.errors:
        first = skips.errors[0]
        with pytest.raises(RecordError, match=rf"^{path}: record \d+ at byte \d+: ") as caught:
            list(read_records(path))
        assert str(caught.value) == f"{first}; {GO_ON}"
    else:
        assert list(read_records(path)) == skipped == payloads[: len(skipped)]


@pytest.mark.fault("Records: gzip read as plain, broken gzip, absurd length")
@pytest.mark.parametrize("length", [2**40, 2**63, 2**64 - 1, 300])
@pytest.mark.parametrize("compress", [False, True])
def test_an_absurd_length_with_a_right_crc_takes_no_memory(tmp_path, length, compress):
    packed = struct.pack("<Q", length)
    data = frame(b"good") + packed + struct.pack("<I", slow_mask(slow_crc32c(packed))) + b"x" * 90
    path = write(tmp_path / "a", gzip.compress(data) if compress else data)
    tracemalloc.start()
    with pytest.raises(RecordError, match=f"record 1 at byte 20: .*{length + 16}") as caught:
        list(read_records(path))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert "truncated" in str(caught.value) or compress
    assert list(read_records(path, skips=Skips())) == [b"good"]


def test_a_record_that_begins_like_gzip_is_read_as_a_record(tmp_path):
    payload = bytes(0x088B1F)
    write_records(tmp_path / "a", [payload, b"b"])
    assert (tmp_path / "a").read_bytes().startswith(b"\x1f\x8b\x08")
    assert list(read_records(tmp_path / "a")) == [payload, b"b"]


@pytest.mark.fault(
    "Records: gzip read as plain, broken gzip, absurd length",
    "read, or 1; memory stays bounded by the file",
)
def test_gzip_faults_lose_only_what_comes_after(tmp_path):
    rng = np.random.default_rng(0)
    payloads = [rng.bytes(3000) for _ in range(20)]
    whole = gzip.compress(b"".join(map(frame, payloads)))
    for content in (whole[:40_000], whole[:-4], whole[:30_000] + b"\xff" * 500 + whole[30_500:]):
        path = write(tmp_path / "a", content)
        with pytest.raises(RecordError, match=r"gzip stream is broken|does not agree"):
            list(read_records(path))
        skips = Skips()
        left = list(read_records(path, skips=skips))
        assert len(left) >= 9
        assert [payload for payload in payloads if payload in left] == left
        assert skips.errors
    path = write(tmp_path / "a", whole + gzip.compress(frame(b"second member")))
    assert list(read_records(path)) == [*payloads, b"second member"]


@pytest.mark.parametrize("compress", [False, True])
def test_a_storage_failure_is_not_a_fault_of_the_records(tmp_path, monkeypatch, compress):
    path = tmp_path / "a"
    write_records(path, [b"x" * 300] * 90, compress=compress)

    class Failing(io.BytesIO):
        def read(self, count=-1):
            if self.tell() > 12:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(count)

        def readinto(self, memory):
            raise OSError(errno.EIO, "Input/output error")

    content = path.read_bytes()
    monkeypatch.setattr(type(epath.Path(path)), "open", lambda *_: Failing(content))
    with pytest.raises(OSError, match="Input/output error"):
        list(read_records(path, skips=Skips()))


@pytest.mark.parametrize("content", [b"", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_a_fault(tmp_path, content):
    path = write(tmp_path / "a", content)
    with pytest.raises(RecordError, match="record 0 at byte 0: the file holds no record"):
        list(read_records(path))
    assert list(read_records(path, skips=Skips())) == []


def test_faults_of_the_framing_say_what_to_do(tmp_path):
    data = bytearray(frame(b"aaaa") + frame(b"bbbb"))
    for flipped, cut in [(13, 40), (0, 40), (None, 39), (None, 0)]:
        content = bytearray(data)
        if flipped is not None:
            content[flipped] ^= 1
        path = write(tmp_path / "a", bytes(content[:cut]))
        with pytest.raises(RecordError) as caught:
            list(read_records(path))
        assert str(caught.value).endswith(f"; fetch the shard again; {GO_ON}")
        skips = Skips()
        list(read_records(path, skips=skips))
        assert str(skips.errors[0]).endswith("; fetch the shard again")


def test_skips_are_counted_over_files_and_capped(tmp_path, caplog):
    damaged = [bytearray(frame(payload)) for payload in [b"aaaa"] * 5]
    for record in (1, 2, 4):
        damaged[record][13] ^= 1
    path = write(tmp_path / "a", b"".join(damaged))
    skips = Skips(limit=6)
    for _ in range(2):
        assert len(list(read_records(path, skips=skips))) == 2
    assert len(skips.errors) == 6
    assert f"skipped: {path}: record 1 at byte 20: its payload" in caplog.text
    with pytest.raises(RecordError, match=r"record 1 at byte 20: .* 6 faults were skipped before"):
        list(read_records(path, skips=skips))
    many = write(tmp_path / "b", b"".join(map(bytes, damaged[1:3])) * 51)
    with pytest.raises(RecordError, match="100 faults were skipped"):
        list(read_records(many, skips=Skips()))


def test_an_error_survives_pickling_between_processes():
    error = pickle.loads(pickle.dumps(RecordError("some/file", 3, 77, "it is bad")))
    assert (error.path, error.record, error.offset, error.fault) == (
        "some/file",
        3,
        77,
        "it is bad",
    )
    assert str(error) == "some/file: record 3 at byte 77: it is bad"


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    def broken():
        yield b"new"
        raise RuntimeError("no more")

    write_records(tmp_path / "a", [b"old"])
    with pytest.raises(RuntimeError, match="no more"):
        write_records(tmp_path / "a", broken())
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert list(read_records(tmp_path / "a")) == [b"old"]


def test_shards_are_found_by_glob_folder_and_file(tmp_path):
    names = ["b.tfrecord", "a.tfrecord", "c.tfrecord.gz"]
    for name in [
        *names,
        "a.tfrecord.offsets",
        "d.tfrecord.1f.part",
        ".e.tfrecord.12.1f",
        "labels.csv",
    ]:
        write(tmp_path / name, b"")
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep" / "e.tfrecord", b"")
    (tmp_path / "f.tfrecord").mkdir()

    def found(pattern):
        return [str(path.relative_to(tmp_path)) for path in shards(pattern)]

    assert found(tmp_path) == found(str(tmp_path)) == sorted(names)
    assert found(tmp_path / "*.tfrecord") == ["a.tfrecord", "b.tfrecord"]
    assert found(tmp_path / "[ab]*") == ["a.tfrecord", "b.tfrecord"]
    assert found(tmp_path / "*" / "?.tfrecord") == ["deep/e.tfrecord"]
    assert found(tmp_path / "labels.csv") == ["labels.csv"]


def test_if_nothing_matches_the_error_shows_similar_names(tmp_path):
    for name in ("train01.tfrecord", "train02.tfrecord", "notes.txt"):
        write(tmp_path / name, b"")
    (tmp_path / "empty").mkdir()
    for pattern, near in [
        ("trian*.tfrecord", "no 'trian*.tfrecord', but train02.tfrecord, train01.tfrecord and 2"),
        ("train03.tfrecord", "no 'train03.tfrecord', but train02.tfrecord, train01.tfrecord and"),
        ("zzz", "no 'zzz', but empty, notes.txt, train01.tfrecord, train02.tfrecord."),
        ("emtpy/*", "no 'emtpy', but empty and 3 more"),
        ("empty", "no '*.tfrecord*', and nothing else"),
    ]:
        with pytest.raises(FileNotFoundError) as caught:
            shards(tmp_path / pattern)
        assert f"no feature file matches '{tmp_path / pattern}'" in str(caught.value)
        assert near in str(caught.value)
