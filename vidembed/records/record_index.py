"""The index of TFRecords that stay on disk: where each record is, and all of it but its features.

One pass over the files, in which every record is parsed and checked as an import does.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xxhash
from etils import epath

from vidembed.records.checks import Checks
from vidembed.records.counts import check_counts, read_counts, shard_names
from vidembed.records.crcs import HEADER
from vidembed.records.faults import Faults
from vidembed.records.formats import VideoLevel
from vidembed.records.framing import Block, read_blocks
from vidembed.records.lossy import clipping, rounded
from vidembed.records.matching import Matched, match
from vidembed.records.offsets import refuse_gzip
from vidembed.records.record_faults import IMPORT_INSTEAD, RecordFaults
from vidembed.records.record_layout import RecordLayout
from vidembed.records.streaming import stream_chunks
from vidembed.records.table import DTYPES
from vidembed.records.table_rows import as_stored, stored_as
from vidembed.records.usable import refusal
from vidembed.records.youtube8m import Videos, offsets_of, parse_block

ABSENT, ELSEWHERE = -1, -2
"""In place of a vector's position: the record has none; the general parser must read it."""

Progress = Callable[[int, int, int], object]
"""Called with files done, files in all, records so far."""


class RecordIndex(NamedTuple):
    """N records in S files; row i is the i-th record, in the order of the sorted files.

    first_rows     i64[S + 1]   rows of file s: first_rows[s] .. first_rows[s + 1] - 1
    starts         i64[N]       byte offset of the payload in its file
    sizes          i32[N]       bytes of the payload
    crcs           u32[N]       masked crc32c of the payload
    vectors        name -> i32[N]  byte offset of the floats in the payload, or ABSENT, ELSEWHERE
    ids            S[N], distinct
    label_offsets  i64[N + 1], label_values i32[L]
    digests        name -> {dtype, shape, xxh3} of the features [N, F] as a table would store them
    lengths        i32[N]       frames of the video; empty for video-level records
    """

    first_rows: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    crcs: np.ndarray
    vectors: dict[str, np.ndarray]
    ids: np.ndarray
    label_offsets: np.ndarray
    label_values: np.ndarray
    digests: dict[str, dict[str, Any]]
    lengths: np.ndarray = np.zeros(0, np.int32)


class Located(NamedTuple):
    """n parsed videos with their places: as in `RecordIndex`, and numbers i64[n] in the file."""

    videos: Videos
    numbers: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    crcs: np.ndarray
    vectors: dict[str, np.ndarray]


def build_index(
    pattern: str,
    files: Sequence[epath.Path],
    layout: RecordLayout,
    *,
    workers: int = 2,
    progress: Progress = lambda *_: None,
) -> RecordIndex:
    """Read, check and locate every record of TFRecord files, which memory need not hold.

    Raises RecordError for damaged files and records without the content of `layout`, and
    RefusedError with the list of all other faults: repeated ids, vectors with NaN, infinity or
    only zeros, counts that differ from counts.json, and values that the dtype does not preserve.
    """
    format, options, names = layout.format(), layout.importing(), shard_names(files)
    dtype = DTYPES[layout.dtype]
    checks, faults = Checks(format.widths, stored_as(layout.dtype)), RecordFaults(names)
    digests = {name: xxhash.xxh3_128() for name in format.widths}
    counts, chunks, total = np.zeros(len(files), np.int64), list[Located](), 0
    stream = stream_chunks(files, partial(read_located, format=format), workers=workers)
    try:
        for number, chunk in stream:
            videos = chunk.videos
            for name, modality in checks.modalities.items():
                bad = modality.add(videos.features[name], videos.present[name], videos.ids)
                faults.add_unusable(number, chunk.numbers, videos, name, bad)
            faults.add_featureless(number, chunk.numbers, videos)
            for name, stored in as_stored(videos.features, dtype).items():
                digests[name].update(np.ascontiguousarray(stored).view(np.uint8).data)
            counts[number] += len(videos.ids)
            total += len(videos.ids)
            chunks.append(chunk._replace(videos=videos._replace(features={}, present={})))
            progress(number, len(files), total)
    finally:
        stream.close()
    progress(len(files), len(files), total)
    index = _joined(chunks, counts, format, digests, dtype)
    faults.add_repeated(index.ids, index.first_rows)
    problems = faults.sentences()
    problems += check_counts(dict(zip(names, counts.tolist())), read_counts(files, None), pattern)
    if layout.dtype == "uint8":
        problems += clipping(checks, allowed_share=options.max_clipped_share)
    problems += rounded(checks, layout.dtype, beyond=options.max_rounding)
    if problems:
        raise refusal(pattern, problems)
    return index


def read_located(path: epath.Path, format: VideoLevel) -> Iterator[Located]:
    """The videos of one TFRecord file, in chunks, with the place of each record and its vectors.

    Raises RecordError as `read_videos` does, and for a gzip file, which has no random access.
    """
    refuse_gzip(path)
    faults = Faults(path, remedy=IMPORT_INSTEAD)
    for block in read_blocks(path, faults):
        matched = match(block, format)
        # Faults are raised, so that there is one video for each record of the block.
        videos = parse_block(block, matched, format, faults)
        words = np.ndarray((len(block.data) - 3,), "<u4", block.data, strides=(1,))
        yield Located(
            videos,
            block.numbers,
            block.offsets + HEADER.size,
            (block.stops - block.starts).astype(np.int32),
            words[block.stops],
            _positions(block, matched, videos),
        )


def _positions(block: Block, matched: Matched, videos: Videos) -> dict[str, np.ndarray]:
    """name -> i32[n]: where the vectors begin in their payloads."""
    positions, starts = {}, block.starts[matched.rows]
    for name, begin in matched.vectors.items():
        positions[name] = np.full(len(block.starts), ELSEWHERE, np.int32)
        positions[name][matched.rows] = begin - starts
        positions[name][~videos.present[name]] = ABSENT
    return positions


def _joined(
    chunks: Sequence[Located],
    counts: np.ndarray,
    format: VideoLevel,
    digests: dict[str, Any],
    dtype: np.dtype,
) -> RecordIndex:
    ids = np.concatenate([chunk.videos.ids for chunk in chunks])
    return RecordIndex(
        first_rows=offsets_of(counts),
        starts=np.concatenate([chunk.starts for chunk in chunks]),
        sizes=np.concatenate([chunk.sizes for chunk in chunks]),
        crcs=np.concatenate([chunk.crcs for chunk in chunks]),
        vectors={
            name: np.concatenate([chunk.vectors[name] for chunk in chunks])
            for name in format.widths
        },
        ids=ids.astype(f"S{max(1, int(np.char.str_len(ids).max(initial=1)))}"),
        label_offsets=offsets_of(
            np.concatenate([np.diff(chunk.videos.label_offsets) for chunk in chunks])
        ),
        label_values=np.concatenate([chunk.videos.label_values for chunk in chunks]),
        digests={
            name: {
                "dtype": dtype.name,
                "shape": [int(counts.sum()), format.widths[name]],
                "xxh3": digest.hexdigest(),
            }
            for name, digest in digests.items()
        },
    )
