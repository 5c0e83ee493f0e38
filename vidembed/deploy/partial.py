"""Vectors that were made and are not written out yet: where a broken-off embedding goes on.

They lie in `OUT.partial` beside the output, block by block, each under a digest of its videos: a
block is taken over if the same run made it of the same features, whatever else was changed.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
import xxhash

from vidembed import files
from vidembed.deploy.inputs import VideoRows

_log = logging.getLogger(__name__)
_BLOCK = struct.Struct("<QQ16s")
"""Of a block: rows, digest of the vectors, digest of the videos; then f32[rows, D]."""


class PartialVectors:
    """Blocks in a file: those that are there are read in their order, what follows is appended.

    file: None keeps nothing. videos: how many blocks were asked for, in videos. taken_over: how
    many of them were there.
    """

    def __init__(self, file: BinaryIO | None, space: str, size: int) -> None:
        self._file, self._size = file, size
        self.videos = self.taken_over = 0
        if file is None:
            return
        header = json.dumps({"space": space, "size": size}).encode() + b"\n"
        self._reading = file.read(len(header)) == header
        if not self._reading:
            self._write_from(file, 0)
            _write(file, header)

    def block(self, rows: VideoRows, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The vectors f32[N, D] of the next N videos: as an earlier process made them of the same
        features, else computed and stored."""
        vectors = self._vectors(self._file, rows, compute) if self._file else compute()
        self.videos += len(rows)
        return vectors

    def _vectors(
        self, file: BinaryIO, rows: VideoRows, compute: Callable[[], np.ndarray]
    ) -> np.ndarray:
        begin, key = file.tell(), _digest(rows)
        if self._reading:
            stored = self._stored(file, len(rows), key)
            if stored is not None:
                self.taken_over += len(rows)
                return stored
            self._write_from(file, begin)
        vectors = np.ascontiguousarray(compute(), "<f4")
        head = _BLOCK.pack(len(rows), xxhash.xxh3_64_intdigest(vectors.data), key)
        _write(file, head + vectors.tobytes())
        return vectors

    def _stored(self, file: BinaryIO, count: int, key: bytes) -> np.ndarray | None:
        """The block that is read next; None where it is cut, damaged, or of other videos."""
        head = file.read(_BLOCK.size)
        if len(head) < _BLOCK.size:
            return None
        rows, digest, of = _BLOCK.unpack(head)
        if (rows, of) != (count, key):
            return None
        data = file.read(4 * rows * self._size)
        if xxhash.xxh3_64_intdigest(data) != digest:
            return None
        return np.frombuffer(data, "<f4").reshape(rows, self._size)

    def _write_from(self, file: BinaryIO, place: int) -> None:
        file.seek(place)
        file.truncate()
        self._reading = False


@contextlib.contextmanager
def partial_vectors(out: str | os.PathLike[str], space: str, size: int) -> Iterator[PartialVectors]:
    """The partial vectors of an output, of a space and D = size; a remote one has none.

    They are removed when the block ends well, and where the disk is full; else they stay, and a
    warning says where. Raises BlockingIOError where another process is writing the same output.
    """
    if files.is_remote(out):
        yield PartialVectors(None, space, size)
        return
    place = files.local_path(os.fspath(out) + ".partial")
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place, "a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                errno.EAGAIN, "another process is writing these vectors: let it end", str(out)
            ) from error
        file.seek(0)
        partial = PartialVectors(file, space, size)
        try:
            yield partial
        except BaseException as error:
            if not partial.videos or (isinstance(error, OSError) and files.is_full(error)):
                place.unlink(missing_ok=True)
            else:
                _log.warning(
                    "the vectors of %s videos are kept in %s: the same command goes on from there",
                    f"{partial.videos:,}",
                    place,
                )
            raise
        place.unlink(missing_ok=True)


def _write(file: BinaryIO, data: bytes) -> None:
    """All of it, to a file without a buffer, which would write again as it is closed."""
    try:
        written = file.write(data)
        while written < len(data):
            written += file.write(data[written:])
    except OSError as error:
        why = f"{error.strerror}; free some space and run it again"
        raise OSError(error.errno, why, file.name) from error


def _digest(rows: VideoRows) -> bytes:
    """A digest of all that a run reads of videos, 16 bytes."""
    digest = xxhash.xxh3_128()
    for arrays in (rows.features, rows.present):
        for name, array in sorted(arrays.items()):
            digest.update(f"{name} {array.dtype} ".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.digest()
