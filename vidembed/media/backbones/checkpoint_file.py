"""Read tensors from a TensorFlow checkpoint (an `.index` file and one `.data` file).

The index is a sorted string table: blocks of entries whose keys share prefixes, an index of the
blocks, and a footer of 48 bytes. The values are protobuf messages that say where a tensor's raw
numbers lie in the data file. Blocks and tensors bear masked crc32c sums, which are checked.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from vidembed.records.crcs import crc32c, mask

FOOTER_SIZE, MAGIC = 48, 0xDB4775248B80FB57
TRAILER = struct.Struct("<BI")
"""After each block: how it is compressed (0: not) and its crc."""
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    9: np.dtype("<i8"),
}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Place(NamedTuple):
    """Where a tensor lies in the data file."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


def read_tensors(index: bytes, data: bytes) -> dict[str, np.ndarray]:
    """The tensors by name. Raises ValueError if a file is damaged, truncated or of another format:
    compressed blocks, several data files, or other dtypes than float and int of 32 or 64 bits."""
    try:
        entries = dict(_table(index))
        header = _fields(entries.pop(b"", b""))
        if header.get(1, [0]) != [1] or header.get(2, [0]) != [0]:
            raise ValueError("expected one data file, little-endian")
        return {name.decode(): _tensor(name.decode(), _place(entry), data)
                for name, entry in entries.items()}  # fmt: skip
    except (struct.error, IndexError, UnicodeDecodeError, TypeError) as error:
        raise ValueError(f"not an index of a TensorFlow checkpoint: {error!r}") from error


def _tensor(name: str, place: Place, data: bytes) -> np.ndarray:
    dtype = DTYPES.get(place.dtype)
    if dtype is None or place.shard:
        raise ValueError(f"{name}: dtype {place.dtype} in data file {place.shard}: not readable")
    raw = data[place.offset : place.offset + place.size]
    if len(raw) != place.size or place.size != dtype.itemsize * int(np.prod(place.shape)):
        raise ValueError(
            f"{name}: {len(raw)} bytes for shape {place.shape}: the data file is truncated, or of "
            "another checkpoint"
        )
    if mask(crc32c(raw)) != place.crc:
        raise ValueError(f"{name}: the crc32c of its numbers is wrong: the data file is damaged")
    return np.frombuffer(raw, dtype).reshape(place.shape)


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All entries of the sorted string table, in order."""
    footer = content[-FOOTER_SIZE:]
    if len(footer) < FOOTER_SIZE or struct.unpack("<Q", footer[-8:]) != (MAGIC,):
        raise ValueError("not an index of a TensorFlow checkpoint: its last 8 bytes are others")
    place = 0
    for _ in range(2):  # an index of metadata, which is empty here, comes first
        _, place = _varint(footer, place)
    offset, place = _varint(footer, place)
    size, _ = _varint(footer, place)
    for _, handle in _block(content, offset, size):
        offset, place = _varint(handle, 0)
        size, _ = _varint(handle, place)
        yield from _block(content, offset, size)


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    block = content[offset : offset + size]
    compression, crc = TRAILER.unpack_from(content, offset + size)
    if compression:
        raise ValueError("the index has compressed blocks, which are not readable")
    if mask(crc32c(content[offset : offset + size + 1])) != crc:
        raise ValueError("the crc32c of a block of the index is wrong: the file is damaged")
    (restarts,) = struct.unpack("<I", block[-4:])
    end, place, key = len(block) - 4 * (restarts + 1), 0, b""
    while place < end:
        shared, place = _varint(block, place)
        rest, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + rest]
        place += rest
        yield key, block[place : place + length]
        place += length


def _place(entry: bytes) -> Place:
    """A BundleEntryProto: dtype 1, shape 2, shard 3, offset 4, size 5, crc 6 (7: slices)."""
    fields = _fields(entry)
    if 7 in fields:
        raise ValueError("a tensor in slices: not readable")
    shape = [message for message in fields.get(2, []) if isinstance(message, bytes)]
    dims = [dim for message in shape for dim in _fields(message).get(2, [])]
    sizes = (_number(_fields(dim), 1) for dim in dims if isinstance(dim, bytes))
    dtype, shard, offset, size, crc = (_number(fields, field) for field in (1, 3, 4, 5, 6))
    return Place(dtype, tuple(sizes), shard, offset, size, crc)


def _number(fields: dict[int, list[int | bytes]], field: int) -> int:
    """A field's number, 0 if it is not there, as protobuf has it."""
    value = fields.get(field, [0])[-1]
    if not isinstance(value, int):
        raise ValueError(f"not an index of a TensorFlow checkpoint: field {field} is no number")
    return value


def _fields(message: bytes) -> dict[int, list[int | bytes]]:
    """A protobuf message's values by field number."""
    place, fields = 0, dict[int, list[int | bytes]]()
    while place < len(message):
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        value: int | bytes
        if kind == VARINT:
            value, place = _varint(message, place)
        elif kind == BYTES:
            length, place = _varint(message, place)
            value, place = message[place : place + length], place + length
        elif kind in (FIXED32, FIXED64):
            (value,) = struct.unpack_from("<I" if kind == FIXED32 else "<Q", message, place)
            place += 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"not an index of a TensorFlow checkpoint: wire type {kind}")
        fields.setdefault(number, []).append(value)
    return fields


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of 7 bits per byte, and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        value, shift, place = value | (byte & 0x7F) << shift, shift + 7, place + 1
        if byte < 0x80:
            return value, place
