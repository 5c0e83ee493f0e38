import random

import numpy as np
import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2 as pb

from tests.messages import encode_video
from vidembed.records.example import MessageError, encode_bytes, encode_example, encode_feature
from vidembed.records.faults import Faults, RecordError, Skips
from vidembed.records.formats import Modality, VideoLevel
from vidembed.records.framing import read_blocks, read_records, write_records
from vidembed.records.matching import match
from vidembed.records.shards import shards
from vidembed.records.youtube8m import (
    parse_video,
    read_videos,
)

DATA = "data/youtube8m"
A, B = Modality(name="a", key="ka", width=3), Modality(name="b", key="kb", width=40)
SMALL = VideoLevel(modalities=(A, B))
MASKED = VideoLevel(modalities=(A, B), missing="mask")
VECTORS = {"a": np.float32([1, 2, 3]), "b": np.linspace(-2, 2, 40, dtype=np.float32)}
FIELDS = {"id": b"abc", "labels": np.array([7, 300]), "ka": VECTORS["a"], "kb": VECTORS["b"]}


def rows(chunks):
    """One tuple per video, whatever the chunks."""
    for ids, offsets, values, features, present in chunks:
        for i in range(len(ids)):
            yield (
                ids[i],
                values[offsets[i] : offsets[i + 1]].tolist(),
                {name: features[name][i].tobytes() for name in features},
                {name: bool(present[name][i]) for name in present},
            )


def parsed(payload, format):
    """The same tuple by the general parser."""
    video = parse_video(payload, format)
    present = {name: vector is not None for name, vector in video.features.items()}
    vectors = {
        m.name: (video.features[m.name] if present[m.name] else np.zeros(m.width, "<f4")).tobytes()
        for m in format.modalities
    }
    return video.id, video.labels.tolist(), vectors, present


def by_protobuf(payload, format):
    """The same tuple by protobuf's own parser."""
    features = pb.Example.FromString(payload).features.feature
    [key] = [key for key in format.id_keys if key in features]
    [video_id] = features[key].bytes_list.value
    present = {
        m.name: m.key in features and len(features[m.key].float_list.value) > 0
        for m in format.modalities
    }
    vectors = {
        m.name: np.array(
            features[m.key].float_list.value if present[m.name] else [0] * m.width, "<f4"
        )
        for m in format.modalities
    }
    labels = list(features["labels"].int64_list.value)
    return video_id, labels, {name: v.tobytes() for name, v in vectors.items()}, present


def matched_rows(path, format):
    blocks = read_blocks(epath.Path(path), Faults(path))
    return [row for block in blocks for row in match(block, format).rows.tolist()]


def read_single(tmp_path, payload, format=SMALL):
    """Read a record, written after a valid one."""
    write_records(tmp_path / "a", [encode_example(FIELDS), payload])
    return list(rows(read_videos(tmp_path / "a", format)))[1]


def test_all_real_records_are_read_alike_by_three_parsers():
    count = 0
    for path in shards(DATA):
        payloads = list(read_records(path))
        fast = list(rows(read_videos(path)))
        assert fast == [parsed(payload, VideoLevel()) for payload in payloads]
        assert fast == [by_protobuf(payload, VideoLevel()) for payload in payloads]
        assert matched_rows(path, VideoLevel()) == list(range(len(payloads)))  # none is missing
        count += len(fast)
    assert count == 2950


def test_shapes_types_and_chunks():
    [path, *_] = shards(DATA)
    [videos] = read_videos(path)
    n = len(videos.ids)
    assert videos.ids.dtype == "S4"
    assert videos.label_offsets.dtype == np.int64
    assert videos.label_values.dtype == np.int32
    assert {k: (v.shape, v.dtype.str) for k, v in videos.features.items()} == {
        "visual": ((n, 1024), "<f4"),
        "audio": ((n, 128), "<f4"),
    }
    assert all(p.dtype == bool and p.all() for p in videos.present.values())
    chunks = list(read_videos(path, chunk_records=100))
    assert [len(chunk.ids) for chunk in chunks] == [100, 100, n - 200]
    assert list(rows(chunks)) == list(rows([videos]))


def test_a_chunk_outlives_the_next_one():
    [path, *_] = shards(DATA)
    chunks = list(read_videos(path, chunk_records=7))
    fresh = list(read_videos(path))
    assert list(rows(chunks)) == list(rows(fresh))


@pytest.mark.parametrize("compress", [False, True])
def test_any_modalities_names_and_widths(tmp_path, compress):
    rng = np.random.default_rng(0)
    modalities = tuple(
        Modality(name=f"m{i}", key="k" * (1 + 12 * i), width=width)
        for i, width in enumerate([1500, 1, 31, 32])
    )
    for format in (
        VideoLevel(modalities=modalities[:1]),
        VideoLevel(modalities=modalities, id_keys=("vid",), labels_key="classes"),
        VideoLevel(modalities=modalities, labels_key=None),
    ):
        videos = [
            (
                bytes(f"video{'x' * i}{i}", "ascii"),
                [] if format.labels_key is None else list(range(i)),
                {m.name: rng.random(m.width, np.float32) for m in format.modalities},
            )
            for i in range(90)
        ]
        payloads = [encode_video(*video, format) for video in videos]
        write_records(tmp_path / "a", payloads, compress=compress)
        got = list(rows(read_videos(tmp_path / "a", format)))
        assert got == [parsed(payload, format) for payload in payloads]
        assert [(g[0], g[1], g[2]) for g in got] == [
            (v[0], v[1], {k: x.tobytes() for k, x in v[2].items()}) for v in videos
        ]


@pytest.mark.fault(
    "Records: `video_id` for `id`, a key missing",
    "read; else keys expected and found",
)
def test_both_names_of_the_id_are_accepted_and_the_first_counts(tmp_path):
    renamed = {("video_id" if k == "id" else k): v for k, v in FIELDS.items()}
    assert read_single(tmp_path, encode_example(renamed))[0] == b"abc"
    assert matched_rows(tmp_path / "a", SMALL) == [0, 1]
    for both in ({"video_id": b"other", **FIELDS}, {**FIELDS, "video_id": b"other"}):
        assert read_single(tmp_path, encode_example(both))[0] == b"abc"


FAULTS = {
    "no id": ({"id": None}, "no id: expected the key id or video_id, found ka, kb, labels"),
    "two ids": ({"id": [b"a", b"b"]}, "id 'id': expected .*int64_list of 1, found bytes_list of 2"),
    "two numbers as id": ({"id": [5, 6]}, "id 'id': expected .* of 1, found int64_list of 2"),
    "id as a float": ({"id": [5.0]}, "id 'id': expected bytes_list or .* found float_list of 1"),
    "empty id": ({"id": b""}, "id b'': expected at least one byte"),
    "zero in the id": ({"id": b"a\0"}, r"id b'a\\x00': expected .* none of them zero"),
    "no labels": (
        {"labels": None},
        "no labels: expected the key labels, found id, ka, kb; .* None \\(--labels-key ''\\)",
    ),
    "labels as floats": ({"labels": [1.0]}, "labels 'labels': expected int64_list, found float"),
    "negative label": ({"labels": [-1]}, r"expected classes from 0 to 2\^31-1, found \[-1\]"),
    "large label": ({"labels": [2**31]}, r"from 0 to 2\^31-1, found \[2147483648\]"),
    "very large label": ({"labels": [2**56]}, r"from 0 to 2\^31-1, found \[72057594037927936\]"),
    "width": ({"ka": [1.0, 2.0]}, r"modality 'a' \(ka\): expected float_list of 3, found .* of 2"),
    "dtype": ({"ka": [1, 2, 3]}, r"modality 'a' \(ka\): expected .* of 3, found int64_list of 3"),
    "bytes": ({"ka": b"123"}, r"'a' \(ka\): expected float_list of 3, found bytes_list of 1"),
    "missing": (
        {"kb": None},
        "modality 'b' is missing: .* kb, found id, ka, labels; missing='mask' .--missing mask\\)",
    ),
    "no value": ({"kb": np.empty(0)}, "modality 'b' is missing: expected values for the key kb"),
}


@pytest.mark.fault("Records: `video_id` for `id`, a key missing")
@pytest.mark.parametrize("case", FAULTS)
def test_a_record_that_is_not_as_configured_is_named(tmp_path, case):
    changes, message = FAULTS[case]
    good = encode_example(FIELDS)
    bad = encode_example({k: v for k, v in (FIELDS | changes).items() if v is not None})
    path = tmp_path / "a"
    write_records(path, [good, good, bad, good])
    offset = 2 * (16 + len(good))
    with pytest.raises(RecordError, match=message) as caught:
        list(read_videos(path, SMALL))
    assert str(caught.value).startswith(f"{path}: record 2 at byte {offset}: ")
    with pytest.raises(MessageError, match=message):
        parse_video(bad, SMALL)
    skips = Skips()
    assert len(list(rows(read_videos(path, SMALL, skips=skips)))) == 3
    assert [error.record for error in skips.errors] == [2]


def test_numbers_and_offsets_count_records_dropped_before(tmp_path):
    good, bad = encode_example(FIELDS), encode_example({"id": b"x"})
    path = tmp_path / "a"
    write_records(path, [good, good, bad])
    content = bytearray(path.read_bytes())
    content[30] ^= 1
    path.write_bytes(content)
    skips = Skips()
    assert len(list(rows(read_videos(path, SMALL, skips=skips)))) == 1
    places = [(error.record, error.offset) for error in skips.errors]
    assert places == [(0, 0), (2, 2 * (16 + len(good)))]


def test_a_malformed_message_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"record 1 at byte .*: malformed message"):
        read_single(tmp_path, encode_example(FIELDS)[:-1])
    with pytest.raises(RecordError, match=r"no id: .* found no keys"):
        read_single(tmp_path, b"")


def test_a_missing_modality_is_zero_and_not_present(tmp_path):
    without = encode_example({k: v for k, v in FIELDS.items() if k != "kb"})
    _, _, features, present = read_single(tmp_path, without, MASKED)
    assert present == {"a": True, "b": False}
    assert features == {"a": VECTORS["a"].tobytes(), "b": bytes(160)}
    assert matched_rows(tmp_path / "a", MASKED) == [0, 1]
    bare = encode_example({k: FIELDS[k] for k in ("id", "labels")})
    assert read_single(tmp_path, bare, MASKED)[3] == {"a": False, "b": False}


@pytest.mark.fault("Scores: rows or labels out of range, k above the corpus")
def test_labels_may_be_none_few_many_or_large(tmp_path):
    labels = [[], [0], [127, 128], [2**31 - 1, 2**28, 5], list(range(500))]
    payloads = [encode_example(FIELDS | {"labels": np.array(x, np.int64)}) for x in labels]
    # Protobuf's own writer omits an empty list of labels.
    payloads.append(pb.Example.FromString(payloads[0]).SerializeToString())
    write_records(tmp_path / "a", payloads)
    assert [row[1] for row in rows(read_videos(tmp_path / "a", SMALL))] == [*labels, []]
    assert matched_rows(tmp_path / "a", SMALL) == [0, 1, 2, 3]


def test_truncated_labels_do_not_affect_other_records(tmp_path):
    rest = {key: value for key, value in FIELDS.items() if key != "labels"}
    cut = entry("labels", encode_bytes(3, encode_bytes(1, b"\x05\x85")))
    inner = b"".join(entry(key, encode_feature(value)) for key, value in rest.items())
    good, bad = encode_example(FIELDS), encode_bytes(1, inner + cut)
    write_records(tmp_path / "a", [good, bad, good])
    videos = rows(read_videos(tmp_path / "a", SMALL, skips=Skips()))
    assert [row[1] for row in videos] == [[7, 300], [7, 300]]
    with pytest.raises(RecordError, match=r"record 1 at byte .*: malformed message: its 236 bytes"):
        list(read_videos(tmp_path / "a", SMALL))


@pytest.mark.parametrize("width", [1, 25, 30, 4000, 5000])
def test_vectors_of_any_width_take_the_fast_path(tmp_path, width):
    format = VideoLevel(modalities=(Modality(name="a", key="ka", width=width),))
    vector = np.arange(width, dtype=np.float32)
    write_records(tmp_path / "a", [encode_video("abc", [7], {"a": vector}, format)] * 2)
    assert matched_rows(tmp_path / "a", format) == [0, 1]
    [videos] = read_videos(tmp_path / "a", format)
    np.testing.assert_array_equal(videos.features["a"], [vector] * 2)


def test_fast_and_slow_records_come_in_the_files_order(tmp_path):
    rng, payloads = random.Random(0), []
    for i in range(60):
        fields = FIELDS | {"id": b"v%d" % i, "labels": np.arange(i % 5)}
        if i % 3 == 0:
            fields["another"] = b"feature that nobody asked for"
        keys = rng.sample(list(fields), len(fields))
        payloads.append(encode_example({key: fields[key] for key in keys}))
    write_records(tmp_path / "a", payloads)
    assert list(rows(read_videos(tmp_path / "a", SMALL))) == [parsed(p, SMALL) for p in payloads]
    assert matched_rows(tmp_path / "a", SMALL) == [i for i in range(60) if i % 3]


def entry(key: str, value: bytes) -> bytes:
    return encode_bytes(1, encode_bytes(1, key.encode()) + encode_bytes(2, value))


floats = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed))
label = st.one_of(st.integers(0, 300), st.integers(0, 2**31 - 1), st.integers(2**31, 2**64 - 1))


@st.composite
def messages(draw) -> bytes:
    """Almost valid records, sometimes damaged a little."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    video_id = encode_feature(draw(st.binary(max_size=9)))
    labels = draw(st.lists(label, max_size=5))
    entries = [
        entry(draw(st.sampled_from(["id", "id", "video_id"])), video_id),
        entry("labels", encode_bytes(3, encode_bytes(1, b"".join(map(varint, labels))))),
        entry("ka", encode_feature(rng.random(3, np.float32))),
        entry("kb", encode_feature(rng.random(40, np.float32))),
        entry("kb", encode_feature(rng.random(40, np.float32))),
        entry("x", encode_feature(b"unknown")),
    ]
    usual = [0, 1, 2, 3]
    chosen = draw(st.one_of(st.just(usual), st.permutations(usual), st.sets(st.integers(0, 5))))
    payload = encode_bytes(1, b"".join(entries[i] for i in chosen))
    payload = bytearray(payload + draw(st.sampled_from([b"", b"\x12\x00", b"\x12\x01\x00"])))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, min(len(payload), 60)))
        payload[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(payload)


def varint(value: int) -> bytes:
    octets = bytearray()
    while value > 127:
        octets.append(value & 127 | 128)
        value >>= 7
    return bytes([*octets, value])


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(st.lists(messages(), min_size=8, max_size=16), st.sampled_from([SMALL, MASKED]))
def test_the_parsers_agree_on_any_record(tmp_path_factory, payloads, format):
    path = tmp_path_factory.mktemp("fuzz") / "a"
    write_records(path, payloads)
    good, faults = [], []
    for number, payload in enumerate(payloads):
        try:
            good.append(parsed(payload, format))
        except MessageError as error:
            faults.append((number, str(error)))
        else:
            assert good[-1] == by_protobuf(payload, format)
    assert not {*matched_rows(path, format)} & {number for number, _ in faults}
    skips = Skips()
    assert list(rows(read_videos(path, format, skips=skips))) == good
    assert [(error.record, error.fault) for error in skips.errors] == faults
    if faults:
        with pytest.raises(RecordError, match=f"^{path}: record {faults[0][0]} at byte "):
            list(read_videos(path, format))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ()}, "at least one modality"),
        ({"id_keys": ()}, "one id key"),
        (
            {"modalities": (A, Modality(name="a", key="k", width=1))},
            "names and keys must be unique",
        ),
        (
            {"modalities": (A, Modality(name="c", key="ka", width=1))},
            "names and keys must be unique",
        ),
        ({"modalities": (A,), "labels_key": "ka"}, "names and keys must be unique"),
        ({"missing": "ignore"}, "missing is 'ignore'; it must be 'refuse' or 'mask'"),
    ],
)
def test_formats_that_cannot_be_read_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VideoLevel(**options)
    for bad in ({"name": "", "key": "k", "width": 1}, {"name": "n", "key": "k", "width": 0}):
        with pytest.raises(ValueError, match="width at least 1"):
            Modality(**bad)
