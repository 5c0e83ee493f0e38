"""Read TFRecord files into checked blocks of records, and write them.

A record is u64 length, u32 masked crc32c of the length, payload, u32 masked crc32c of the payload,
all little-endian. A file may be gzip-compressed as a whole.
"""

import gzip
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from vidembed.files import whole_file
from vidembed.records.crcs import FOOTER, HEADER, crc32c, is_gzip, length_is_sound, mask
from vidembed.records.faults import Faults, Skips
from vidembed.records.kind import GZIP, READ, UNKNOWN, kind_of, remedy

# Readable bytes after a block's data, with arbitrary content, so that windows need no clipping.
SLACK_BYTES = 128

# Room for 2,048 of YouTube-8M's video-level records.
_BLOCK_BYTES = 10 << 20
_REMEDY = "fetch the shard again"
# Not every OSError: failures of disk or network are not faults of the records.
_GZIP_FAULTS = (gzip.BadGzipFile, EOFError, zlib.error)
# Deflate compresses at most 1,032 bytes into one.
_GZIP_RATIO = 1032


class Block(NamedTuple):
    """Consecutive checked records in one buffer, which the next block reuses.

    data: u8[bytes]; starts, stops: i64[n], payload i is data[starts[i]:stops[i]];
    numbers: i64[n], record numbers in the file; offsets: i64[n], their byte offsets in the file.
    """

    data: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    numbers: np.ndarray
    offsets: np.ndarray


def frame(payload: bytes) -> bytes:
    """The bytes of one record with its framing."""
    length = struct.pack("<Q", len(payload))
    crcs = [FOOTER.pack(mask(crc32c(part))) for part in (length, payload)]
    return length + crcs[0] + payload + crcs[1]


def read_records(path: str | PathLike[str], *, skips: Skips | None = None) -> Iterator[bytes]:
    """The payloads of one file; both crcs of each record are verified.

    Raises RecordError, also for an empty file. With `skips`, a payload with a wrong crc is dropped,
    and a wrong length, a truncation or a broken gzip stream drops the rest of the file; each fault
    is logged and counted there.
    """
    path = epath.Path(path)
    for block in read_blocks(path, Faults(path, skips)):
        memory = block.data.data
        for start, stop in zip(block.starts.tolist(), block.stops.tolist()):
            yield memory[start:stop].tobytes()


def write_records(
    path: str | PathLike[str], payloads: Iterable[bytes], *, compress: bool = False
) -> int:
    """Write one file, whole or not at all; returns its number of records."""
    count = 0
    with whole_file(path) as unfinished, ExitStack() as stack:
        file: Any = stack.enter_context(unfinished.open("wb"))
        if compress:
            file = stack.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0))
        for payload in payloads:
            file.write(frame(payload))
            count += 1
    return count


def read_blocks(
    path: epath.Path, faults: Faults, *, records: int = 2048, block_bytes: int = _BLOCK_BYTES
) -> Iterator[Block]:
    """The file's records in blocks of at most `records` and, unless one is larger, `block_bytes`.

    A payload with a wrong crc is a fault of one record. A wrong or absurd length, a truncation or
    a broken gzip stream is a fault of the rest of the file. An empty file, or one of another kind,
    is a fault too.
    """
    with ExitStack() as stack:
        file: Any = stack.enter_context(path.open("rb"))
        bound, head = path.stat().length, file.read(HEADER.size)
        file.seek(0)
        compressed = is_gzip(head)
        sound = len(head) == HEADER.size and length_is_sound(*HEADER.unpack(head))
        if head and not sound and (kind := kind_of(path)) not in (*READ, UNKNOWN, GZIP):
            faults.add(0, 0, f"the file is not a TFRecord file, but {kind}; {remedy(kind)}")
            return
        read_into = file.readinto
        if compressed:
            file = stack.enter_context(gzip.GzipFile(fileobj=file))
            # One decompression step per call, so that data before a stream fault is not lost.
            read_into, bound = file.readinto1, bound * _GZIP_RATIO
        yield from _scan(read_into, bound, faults, records, block_bytes)


def _scan(
    read_into: Any, bound: int, faults: Faults, records: int, block_bytes: int
) -> Iterator[Block]:
    buffer: Any = np.empty(min(block_bytes, max(bound, HEADER.size)) + SLACK_BYTES, np.uint8)
    position = filled = 0  # in the buffer: the next record, and the end of the bytes read
    base = number = 0  # in the file: the buffer's first byte, and the next record
    broken = ""  # the fault of the gzip stream, if any
    sound: set[tuple[int, int]] = set()  # headers seen; few lengths occur, each is checked once
    unpack, crc = HEADER.unpack_from, crc32c
    while True:
        starts: list[int] = []
        stops: list[int] = []
        crcs: list[int] = []
        fault, needed = "", HEADER.size
        while len(starts) < records and position + HEADER.size <= filled:
            header = unpack(buffer, position)
            if header not in sound:
                if not length_is_sound(*header):
                    fault = f"its length ({header[0]} bytes) does not agree with its crc"
                    fault += "" if number or starts else ", or this is not a TFRecord file"
                    break
                sound.add(header)
            start = position + HEADER.size
            stop = start + header[0]
            if stop + FOOTER.size > filled:
                needed = stop + FOOTER.size - position
                remaining = bound - base - position
                if needed > remaining:
                    fault = f"it takes {needed} bytes by its length, but {remaining} bytes remain"
                    fault += " of the file: the file is truncated, or the length absurd"
                break
            crcs.append(crc(buffer[start:stop]))
            starts.append(start)
            stops.append(stop)
            position = stop + FOOTER.size
        if starts:
            yield _checked(buffer, starts, stops, crcs, number, base, faults)
            number += len(starts)
        if not fault:
            if len(starts) == records:
                continue
            base, filled = base + position, filled - position
            buffer = _room(buffer, position, filled, needed)
            position = 0
            read = 0
            if not broken:
                read, broken = _fill(read_into, buffer[filled:-SLACK_BYTES])
            filled += read
            if read:
                continue
            if number and not (filled or broken):
                return
            cut = f"the file ends after {filled} of this record's {needed} bytes"
            fault = broken or (cut if filled else "the file holds no record")
        faults.add(number, base + position, f"{fault}; {_REMEDY}")
        return


def _checked(
    buffer: np.ndarray,
    starts: list[int],
    stops: list[int],
    crcs: list[int],
    number: int,
    base: int,
    faults: Faults,
) -> Block:
    """The records whose payloads match their crcs; the others are faults."""
    begin, end = np.array(starts), np.array(stops)
    numbers = number + np.arange(len(begin))
    offsets = base + begin - HEADER.size
    anywhere = np.ndarray((len(buffer) - 3,), "<u4", buffer, strides=(1,))
    good = mask(np.array(crcs, np.uint32)) == anywhere[end]
    if not good.all():
        fault = f"its payload does not agree with its crc; {_REMEDY}"
        for i in np.flatnonzero(~good).tolist():
            faults.add(int(numbers[i]), int(offsets[i]), fault)
        begin, end, numbers, offsets = begin[good], end[good], numbers[good], offsets[good]
    return Block(buffer, begin, end, numbers, offsets)


def _room(buffer: np.ndarray, position: int, filled: int, needed: int) -> np.ndarray:
    """The buffer with its `filled` unread bytes moved to the front, enlarged if it is too small.

    It at most doubles, because a record's length may be wrong.
    """
    room = len(buffer) - SLACK_BYTES
    larger = buffer
    if needed > room:
        larger = np.empty(min(max(2 * room, 1024), needed) + SLACK_BYTES, np.uint8)
    larger[:filled] = buffer[position : position + filled]
    return larger


def _fill(read_into: Any, room: np.ndarray) -> tuple[int, str]:
    """Read until the room is full or the file ends; returns bytes read, and any gzip fault."""
    memory, count = room.data, 0
    try:
        while count < len(memory) and (read := read_into(memory[count:])):
            count += read
    except _GZIP_FAULTS as error:
        return count, f"the gzip stream is broken: {error}"
    return count, ""
