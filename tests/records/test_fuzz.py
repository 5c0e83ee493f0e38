"""Thousands of damaged records, against protobuf's own parser and a naive reader of the framing.

The only exception is RecordError, with file, record and offset; there is no hang, and no data that
protobuf would not read. Examples are derandomised: a failing example is printed and repeats.
"""

import contextlib
import gzip
import signal
import struct
import zlib

import numpy as np
import pytest
from etils import epath
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2 as pb

from tests.fuzzing import many
from vidembed.records.crcs import crc32c, is_gzip, mask
from vidembed.records.example import MessageError, encode_bytes, encode_feature
from vidembed.records.faults import Faults, RecordError, Skips
from vidembed.records.formats import YOUTUBE_8M, FrameLevel, Modality, VideoLevel
from vidembed.records.frames import parse_frames, read_frames
from vidembed.records.framing import (
    frame,
    read_blocks,
    read_records,
    write_records,
)
from vidembed.records.youtube8m import parse_video, read_videos

A, B = Modality(name="a", key="ka", width=3), Modality(name="b", key="kb", width=40)
SMALL, MASKED = VideoLevel(modalities=(A, B)), VideoLevel(modalities=(A, B), missing="mask")
FRAMES = FrameLevel(
    modalities=(Modality(name="a", key="ka", width=3), Modality(name="b", key="kb", width=2)),
    max_frames=3,
)
HANG_SECONDS = 60  # an example takes milliseconds


@contextlib.contextmanager
def no_hang():
    """Turn an endless loop into a failure, whose example is printed."""

    def fail(*_):
        raise AssertionError(f"still running after {HANG_SECONDS} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# ---- damage

TAGS = [b"\0", b"\x01", b"\x7f", b"\x80", b"\xff", b"\x0a", b"\x12", b"\x1a", b"\x0d", b"\x08\x05"]
ODD = [b"\x80\0", b"\xff" * 9 + b"\x01", b"\xff" * 10, b"\x13\x14", b"\x0a\0", b"\x12\0", b"\x02\0"]
BYTES = st.sampled_from([*TAGS, *ODD]) | st.binary(max_size=3)
PLACE = st.one_of(st.integers(0, 80), st.integers(-12, -1), st.integers(0, 1 << 14))
BLOW = st.tuples(
    st.sampled_from(["flip", "set", "cut", "insert", "splice", "double", "end"]),
    PLACE,
    PLACE,
    st.integers(0, 7),
    BYTES,
)
BLOWS = st.sampled_from([0, 0, 0, 1, 1, 2, 3]).flatmap(
    lambda n: st.lists(BLOW, min_size=n, max_size=n)
)


def struck(data: bytes, blows) -> bytes:
    """The data with bits flipped and bytes set, removed, inserted, copied, repeated or cut off."""
    hurt = bytearray(data)
    for kind, place, second, size, new in blows:
        at, source = place % (len(hurt) + 1), second % (len(hurt) + 1)
        if kind == "flip" and at < len(hurt):
            hurt[at] ^= 1 << size
        elif kind == "set":
            hurt[at : at + len(new)] = new
        elif kind == "cut":
            del hurt[at : at + size + 1]
        elif kind == "insert":
            hurt[at:at] = new
        elif kind == "splice":
            hurt[at : at + size] = hurt[source : source + size]
        elif kind == "double":
            hurt[at:at] = hurt[at : at + 8 * size]
        elif kind == "end":
            del hurt[at:]
    return bytes(hurt)


def real_entries():
    """Two real records, as the (key, feature) entries of their maps."""
    entries = []
    for payload in read_records("data/youtube8m/validate0000.tfrecord"):
        features = pb.Example.FromString(payload).features.feature
        entries.append(
            [(key.encode(), value.SerializeToString()) for key, value in features.items()]
        )
        if len(entries) == 2:
            return entries


REAL = real_entries()
MADE = [
    [
        (b"id", encode_feature(b"abc")),
        (b"labels", encode_feature([7, 300, 2**31 - 1])),
        (b"ka", encode_feature(np.float32([1, 2, 3]))),
        (b"kb", encode_feature(np.linspace(-2, 2, 40, dtype=np.float32))),
    ],
    [
        (b"video_id", encode_feature(b"x" * 11)),
        (b"kb", encode_feature(np.ones(40, np.float32))),
        (b"labels", encode_feature(np.empty(0, np.int64))),
        (b"other", encode_feature([b"nobody", b"asked"])),
    ],
]
# The usual order, other orders, a repeated key, a missing key.
ORDER = st.sampled_from(
    [[0, 1, 2, 3]] * 4 + [[3, 2, 1, 0], [1, 0, 3, 2], [0, 1, 2, 3, 2], [0, 0, 1, 2, 3], [0, 1, 3]]
)
# Replacements for a feature, or bytes after it: other kinds, lists with a remainder, bad labels,
# ids that a fixed width cannot represent, numbers that are too long, field 0.
FEATURES = st.sampled_from(
    [encode_feature(value) for value in (b"a\0b", b"", b"q", [2**31], [-1], [1.5, 2.5], [5, 6])]
    + [encode_feature([b"one", b"two"]), encode_bytes(2, encode_bytes(1, b"\0" * 14)), b"\x02\0"]
    + [encode_bytes(3, encode_bytes(1, b"\x81" * 9 + end)) for end in (b"\x01", b"\x02", b"\x7f")]
)


@st.composite
def maps(draw, seeds):
    """A map's entries, some replaced, repeated or damaged, each with correct lengths."""
    entries = draw(st.sampled_from(seeds))
    order = draw(ORDER)
    hurt, rebuilt = draw(st.integers(-3, len(order) - 1)), b""
    for place, i in enumerate(order):
        key, feature = entries[i % len(entries)]
        if place == hurt:
            how = draw(st.sampled_from(["key", "feature", "exchanged", "added", "twice"]))
            key = struck(key, draw(BLOWS)[:1]) if how == "key" else key
            feature = {
                "key": lambda f: f,
                "feature": lambda f: struck(f, draw(BLOWS)),
                "exchanged": lambda _: draw(FEATURES),
                "added": lambda f: f + draw(FEATURES),
                "twice": lambda f: f + f,
            }[how](feature)
        rebuilt += encode_bytes(1, encode_bytes(1, key) + encode_bytes(2, feature))
    return rebuilt


@st.composite
def examples(draw, seeds):
    """Messages damaged within an entry, and others damaged as a whole."""
    whole = encode_bytes(1, draw(maps(seeds))) + draw(
        st.sampled_from([b"", b"\x12\0", b"\x12\0\0"])
    )
    return struck(whole, draw(BLOWS)) if draw(st.integers(0, 3)) == 3 else whole


# ---- what protobuf reads


def id_and_labels(features, format):
    """(id, labels), or None if vidembed refuses them."""
    key = next((key for key in format.id_keys if key in features), None)
    if key is None or "labels" not in features:
        return None
    numbers = [str(number).encode() for number in features[key].int64_list.value]
    [video_id, *more] = [*features[key].bytes_list.value, *numbers] or [b""]
    if more:
        return None
    kind, labels = features["labels"].WhichOneof("kind"), list(features["labels"].int64_list.value)
    sound = video_id and b"\0" not in video_id and kind in (None, "int64_list")
    return (video_id, labels) if sound and all(0 <= n < 2**31 for n in labels) else None


def video_by_protobuf(payload, format):
    try:
        features = pb.Example.FromString(payload).features.feature
    except DecodeError:
        return None
    head, vectors = id_and_labels(features, format), {}
    for m in format.modalities:
        kind = features[m.key].WhichOneof("kind") if m.key in features else None
        values = getattr(features[m.key], kind).value if kind else []
        if len(values) not in (0, m.width) or (len(values) and kind != "float_list"):
            return None
        vectors[m.name] = np.array(values, "<f4").tobytes()
    complete = format.missing == "mask" or all(vectors.values())
    return (*head, vectors) if head and complete else None


def frames_by_protobuf(payload, format):
    try:
        message = pb.SequenceExample.FromString(payload)
    except DecodeError:
        return None
    head, lists = id_and_labels(message.context.feature, format), {}
    for m in format.modalities:
        features = message.feature_lists.feature_list[m.key].feature
        steps = [list(feature.bytes_list.value) for feature in features]
        if not steps or any(len(step) != 1 or len(step[0]) != m.width for step in steps):
            return None
        lists[m.name] = [step[0] for step in steps][: format.max_frames]
    as_many = len({len(frames) for frames in lists.values()}) == 1
    return (*head, lists) if head and as_many else None


def agreed(payload, parse, by_protobuf):
    """The common result, or the fault; fails if vidembed reads something else than protobuf."""
    truth, fault = by_protobuf(payload), None
    try:
        ours = parse(payload)
    except MessageError as error:
        ours, fault = None, str(error)
    # We are stricter than protobuf only for ambiguous messages.
    assert ours == truth or (fault or "").startswith("malformed message: "), fault
    return ours, fault


def parsed_video(payload, format):
    video = parse_video(payload, format)
    vectors = {n: b"" if v is None else v.tobytes() for n, v in video.features.items()}
    return video.id, video.labels.tolist(), vectors


def agreed_video(payload, format):
    return agreed(
        payload, lambda p: parsed_video(p, format), lambda p: video_by_protobuf(p, format)
    )


def videos_of(chunks):
    for ids, offsets, values, features, present in chunks:
        for i in range(len(ids)):
            vectors = {n: v[i].tobytes() if present[n][i] else b"" for n, v in features.items()}
            yield ids[i], values[offsets[i] : offsets[i + 1]].tolist(), vectors


def check_videos(path, payloads, format):
    """Compare both paths, the fast one over the whole file, with protobuf's parser."""
    with no_hang():
        outcomes = [agreed_video(payload, format) for payload in payloads]
        check_file(
            path, payloads, outcomes, lambda **how: videos_of(read_videos(path, format, **how))
        )


def check_file(path, payloads, outcomes, read):
    write_records(path, payloads)
    skips = Skips()
    assert list(read(skips=skips)) == [good for good, fault in outcomes if good]
    starts = np.cumsum([0, *(16 + len(payload) for payload in payloads)]).tolist()
    faults = [(path, n, starts[n], fault) for n, (_, fault) in enumerate(outcomes) if fault]
    assert [(e.path, e.record, e.offset, e.fault) for e in skips.errors] == faults
    if faults:
        with pytest.raises(RecordError) as caught:
            list(read())
        _, record, offset, fault = faults[0]
        assert str(caught.value).startswith(f"{path}: record {record} at byte {offset}: {fault}")


def several(messages):
    return st.lists(messages, min_size=4, max_size=10)


def test_seeds_are_sound():
    """Otherwise the fuzzer would test only refusals."""
    for entries, format in [*((e, YOUTUBE_8M) for e in REAL), *((e, MASKED) for e in MADE)]:
        pairs = (encode_bytes(1, encode_bytes(1, k) + encode_bytes(2, f)) for k, f in entries)
        payload = encode_bytes(1, b"".join(pairs))
        good, fault = agreed_video(payload, format)
        assert good, fault


@pytest.mark.fault(
    "Records: messages damaged in any way, with right checksums",
    "1: file, record, offset; accepted data equal what protobuf reads, on the fast path too",
)
@many(150)
@given(several(examples(MADE)), st.sampled_from([SMALL, MASKED]))
def test_examples(tmp_path_factory, payloads, format):
    check_videos(str(tmp_path_factory.getbasetemp() / "made"), payloads, format)


@pytest.mark.fault("Records: messages damaged in any way, with right checksums")
@many(40)
@given(several(examples(REAL)))
def test_real_records(tmp_path_factory, payloads):
    check_videos(str(tmp_path_factory.getbasetemp() / "real"), payloads, YOUTUBE_8M)


@pytest.mark.fault("Records: messages damaged in any way, with right checksums")
@pytest.mark.long
@many(2500)
@given(several(examples(MADE)), st.sampled_from([SMALL, MASKED]))
def test_many_examples(tmp_path_factory, payloads, format):
    check_videos(str(tmp_path_factory.getbasetemp() / "made"), payloads, format)


@pytest.mark.long
@many(800)
@given(several(examples(REAL)))
def test_many_real_records(tmp_path_factory, payloads):
    check_videos(str(tmp_path_factory.getbasetemp() / "real"), payloads, YOUTUBE_8M)


# ---- frame level

STEPS = {
    b"ka": [encode_feature(bytes([i, 1, 2])) for i in range(4)],
    b"kb": [encode_feature(bytes([i, 9])) for i in range(4)],
}


@st.composite
def sequences(draw):
    lists = b""
    for key, steps in STEPS.items():
        count = draw(st.sampled_from([4, 4, 4, 3, 2, 0]))
        hurt = draw(st.integers(0, 12))
        steps = [
            struck(step, draw(BLOWS)) if i == hurt else step for i, step in enumerate(steps[:count])
        ]
        joined = b"".join(encode_bytes(1, step) for step in steps)
        lists += encode_bytes(1, encode_bytes(1, key) + encode_bytes(2, joined))
    whole = encode_bytes(1, draw(maps([MADE[0][:2]]))) + encode_bytes(2, lists)
    return struck(whole, draw(BLOWS)) if draw(st.integers(0, 3)) == 3 else whole


def parsed_frames(payload):
    video = parse_frames(payload, FRAMES)
    return as_tuple(video)


def as_tuple(video):
    lists = {name: [row.tobytes() for row in rows] for name, rows in video.frames.items()}
    return video.id, video.labels.tolist(), lists


def check_frames(path, payloads):
    with no_hang():
        outcomes = [
            agreed(payload, parsed_frames, lambda p: frames_by_protobuf(p, FRAMES))
            for payload in payloads
        ]
        check_file(
            path, payloads, outcomes, lambda **how: map(as_tuple, read_frames(path, FRAMES, **how))
        )


@pytest.mark.fault("Records: messages damaged in any way, with right checksums")
@many(100)
@given(several(sequences()))
def test_sequence_examples(tmp_path_factory, payloads):
    check_frames(str(tmp_path_factory.getbasetemp() / "frames"), payloads)


@pytest.mark.long
@many(1000)
@given(several(sequences()))
def test_many_sequence_examples(tmp_path_factory, payloads):
    check_frames(str(tmp_path_factory.getbasetemp() / "frames"), payloads)


# ---- framing


def framed(payload: bytes, length: int) -> bytes:
    """A record with a wrong length, whose crc is that of the wrong length."""
    head = struct.pack("<Q", length % 2**64)
    return head + crc(head) + frame(payload)[12:]


def crc(data: bytes) -> bytes:
    return struct.pack("<I", mask(crc32c(data)))


@st.composite
def files(draw):
    data = b""
    for payload in draw(st.lists(st.binary(max_size=40), max_size=6)):
        lie = draw(st.sampled_from([0] * 8 + [1, -1, 4, -4, 16, 2**31, 2**63, 2**64 - 20]))
        data += framed(payload, len(payload) + lie) if lie else frame(payload)
    return struck(data, draw(BLOWS))


def naive(data: bytes):
    """Payloads, and (record, offset) of each fault, straight from the format's description."""
    payloads, faults, at, number = [], [], 0, 0
    while at < len(data) or not data:
        head = data[at : at + 12]
        length = int.from_bytes(head[:8], "little")
        sound = len(head) == 12 and head[8:] == crc(head[:8])
        if not sound or at + 16 + length > len(data):
            return payloads, [*faults, (number, at)]
        payload = data[at + 12 : at + 12 + length]
        if data[at + 12 + length : at + 16 + length] == crc(payload):
            payloads.append(payload)
        else:
            faults.append((number, at))
        at, number = at + 16 + length, number + 1
    return payloads, faults


def blocks_of(path, faults, records, block_bytes):
    got = []
    for block in read_blocks(epath.Path(path), faults, records=records, block_bytes=block_bytes):
        got += [block.data[a:b].tobytes() for a, b in zip(block.starts, block.stops)]
    return got


def check_framing(path, data, records, block_bytes):
    with open(path, "wb") as file:
        file.write(data)
    payloads, faults = naive(data)
    with no_hang():
        skips = Skips()
        got = blocks_of(path, Faults(path, skips), records, block_bytes)
        if is_gzip(data[:12]):
            assert not got
            assert len(skips.errors) == 1
            return
        assert got == payloads
        assert [(error.record, error.offset) for error in skips.errors] == faults
        if faults:
            with pytest.raises(RecordError) as caught:
                blocks_of(path, Faults(path), records, block_bytes)
            record, offset = faults[0]
            assert str(caught.value).startswith(f"{path}: record {record} at byte {offset}: ")


SIZES = {"records": st.sampled_from([1, 3, 2048]), "block_bytes": st.sampled_from([1, 50, 1 << 20])}


@pytest.mark.fault("Records: bits flipped in payload or length")
@many(150)
@given(data=files(), **SIZES)
@example(data=b"", records=1, block_bytes=1)
def test_files(tmp_path_factory, data, records, block_bytes):
    check_framing(str(tmp_path_factory.getbasetemp() / "file"), data, records, block_bytes)


@pytest.mark.long
@many(5000)
@given(data=files(), **SIZES)
def test_many_files(tmp_path_factory, data, records, block_bytes):
    check_framing(str(tmp_path_factory.getbasetemp() / "file"), data, records, block_bytes)


def check_gzip(path, payloads, blows):
    """The readable part of a damaged gzip file holds its first records, complete."""
    data = struck(gzip.compress(b"".join(map(frame, payloads)), mtime=0), blows)
    with open(path, "wb") as file:
        file.write(data)
    if not is_gzip(data[:12]):
        return
    with no_hang():
        skips = Skips()
        got = list(read_records(path, skips=skips))
    unpacked = b""
    with contextlib.suppress(zlib.error, EOFError, gzip.BadGzipFile):
        unpacked = gzip.decompress(data)
        assert (got, [(e.record, e.offset) for e in skips.errors]) == naive(unpacked)
    assert unpacked or skips.errors
    # Each record has a 32-bit crc, so every record read was in the file.
    assert {*got} <= {*payloads}


GZIPPED = {"payloads": st.lists(st.binary(max_size=200), max_size=6), "blows": BLOWS}


@pytest.mark.fault("Records: gzip read as plain, broken gzip, absurd length")
@many(40)
@given(**GZIPPED)
def test_gzip(tmp_path_factory, payloads, blows):
    check_gzip(str(tmp_path_factory.getbasetemp() / "gzip"), payloads, blows)


@pytest.mark.long
@many(3000)
@given(**GZIPPED)
def test_many_gzip(tmp_path_factory, payloads, blows):
    check_gzip(str(tmp_path_factory.getbasetemp() / "gzip"), payloads, blows)
