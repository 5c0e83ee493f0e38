"""Frame-level records: one byte vector per modality and second of a video, and labelled segments.

YouTube-8M's layout (`tf.train.SequenceExample`; https://research.google.com/youtube8m/download.html)
is the default, with the segment labels of its 2019 release if a record has them.
"""

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from vidembed.records.example import (
    Feature,
    MessageError,
    encode_sequence_example,
    parse_sequence_example,
)
from vidembed.records.faults import Faults, Skips
from vidembed.records.formats import (
    YOUTUBE_8M_FRAMES,
    FrameLevel,
    check_id,
    keys_found,
    read_id,
    read_labels,
    refuse_missing,
)
from vidembed.records.frame_layout import locate_frames
from vidembed.records.framing import read_blocks

_SEGMENT_KEYS = ("segment_start_times", "segment_end_times", "segment_labels", "segment_scores")
_SEGMENT_KINDS = ("int64_list", "int64_list", "int64_list", "float_list")


class Segments(NamedTuple):
    """n labelled segments of a video: start and end in seconds i64[n], labels i32[n], and scores
    f32[n], the share of raters who saw the label there (0: a verified negative)."""

    start_times: np.ndarray
    end_times: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class Frames(NamedTuple):
    """One video: labels i32[L], frames u8[T, F] by modality (the same T for all, at most
    max_frames), whether each modality is present, and segments if the record has them."""

    id: bytes
    labels: np.ndarray
    frames: dict[str, np.ndarray]
    present: dict[str, bool]
    segments: Segments | None = None


def read_frames(
    path: str | PathLike[str],
    format: FrameLevel = YOUTUBE_8M_FRAMES,
    *,
    skips: Skips | None = None,
) -> Iterator[Frames]:
    """The videos of one TFRecord file, in the file's order.

    Raises RecordError for files that `read_records` refuses and for messages that lack something
    in `format`. With `skips` such records are skipped and counted there.
    """
    path = epath.Path(path)
    faults = Faults(path, skips)
    for data, starts, stops, numbers, offsets in read_blocks(path, faults):
        for row, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist())):
            try:
                frames = parse_frames(data.data[start:stop].tobytes(), format)
            except MessageError as error:
                faults.add(int(numbers[row]), int(offsets[row]), str(error), content=True)
            else:
                yield frames


def parse_frames(payload: bytes, format: FrameLevel = YOUTUBE_8M_FRAMES) -> Frames:
    """Parse one record. Raises MessageError."""
    try:
        context, lists = _by_layout(payload, format)
    except ValueError:
        context, lists = _by_protobuf(payload, format)
    video_id = read_id(context, format.id_keys)
    labels = read_labels(context, format.labels_key)
    present = {}
    refuse_video_level(context, lists)
    for modality in format.modalities:
        frames = lists.get(modality.key, ())
        if len(frames):
            present[modality.name] = frames
        elif format.missing == "refuse":
            raise refuse_missing(modality, lists)
    counts = {name: len(frames) for name, frames in present.items()}
    if len({*counts.values()}) > 1:
        raise MessageError(f"the modalities differ in their number of frames: {counts}")
    steps = max(counts.values(), default=0)
    return Frames(
        video_id,
        labels,
        {
            m.name: present.get(m.name, np.zeros((steps, m.width), np.uint8))
            for m in format.modalities
        },
        {m.name: m.name in present for m in format.modalities},
        _read_segments(context),
    )


def refuse_video_level(context: Mapping[str, Feature], lists: Mapping[str, Any]) -> None:
    """Raise MessageError for a video-level record where a frame-level one is expected."""
    vectors = [
        key
        for key, feature in context.items()
        if feature.kind == "float_list" and len(feature.values) > 1 and key not in _SEGMENT_KEYS
    ]
    if not lists and vectors:
        raise MessageError(
            "expected a frame-level record (tf.train.SequenceExample), but this is a video-level "
            f"record (tf.train.Example) with one vector per video: {', '.join(sorted(vectors))}. "
            "To train on these, leave out --corpus.layout.level frame"
        )


def encode_frames(
    id: str | bytes,
    labels: Sequence[int] | np.ndarray,
    frames: Mapping[str, np.ndarray],
    *,
    segments: Segments | None = None,
    format: FrameLevel = YOUTUBE_8M_FRAMES,
) -> bytes:
    """Encode the record of a video; frames u8[T, F] by modality name, missing ones left out.

    Raises MessageError for a record that `read_frames` would refuse.
    """
    encoded_id = id.encode() if isinstance(id, str) else id
    check_id(encoded_id)
    names = [modality.name for modality in format.modalities]
    for name, values in frames.items():
        if name not in names:
            raise MessageError(f"modality {name!r}: expected one of {names}")
        if values.dtype != np.uint8 or values.ndim != 2:
            shape = f"{values.dtype}{list(values.shape)}"
            raise MessageError(f"modality {name!r}: expected uint8[T, F], found {shape}")
    context: dict[str, Any] = {format.id_keys[0]: encoded_id}
    if format.labels_key is not None:
        context[format.labels_key] = np.asarray(labels, np.int64)
    if segments is not None:
        context |= zip(_SEGMENT_KEYS, segments)
    lists = {
        modality.key: [frame.tobytes() for frame in frames[modality.name]]
        for modality in format.modalities
        if modality.name in frames
    }
    payload = encode_sequence_example(context, lists)
    parse_frames(payload, format)
    return payload


def _by_layout(payload: bytes, format: FrameLevel) -> tuple[dict[str, Feature], dict[str, Any]]:
    """The fast path: context, and by key the frames u8[T, F] of the format's modalities. Raises
    ValueError for any but the usual layout."""
    context, located = locate_frames(payload, format)
    data, lists = np.frombuffer(payload, np.uint8), dict[str, Any](located)
    for modality in format.modalities:
        if modality.key in located:
            frames = located[modality.key].bytes_of(data, modality.width, format.max_frames)
            lists[modality.key] = frames.copy()
    return context, lists


def _by_protobuf(payload: bytes, format: FrameLevel) -> tuple[dict[str, Feature], dict[str, Any]]:
    """The same for any layout that protobuf allows. Raises MessageError."""
    context, lists = parse_sequence_example(payload)
    frames = {}
    for modality in format.modalities:
        steps, width = lists.get(modality.key, ()), modality.width
        for number, (kind, values) in enumerate(steps):
            if kind != "bytes_list" or len(values) != 1 or len(values[0]) != width:
                sizes = [f"{len(value)} bytes" for value in values] if kind == "bytes_list" else ""
                raise MessageError(
                    f"modality {modality.name!r} ({modality.key}): frame {number}: expected "
                    f"bytes_list of 1 with {width} bytes, found {steps[number]} {sizes}"
                )
        if steps:
            joined = bytearray().join(values[0] for _, values in steps[: format.max_frames])
            frames[modality.key] = np.frombuffer(joined, np.uint8).reshape(-1, width)
    return context, lists | frames


def _read_segments(context: Mapping[str, Feature]) -> Segments | None:
    if not any(key in context for key in _SEGMENT_KEYS):
        return None
    for key, kind in zip(_SEGMENT_KEYS, _SEGMENT_KINDS):
        if key not in context or context[key].kind not in (kind, ""):
            value = context.get(key, "nothing")
            keys = keys_found(context)
            raise MessageError(f"segments: expected {key} as {kind}, {keys} ({value})")
    lengths = {key: len(context[key].values) for key in _SEGMENT_KEYS}
    if len({*lengths.values()}) > 1:
        raise MessageError(f"segments: expected lists of equal length, found {lengths}")
    starts, ends, _, scores = (context[key].values for key in _SEGMENT_KEYS)
    return Segments(
        np.asarray(starts, np.int64),
        np.asarray(ends, np.int64),
        read_labels(context, _SEGMENT_KEYS[2]),
        np.asarray(scores, np.float32),
    )
