"""A file of arrays that is memory-mapped, not read. Its header and size are checked on opening, and
each MiB has a digest, so that all or part of it can be verified.

Layout: 24 bytes (magic, length and digest of the header), the header (JSON, padded so that the body
starts at a multiple of 4,096), the body: arrays, each at a multiple of 64. No pickle.
"""

import json
import mmap
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash

from vidembed.files import whole_file

MAGIC = b"vidembed"
FORMAT = 1
BLOCK = 1 << 20
PAGE, ALIGNED = 4096, 64
REMEDY = "restore the folder from a copy, go back with Index.rollback, or make the index again"
_PREAMBLE = struct.Struct("<8sQQ")


class DamagedIndexError(ValueError):
    """A truncated or changed file of an index; the message names file, place and remedy."""

    def __init__(self, path: object, fault: str) -> None:
        super().__init__(f"{path} is damaged: {fault}; {REMEDY}")
        self.fault = fault


def write_blocks(
    path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> str:
    """Write a file, whole or not at all; return the digest of its header.

    header: JSON values, read back as `Blocks.header`. arrays: numbers, bool or bytes S[N]. Raises
    OSError, naming the file, if the disk is full; no part of the file remains.
    """
    places, size = _places(arrays)
    described = {
        "format": FORMAT,
        "header": dict(header),
        "arrays": places,
        "size": size,
        "block": BLOCK,
        "digests": [f"{0:016x}"] * -(-size // BLOCK),
    }
    begin = -(-(_PREAMBLE.size + len(_json(described))) // PAGE) * PAGE
    with whole_file(path) as unfinished, open(unfinished, "wb") as file:
        file.seek(begin)
        described["digests"] = _write_body(file, arrays, places, size)
        text = _json(described).ljust(begin - _PREAMBLE.size)
        file.seek(0)
        file.write(_PREAMBLE.pack(MAGIC, len(text), xxhash.xxh3_64_intdigest(text)))
        file.write(text)
        file.flush()
        # A rename gives the file its name; after a power cut it must not precede the data.
        os.fsync(file.fileno())
    return xxhash.xxh3_64_hexdigest(text)


def _json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode()


def _places(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], int]:
    """The position of each array in the body, and the size of the body in bytes."""
    places, size = {}, 0
    for name, array in arrays.items():
        if array.dtype.kind not in "biufS":
            raise TypeError(
                f"array {name!r} is {array.dtype}: only numbers, bool and bytes are stored"
            )
        begin = -(-size // ALIGNED) * ALIGNED
        places[name] = {"dtype": array.dtype.str, "shape": list(array.shape), "begin": begin}
        size = begin + array.nbytes
    return places, size


def _write_body(
    file: BinaryIO, arrays: Mapping[str, np.ndarray], places: Mapping[str, Any], size: int
) -> list[str]:
    """Write the arrays at their places; return the digest of every block."""
    digests, digest, filled, written = [], xxhash.xxh3_64(), 0, 0
    for name, array in arrays.items():
        gap = places[name]["begin"] - written
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for part in (memoryview(bytes(gap)), data.data):
            written += len(part)
            while len(part):
                piece, part = part[: BLOCK - filled], part[BLOCK - filled :]
                file.write(piece)
                digest.update(piece)
                filled += len(piece)
                if filled == BLOCK:
                    digests.append(digest.hexdigest())
                    digest.reset()
                    filled = 0
    return [*digests, digest.hexdigest()] if filled else digests


class Blocks:
    """An open file written by `write_blocks`: the header is checked, arrays are mapped read-only.

    Raises FileNotFoundError, DamagedIndexError for another kind of file or a header or size that
    differs from what was written, and ValueError for a format of another version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with open(self.path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(_PREAMBLE.size)
            if len(start) < _PREAMBLE.size:
                raise DamagedIndexError(path, f"it is truncated to {size} bytes")
            magic, length, digest = _PREAMBLE.unpack(start)
            if magic != MAGIC:
                raise DamagedIndexError(path, "it does not start like a file of an index")
            if length > size:
                raise DamagedIndexError(
                    path, f"it is truncated within its header, at {size:,} bytes"
                )
            text = file.read(length)
            if xxhash.xxh3_64_intdigest(text) != digest:
                raise DamagedIndexError(path, "its header differs from what was written")
            described = json.loads(text)
            if described["format"] != FORMAT:
                raise ValueError(
                    f"{path} has format {described['format']}, this version reads {FORMAT}: "
                    "use the version that wrote it, or make the index again"
                )
            self._begin = _PREAMBLE.size + length
            self.size = self._begin + described["size"]
            if size != self.size:
                raise DamagedIndexError(path, f"it has {size:,} bytes, {self.size:,} were written")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._scattered = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # Otherwise each row read would load 128 kB of its neighbours.
        self._scattered.madvise(mmap.MADV_RANDOM)
        self.digest = f"{digest:016x}"
        self.header: dict[str, Any] = described["header"]
        self._places, self._digests = described["arrays"], described["digests"]
        self._block = described["block"]
        self._verified: set[int] = set()

    @property
    def names(self) -> list[str]:
        """Names of the arrays in the file."""
        return list(self._places)

    def array(self, name: str, *, scattered: bool = False) -> np.ndarray:
        """A mapped array: its bytes are read when used, and not verified.

        scattered: optimise for reading single rows, without read-ahead.
        """
        place = self._places[name]
        dtype, shape = np.dtype(place["dtype"]), place["shape"]
        count = int(np.prod(shape))
        if not count:
            return np.zeros(shape, dtype)
        mapped = self._scattered if scattered else self._map
        return np.frombuffer(mapped, dtype, count, self._begin + place["begin"]).reshape(shape)

    def verified(self, name: str) -> np.ndarray:
        """A mapped array, after comparing all its blocks with their digests (about 10 GB/s)."""
        place = self._places[name]
        array = self.array(name)
        first, last = (
            place["begin"] // self._block,
            -(-(place["begin"] + array.nbytes) // self._block),
        )
        self._verify(range(first, last) if array.nbytes else range(0))
        return array

    def verified_rows(self, name: str, rows: np.ndarray) -> np.ndarray:
        """A mapped array, after comparing the blocks with rows i64[n] with their digests."""
        array = self.array(name, scattered=True)
        if len(rows):
            size = array.nbytes // len(array)
            begins = self._places[name]["begin"] + np.unique(rows) * size
            first, last = begins // self._block, (begins + size - 1) // self._block
            spans = np.arange((last - first).max() + 1)
            self._verify(np.unique(np.minimum(first[:, None] + spans, last[:, None])).tolist())
        return array

    def verify(self) -> int:
        """Read every block again and compare it with its digest; return the file size in bytes."""
        self._verified.clear()
        self._verify(range(len(self._digests)))
        return self.size

    def _verify(self, blocks: Iterable[int]) -> None:
        damaged = []
        for number in blocks:
            if number in self._verified:
                continue
            begin = self._begin + number * self._block
            data = memoryview(self._map)[begin : begin + self._block]
            if xxhash.xxh3_64_hexdigest(data) != self._digests[number]:
                damaged.append(number)
            else:
                self._verified.add(number)
        if damaged:
            begin = self._begin + damaged[0] * self._block
            raise DamagedIndexError(
                self.path,
                f"{len(damaged)} of {len(self._digests)} blocks differ from what was written, the "
                f"first at byte {begin:,} ({', '.join(self._names_at(damaged[0]))})",
            )

    def _names_at(self, number: int) -> list[str]:
        begin, end = number * self._block, (number + 1) * self._block
        return [
            name
            for name, place in self._places.items()
            if place["begin"] < end and place["begin"] + self.array(name).nbytes > begin
        ]
