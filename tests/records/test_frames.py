import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2 as pb

from vidembed.records.bytecode import dequantise
from vidembed.records.example import (
    MessageError,
    encode_bytes,
    encode_feature,
    encode_sequence_example,
)
from vidembed.records.faults import RecordError, Skips
from vidembed.records.formats import FrameLevel, Modality
from vidembed.records.frames import (
    Segments,
    encode_frames,
    parse_frames,
    read_frames,
)
from vidembed.records.framing import write_records

SMALL = FrameLevel(
    modalities=(
        Modality(name="visual", key="rgb", width=4),
        Modality(name="audio", key="audio", width=2),
    )
)
MASKED = FrameLevel(modalities=SMALL.modalities, missing="mask")
CONTEXT = {"id": b"abc", "labels": [7]}
RGB = [b"abcd", b"efgh", b"ijkl"]
AUDIO = [b"12", b"34", b"56"]
SEGMENTS = {
    "segment_start_times": [5, 60],
    "segment_end_times": [10, 65],
    "segment_labels": [7, 300],
    "segment_scores": [0.0, 1.0],
}


def record(context=CONTEXT, **lists) -> bytes:
    return encode_sequence_example(context, {"rgb": RGB, "audio": AUDIO} | lists)


def by_protobuf(payload: bytes, width: dict[str, int]) -> tuple:
    message = pb.SequenceExample.FromString(payload)
    context = message.context.feature
    frames = {
        key: np.array([list(f.bytes_list.value[0]) for f in steps.feature], np.uint8)
        for key, steps in message.feature_lists.feature_list.items()
        if key in width
    }
    key = "id" if "id" in context else "video_id"
    return context[key].bytes_list.value[0], list(context["labels"].int64_list.value), frames


def test_the_real_clip_is_read_back_from_a_file_and_by_protobuf(tmp_path):
    with np.load("data/youtube8m/SjJ3.npz") as clip:
        rgb, audio, labels = clip["rgb"], clip["audio"], clip["labels"]
    payload = encode_frames("SjJ3", labels, {"visual": rgb, "audio": audio})
    write_records(tmp_path / "a", [payload] * 3, compress=True)
    for frames in read_frames(tmp_path / "a"):
        assert (frames.id, frames.labels.tolist()) == (b"SjJ3", [11])
        np.testing.assert_array_equal(frames.frames["visual"], rgb)
        np.testing.assert_array_equal(frames.frames["audio"], audio)
        assert frames.present == {"visual": True, "audio": True}
        assert frames.segments is None
        assert all(f.dtype == np.uint8 and f.flags.writeable for f in frames.frames.values())
    video_id, proto_labels, proto = by_protobuf(payload, {"rgb": 1024, "audio": 128})
    assert (video_id, proto_labels) == (b"SjJ3", [11])
    np.testing.assert_array_equal(proto["rgb"], rgb)
    np.testing.assert_array_equal(proto["audio"], audio)


def test_dequantised_values_are_the_starter_codes():
    frames = parse_frames(record(rgb=[b"\0\x80\xff\xff"], audio=[b"\0\0"]), SMALL)
    expected = [byte * 4 / 255 + 4 / 512 - 2 for byte in (0, 128, 255, 255)]
    np.testing.assert_allclose(dequantise(frames.frames["visual"]), [expected], atol=1e-6)


def test_at_most_300_frames_are_read():
    many = [bytes([i % 256, i // 256, 0, 0]) for i in range(301)]
    frames = parse_frames(record(rgb=many, audio=[b"aa"] * 301), SMALL)
    assert frames.frames["visual"].tolist() == [list(frame) for frame in many[:300]]
    short = FrameLevel(modalities=SMALL.modalities, max_frames=2)
    assert parse_frames(record(), short).frames["audio"].tolist() == [[49, 50], [51, 52]]


def test_segments_of_the_2019_release():
    frames = parse_frames(record(CONTEXT | SEGMENTS), SMALL)
    assert frames.segments is not None
    assert frames.segments.start_times.tolist() == [5, 60]
    assert frames.segments.end_times.tolist() == [10, 65]
    assert frames.segments.labels.tolist() == [7, 300]
    assert frames.segments.scores.tolist() == [0.0, 1.0]
    frames_given = {"visual": np.zeros((1, 4), np.uint8), "audio": np.zeros((1, 2), np.uint8)}
    for segments in (frames.segments, Segments(*(p[:0] for p in frames.segments))):
        encoded = encode_frames("abc", [7], frames_given, segments=segments, format=SMALL)
        again = parse_frames(encoded, SMALL).segments
        assert again is not None
        assert all((a == b).all() for a, b in zip(again, segments))
        assert [part.dtype.str for part in again] == ["<i8", "<i8", "<i4", "<f4"]


FAULTS = {
    "no id": (record({"labels": [1]}), "no id: expected the key id or video_id, found labels"),
    "no labels": (record({"id": b"a"}), "no labels: expected the key labels, found id"),
    "width": (
        record(rgb=[b"abcd", b"abc", b"abcd"]),
        r"modality 'visual' \(rgb\): frame 1: expected .* 4 bytes, found .* of 1 \['3 bytes'\]",
    ),
    "every width": (record(rgb=[b"abcde"] * 3), r"'visual' \(rgb\): frame 0: .* \['5 bytes'\]"),
    "two per frame": (
        record(audio=[[b"12", b"34"]] * 3),
        r"'audio' \(audio\): frame 0: expected bytes_list of 1 .* found bytes_list of 2",
    ),
    "dtype": (record(rgb=[[1.0, 2.0]] * 3), r"\(rgb\): frame 0: .*, found float_list of 2"),
    "missing": (
        encode_sequence_example(CONTEXT, {"rgb": RGB}),
        "modality 'audio' is missing: expected values for the key audio, found rgb;"
        r" missing='mask' \(--missing mask\)",
    ),
    "no frames": (record(rgb=[]), "modality 'visual' is missing"),
    "lengths differ": (record(audio=AUDIO[:2]), r"differ in .* {'visual': 3, 'audio': 2}"),
    "malformed": (record()[:-1], "malformed message"),
    "segments of other lengths": (
        record(CONTEXT | SEGMENTS | {"segment_labels": [7]}),
        "segments: expected lists of equal length, found .*'segment_labels': 1",
    ),
    "a part of the segments": (
        record(CONTEXT | {k: v for k, v in SEGMENTS.items() if k != "segment_scores"}),
        r"segments: expected segment_scores as float_list, found id, .* \(nothing\)",
    ),
    "segment times as floats": (
        record(CONTEXT | SEGMENTS | {"segment_start_times": [1.0, 2.0]}),
        r"segments: expected segment_start_times as int64_list.* \(float_list of 2\)",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_record_that_is_not_as_configured_is_named(tmp_path, case):
    bad, message = FAULTS[case]
    path = tmp_path / "a"
    write_records(path, [record(), bad, record()])
    with pytest.raises(RecordError, match=message) as caught:
        list(read_frames(path, SMALL))
    assert str(caught.value).startswith(f"{path}: record 1 at byte {len(record()) + 16}: ")
    skips = Skips()
    assert len(list(read_frames(path, SMALL, skips=skips))) == 2
    assert [error.record for error in skips.errors] == [1]


def test_a_missing_modality_is_zero_and_not_present():
    frames = parse_frames(encode_sequence_example(CONTEXT, {"audio": AUDIO}), MASKED)
    assert frames.present == {"visual": False, "audio": True}
    assert frames.frames["visual"].tolist() == [[0] * 4] * 3
    assert parse_frames(encode_sequence_example(CONTEXT, {}), MASKED).frames["audio"].shape == (
        0,
        2,
    )


def test_unusual_layouts_are_read_by_the_general_parser():
    # Frames in two parts, which protobuf merges, and a frame with an unknown field.
    step = [encode_bytes(1, encode_feature(frame)) for frame in RGB]
    odd = encode_bytes(1, encode_feature(RGB[0]) + b"\x98\x06\x01")
    key = encode_bytes(1, b"rgb")
    audio = encode_sequence_example({}, {"audio": AUDIO})[2:]
    context = encode_sequence_example(CONTEXT, {})[:-2]
    for parts in ([step[0], step[1] + step[2]], [odd + step[1] + step[2]]):
        entry = encode_bytes(1, key + b"".join(encode_bytes(2, part) for part in parts))
        payload = context + encode_bytes(2, entry) + audio
        visual = parse_frames(payload, SMALL).frames["visual"]
        assert [bytes(row) for row in visual] == RGB
        assert visual.flags.writeable
        np.testing.assert_array_equal(by_protobuf(payload, {"rgb": 4})[2]["rgb"], visual)


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(st.data())
def test_damaged_records_are_refused_or_read_as_protobuf_reads_them(data):
    damaged = bytearray(record(CONTEXT | SEGMENTS))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    payload = bytes(damaged)
    try:
        frames = parse_frames(payload, SMALL)
    except MessageError:
        return
    video_id, labels, proto = by_protobuf(payload, {"rgb": 4, "audio": 2})
    assert (frames.id, frames.labels.tolist()) == (video_id, labels)
    np.testing.assert_array_equal(frames.frames["visual"], proto["rgb"])
    np.testing.assert_array_equal(frames.frames["audio"], proto["audio"])


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ({"visual": np.zeros((2, 4))}, r"'visual': expected uint8\[T, F\], found float64\[2, 4\]"),
        ({"visual": np.zeros(4, np.uint8)}, r"expected uint8\[T, F\], found uint8\[4\]"),
        ({"visual": np.zeros((2, 5), np.uint8)}, "'visual' .*: frame 0: expected .* 4 bytes"),
        ({"visual": np.zeros((2, 4), np.uint8)}, "modality 'audio' is missing"),
        ({"motion": np.zeros((2, 4), np.uint8)}, r"'motion': expected one of \['visual', 'audio'"),
    ],
)
def test_unreadable_frames_are_not_encoded(frames, message):
    with pytest.raises(MessageError, match=message):
        encode_frames("abc", [1], frames, format=SMALL)


def test_formats_that_cannot_be_read_are_refused():
    with pytest.raises(ValueError, match="max_frames is 0; it must be at least 1"):
        FrameLevel(max_frames=0)
    with pytest.raises(ValueError, match="at least one modality"):
        FrameLevel(modalities=())
