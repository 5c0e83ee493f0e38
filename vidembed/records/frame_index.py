"""The index of frame-level TFRecords that stay on disk.

One pass over the files, in which every record is parsed and checked. Row i is the i-th record.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xxhash
from etils import epath

from vidembed.records.counts import check_counts, read_counts, shard_names
from vidembed.records.crcs import HEADER
from vidembed.records.example import MessageError
from vidembed.records.faults import Faults
from vidembed.records.formats import FrameLevel
from vidembed.records.frame_layout import locate_frames
from vidembed.records.frames import Frames, parse_frames
from vidembed.records.framing import Block, read_blocks
from vidembed.records.offsets import refuse_gzip
from vidembed.records.record_faults import RecordFaults
from vidembed.records.record_index import ABSENT, ELSEWHERE, Progress, RecordIndex, build_index
from vidembed.records.record_layout import RecordLayout
from vidembed.records.streaming import stream_chunks
from vidembed.records.usable import refusal
from vidembed.records.youtube8m import offsets_of

_NO_FRAMES = np.empty(0, np.uint8)
WHOLE = 2**31 - 1
"""More frames than a record can have."""


class LocatedFrames(NamedTuple):
    """n records: as in `RecordIndex`, with labels i32[L] of each, and by modality the digests of
    the frames, 16 bytes for each record."""

    starts: np.ndarray
    sizes: np.ndarray
    crcs: np.ndarray
    lengths: list[int]
    vectors: dict[str, list[int]]
    ids: list[bytes]
    labels: list[np.ndarray]
    digests: dict[str, bytes]


def build_frame_index(
    pattern: str,
    files: Sequence[epath.Path],
    layout: RecordLayout,
    *,
    workers: int = 2,
    progress: Progress = lambda *_: None,
) -> RecordIndex:
    """Read, check and locate every frame-level record of TFRecord files.

    `vectors` are the positions of the first frames, and `lengths` the numbers of frames. Raises
    RecordError for damaged files, for records of video level or without the content of `layout`,
    and for modalities with different numbers of frames; RefusedError for repeated ids, and for
    counts that differ from counts.json.
    """
    format, names = layout.frame_format(), shard_names(files)
    digests = {name: xxhash.xxh3_128() for name in format.widths}
    counts, chunks = np.zeros(len(files), np.int64), list[LocatedFrames]()
    stream = stream_chunks(files, partial(_located, format=format), workers=workers)
    try:
        for number, chunk in stream:
            counts[number] += len(chunk.ids)
            for name, digest in digests.items():
                digest.update(chunk.digests[name])
            chunks.append(chunk)
            progress(number, len(files), int(counts.sum()))
    finally:
        stream.close()
    progress(len(files), len(files), int(counts.sum()))
    ids = np.array([name for chunk in chunks for name in chunk.ids], "S")
    labels = [each for chunk in chunks for each in chunk.labels]
    index = RecordIndex(
        first_rows=offsets_of(counts),
        starts=np.concatenate([chunk.starts for chunk in chunks]),
        sizes=np.concatenate([chunk.sizes for chunk in chunks]),
        crcs=np.concatenate([chunk.crcs for chunk in chunks]),
        vectors={name: _joined(c.vectors[name] for c in chunks) for name in format.widths},
        ids=ids,
        label_offsets=offsets_of(np.array([len(each) for each in labels])),
        label_values=np.concatenate([*labels, np.empty(0, np.int32)]).astype(np.int32),
        digests={
            name: _entry(digest, counts, format.widths[name]) for name, digest in digests.items()
        },
        lengths=_joined(chunk.lengths for chunk in chunks),
    )
    faults = RecordFaults(names)
    faults.add_repeated(ids, index.first_rows)
    problems = faults.sentences()
    problems += check_counts(dict(zip(names, counts.tolist())), read_counts(files, None), pattern)
    if problems:
        raise refusal(pattern, problems)
    return index


def _located(path: epath.Path, format: FrameLevel) -> Iterator[LocatedFrames]:
    """The records of one file, in chunks. Raises RecordError."""
    refuse_gzip(path)
    faults = Faults(path)
    for block in read_blocks(path, faults):
        words = np.ndarray((len(block.data) - 3,), "<u4", block.data, strides=(1,))
        chunk = LocatedFrames(
            block.offsets + HEADER.size,
            (block.stops - block.starts).astype(np.int32),
            words[block.stops],
            [],
            {name: [] for name in format.widths},
            [],
            [],
            dict.fromkeys(format.widths, b""),
        )
        for row in range(len(block.starts)):
            _add(chunk, block, row, format, faults)
        yield chunk


def _add(chunk: LocatedFrames, block: Block, row: int, format: FrameLevel, faults: Faults) -> None:
    payload = block.data[block.starts[row] : block.stops[row]].tobytes()
    try:
        video = parse_frames(payload, dataclasses.replace(format, max_frames=WHOLE))
    except MessageError as error:
        number, offset = int(block.numbers[row]), int(block.offsets[row])
        faults.add(number, offset, str(error), content=True)
        return
    chunk.ids.append(video.id)
    chunk.labels.append(video.labels)
    chunk.lengths.append(len(next(iter(video.frames.values()))))
    for name, position in _positions(payload, video, format).items():
        chunk.vectors[name].append(position)
        used = video.frames[name][: format.max_frames] if video.present[name] else _NO_FRAMES
        chunk.digests[name] += xxhash.xxh3_128_digest(used.data)


def _positions(payload: bytes, video: Frames, format: FrameLevel) -> dict[str, int]:
    """Modality → where its first frame begins."""
    try:
        lists = locate_frames(payload, format)[1]
    except ValueError:
        lists = {}
    return {
        modality.name: (lists[modality.key].start if lists else ELSEWHERE)
        if video.present[modality.name]
        else ABSENT
        for modality in format.modalities
    }


def _joined(numbers: Any) -> np.ndarray:
    return np.array([number for each in numbers for number in each], np.int32)


def _entry(digest: Any, counts: np.ndarray, width: int) -> dict[str, Any]:
    return {"dtype": "uint8", "shape": [int(counts.sum()), width], "xxh3": digest.hexdigest()}


def builder_of(layout: RecordLayout) -> Callable[..., RecordIndex]:
    """The function that indexes records of this layout."""
    return build_frame_index if layout.level == "frame" else build_index
