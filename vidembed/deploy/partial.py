"""Store computed vectors until the output is written, so that an interrupted embedding resumes.

They lie in `OUT.partial` beside the output, block by block, each with a digest of its videos. A
block is reused if the same run computed it from the same features, whatever else changed.
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
"""Header of a block: rows, digest of the vectors, digest of the videos; f32[rows, D] follows."""


class PartialVectors:
    """Blocks of vectors in a file: reads the stored blocks in order, then appends new ones.

    file: None stores nothing. videos: number of videos processed. taken_over: number of these whose
    vectors were read from the file.
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
        """The vectors f32[N, D] of the next N videos: read if an earlier process stored them for
        the same features, else computed and stored."""
        return self.keyed(len(rows), _digest(rows) if self._file else b"", compute)

    def keyed(self, count: int, key: bytes, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """As `block`, of `count` videos that 16 bytes identify."""
        vectors = self._vectors(self._file, count, key, compute) if self._file else compute()
        self.videos += count
        return vectors

    def _vectors(
        self, file: BinaryIO, count: int, key: bytes, compute: Callable[[], np.ndarray]
    ) -> np.ndarray:
        begin = file.tell()
        if self._reading:
            stored = self._stored(file, count, key)
            if stored is not None:
                self.taken_over += count
                return stored
            self._write_from(file, begin)
        vectors = np.ascontiguousarray(compute(), "<f4")
        head = _BLOCK.pack(count, xxhash.xxh3_64_intdigest(vectors.data), key)
        _write(file, head + vectors.tobytes())
        return vectors

    def _stored(self, file: BinaryIO, count: int, key: bytes) -> np.ndarray | None:
        """Read the next block; None if it is truncated, damaged, or of other videos."""
        head = file.read(_BLOCK.size)
        if len(head) < _BLOCK.size:
            return None
        rows, digest, stored_key = _BLOCK.unpack(head)
        if (rows, stored_key) != (count, key):
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
    """The partial vectors of an output, in a space, with D = size; a remote output has none.

    The file is removed when the block ends without an error, and when the disk is full; otherwise
    it stays, and a warning names it. Raises BlockingIOError if another process is writing the same
    output.
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
                errno.EAGAIN,
                "another process is writing these vectors: wait until it ends",
                str(out),
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
                    "the vectors of %s videos are kept in %s: the same command resumes from there",
                    f"{partial.videos:,}",
                    place,
                )
            raise
        place.unlink(missing_ok=True)


def _write(file: BinaryIO, data: bytes) -> None:
    """Write everything to the unbuffered file: a buffered one would write again on closing."""
    try:
        written = file.write(data)
        while written < len(data):
            written += file.write(data[written:])
    except OSError as error:
        why = f"{error.strerror}; free some space and run it again"
        raise OSError(error.errno, why, file.name) from error


def _digest(rows: VideoRows) -> bytes:
    """A digest of everything that a run reads of the videos, 16 bytes."""
    digest = xxhash.xxh3_128()
    for arrays in (rows.features, rows.present):
        for name, array in sorted(arrays.items()):
            own = f"{rows.ranges[name]!r} " if name in rows.ranges else ""
            digest.update(f"{name} {array.dtype} {own}".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.digest()
