"""Video-level records: one id, some labels and one vector per modality for each video.

YouTube-8M's layout (`tf.train.Example`; https://research.google.com/youtube8m/download.html) is
the default; names, widths and the number of modalities are configuration.
"""

from collections.abc import Iterator
from os import PathLike
from typing import NamedTuple

import numpy as np
from etils import epath

from vidembed.records.example import MessageError, parse_example
from vidembed.records.faults import Faults, Skips
from vidembed.records.formats import (
    YOUTUBE_8M,
    VideoLevel,
    read_id,
    read_labels,
    read_vector,
    refuse_missing,
)
from vidembed.records.framing import Block, read_blocks
from vidembed.records.kind import refuse_frame_level
from vidembed.records.matching import Matched, match


class Videos(NamedTuple):
    """n videos, row-aligned.

    ids: S[n]; labels of video i: label_values[label_offsets[i]:label_offsets[i + 1]], i32, with
    label_offsets: i64[n + 1]; features by modality: f32[n, F], zero where not present: bool[n].
    """

    ids: np.ndarray
    label_offsets: np.ndarray
    label_values: np.ndarray
    features: dict[str, np.ndarray]
    present: dict[str, np.ndarray]


class Video(NamedTuple):
    """One parsed video: id, labels i32[L], and f32[F] or None by modality."""

    id: bytes
    labels: np.ndarray
    features: dict[str, np.ndarray | None]


def read_videos(
    path: str | PathLike[str],
    format: VideoLevel = YOUTUBE_8M,
    *,
    skips: Skips | None = None,
    chunk_records: int = 2048,
) -> Iterator[Videos]:
    """The videos of one TFRecord file in chunks of at most `chunk_records`, in the file's order.

    Raises RecordError for files that `read_records` refuses, and for messages that lack part of
    `format`: an id, labels, and vectors of the stated type and width. With `skips` such records are
    skipped and counted there.
    """
    path = epath.Path(path)
    faults = Faults(path, skips)
    for block in read_blocks(path, faults, records=chunk_records):
        yield parse_block(block, match(block, format), format, faults)


def parse_video(payload: bytes, format: VideoLevel = YOUTUBE_8M) -> Video:
    """Parse one record of any layout that protobuf allows. Raises MessageError."""
    features = parse_example(payload)
    if not any(modality.key in features for modality in format.modalities):
        refuse_frame_level(payload)
    video_id = read_id(features, format.id_keys)
    labels = read_labels(features, format.labels_key)
    vectors = {}
    for modality in format.modalities:
        vectors[modality.name] = read_vector(features, modality)
        if vectors[modality.name] is None and format.missing == "refuse":
            raise refuse_missing(modality, features)
    return Video(video_id, labels, vectors)


def parse_block(block: Block, matched: Matched, format: VideoLevel, faults: Faults) -> Videos:
    """Parse the matched records, which have the usual layout, all at once, the others one by one.

    Records without the content of `format` are added to `faults` and left out.
    """
    videos = _gather(block.data, matched, format)
    if len(matched.rows) == len(block.starts):
        return videos
    memory, rows, unmatched = block.data.data, [], []
    for row in np.setdiff1d(np.arange(len(block.starts)), matched.rows).tolist():
        try:
            payload = memory[block.starts[row] : block.stops[row]].tobytes()
            unmatched.append(parse_video(payload, format))
            rows.append(row)
        except MessageError as error:
            faults.add(int(block.numbers[row]), int(block.offsets[row]), str(error), content=True)
    return _insert(videos, np.searchsorted(matched.rows, rows), unmatched)


def _gather(data: np.ndarray, matched: Matched, format: VideoLevel) -> Videos:
    features, present = {}, {}
    for modality in format.modalities:
        begin, size = matched.vectors[modality.name], 4 * modality.width
        # Each vector is one item of a void dtype, which NumPy copies bytewise.
        anywhere = np.ndarray((max(len(data) - size + 1, 0),), f"V{size}", data, strides=(1,))
        has_modality = begin >= 0
        if has_modality.all():
            vectors = anywhere[begin]
        else:
            vectors = np.zeros(len(begin), anywhere.dtype)
            vectors[has_modality] = anywhere[begin[has_modality]]
        features[modality.name] = vectors.view("<f4").reshape(-1, modality.width)
        present[modality.name] = has_modality
    return Videos(
        matched.ids, offsets_of(matched.label_counts), matched.label_values, features, present
    )


def _insert(videos: Videos, places: np.ndarray, inserted: list[Video]) -> Videos:
    """The videos, with videos `inserted` before the rows `places` i64[n]."""
    ids = np.array([video.id for video in inserted], np.bytes_)
    labels = [video.labels for video in inserted]
    counts = np.array([len(each) for each in labels], np.int64)
    features, present = {}, {}
    for name, rows in videos.features.items():
        vectors = [video.features[name] for video in inserted]
        has_modality = np.array([vector is not None for vector in vectors], bool)
        nothing = np.zeros(rows.shape[1], np.float32)
        more = np.array([nothing if v is None else v for v in vectors]).reshape(-1, rows.shape[1])
        features[name] = np.insert(rows, places, more, axis=0)
        present[name] = np.insert(videos.present[name], places, has_modality)
    return Videos(
        np.insert(videos.ids.astype(np.promote_types(videos.ids.dtype, ids.dtype)), places, ids),
        offsets_of(np.insert(np.diff(videos.label_offsets), places, counts)),
        np.insert(
            videos.label_values,
            np.repeat(videos.label_offsets[places], counts),
            np.concatenate([np.empty(0, np.int32), *labels]),
        ),
        features,
        present,
    )


def offsets_of(counts: np.ndarray) -> np.ndarray:
    """Offsets i64[n + 1] of n consecutive lists, from their lengths i64[n]."""
    return np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
