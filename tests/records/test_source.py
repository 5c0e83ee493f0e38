import grain
import pytest

from tests.bucket import Bucket
from vidembed.records.faults import RecordError, Skips
from vidembed.records.framing import read_records, write_records
from vidembed.records.offsets import read_offsets
from vidembed.records.shards import shards
from vidembed.records.source import RecordSource
from vidembed.records.youtube8m import read_videos


def payloads_of(shard: int, count: int) -> list[bytes]:
    return [b"%d-%d" % (shard, i) * (i % 5) for i in range(count)]


@pytest.fixture
def folder(tmp_path):
    for shard, count in enumerate([10, 1, 25]):
        write_records(tmp_path / f"s{shard}.tfrecord", payloads_of(shard, count))
    return tmp_path


ALL = payloads_of(0, 10) + payloads_of(1, 1) + payloads_of(2, 25)


def test_records_are_found_by_number(folder):
    source = RecordSource(folder)
    assert len(source) == 36
    assert [source[i] for i in range(36)] == ALL
    assert [source[i] for i in (35, 10, 11, 0)] == [ALL[i] for i in (35, 10, 11, 0)]
    assert source[-1] == ALL[-1]
    for outside in (36, -37):
        with pytest.raises(IndexError, match=f"{outside} of 36"):
            source[outside]
    assert repr(source) == f"RecordSource('{folder}', records=36)"


def test_grain_shuffles_and_resumes_exactly_without_a_buffer(folder):
    def dataset():
        return grain.MapDataset.source(RecordSource(folder)).seed(3).shuffle()

    order = [dataset()[i] for i in range(36)]
    assert sorted(order) == sorted(ALL)
    assert order != ALL
    iterator = iter(dataset().to_iter_dataset())
    assert [next(iterator) for _ in range(20)] == order[:20]
    resumed = iter(dataset().to_iter_dataset())
    resumed.set_state(iterator.get_state())
    assert list(resumed) == order[20:]


def test_the_real_records(tmp_path):
    for path in shards("data/youtube8m"):
        (tmp_path / path.name).symlink_to(path.resolve())
    source = RecordSource(tmp_path)
    expected = [p for path in shards("data/youtube8m") for p in read_records(path)]
    assert len(source) == len(expected) == 2950
    for i in range(0, 2950, 59):
        assert source[i] == expected[i]


def test_records_changed_since_opening_are_never_returned(folder):
    source = RecordSource(folder)
    path = folder / "s2.tfrecord"
    whole = path.read_bytes()
    begin = 16 * 3 + len(b"".join(payloads_of(2, 3)))
    length = 16 + len(ALL[14])
    for at in range(begin, begin + length):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 8]) + whole[at + 1 :])
        with pytest.raises(RecordError) as caught:
            source[14]
        assert str(caught.value).startswith(f"{path}: record 3 at byte {begin}: it does not agree")
        assert source[13] == ALL[13]
    for cut in (begin, begin + 5, begin + 13):
        path.write_bytes(whole[:cut])
        with pytest.raises(RecordError, match="record 3 at byte"):
            source[14]


def test_skipped_records_are_left_out_and_numbers_are_those_of_the_file(folder):
    path = folder / "s0.tfrecord"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1  # the crc of record 9
    content[16 + 12] ^= 1  # record 1
    path.write_bytes(content)
    with pytest.raises(RecordError, match="record 1 at byte 16"):
        RecordSource(folder)
    skips = Skips()
    source = RecordSource(folder, skips=skips)
    readable = [ALL[0], *ALL[2:9], *ALL[10:]]
    assert [source[i] for i in range(len(source))] == readable
    assert [error.record for error in skips.errors] == [1, 9]
    content[16 * 2 + len(ALL[1]) + 13] ^= 1
    path.write_bytes(content)
    with pytest.raises(RecordError, match=f"record 2 at byte {32 + len(ALL[1])}: "):
        source[1]


def test_one_limit_of_skips_holds_for_all_shards(folder):
    for path in folder.glob("*.tfrecord"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RecordError, match="2 faults were skipped before this one"):
        RecordSource(folder, skips=Skips(limit=2))
    with pytest.raises(ValueError, match="hold no readable record"):
        RecordSource(folder / "s1.tfrecord", skips=Skips())


def test_a_bucket_is_read_by_one_request_per_record(bucket):
    bucket.mkdir(parents=True, exist_ok=True)
    for shard, count in enumerate([10, 1, 25]):
        write_records(bucket / f"s{shard}.tfrecord", payloads_of(shard, count))
    pattern = f"{bucket}/s*.tfrecord"
    assert [str(path) for path in shards(pattern)] == [f"{bucket}/s{i}.tfrecord" for i in range(3)]
    assert [p for path in shards(bucket) for p in read_records(path)] == ALL

    source = RecordSource(pattern)
    Bucket.requests.clear()
    assert list(source) == ALL
    assert len(Bucket.requests) == len(source) == 36
    index = read_offsets(bucket / "s2.tfrecord")
    Bucket.requests.clear()
    assert source[19] == payloads_of(2, 25)[8]
    path = Bucket._strip_protocol(f"{bucket}/s2.tfrecord")
    assert Bucket.requests == [(path, index.starts[8], index.stops[8])]
    # The index is stored in the bucket, so that other jobs need not read the shards again.
    assert (bucket / "s2.tfrecord.offsets").exists()
    with pytest.raises(FileNotFoundError, match="no 'x\\*', but"):
        shards(f"{bucket}/x*")


def test_a_bucket_of_real_videos(bucket):
    bucket.mkdir(parents=True, exist_ok=True)
    [path, *_] = shards("data/youtube8m")
    write_records(bucket / "a.tfrecord", read_records(path), compress=True)
    [there] = read_videos(bucket / "a.tfrecord")
    [here] = read_videos(path)
    assert (there.ids == here.ids).all()
    assert (there.features["visual"] == here.features["visual"]).all()
