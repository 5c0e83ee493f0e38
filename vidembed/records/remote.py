"""Read byte ranges and digests of files that may be remote, with few requests."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec
import xxhash
from etils import epath

from vidembed.files import is_remote

REQUESTS = 16  # at a time, to a bucket
_END_BYTES = 1 << 16


def requests_to(path: object) -> ThreadPoolExecutor:
    """A thread pool for reading several files: `REQUESTS` threads for a bucket, one for a disk."""
    return ThreadPoolExecutor(REQUESTS if is_remote(path) else 1)


def read_range(path: epath.Path, start: int, stop: int) -> bytes:
    """The bytes [start, stop) of a file; fewer if the file is shorter."""
    if is_remote(path):
        # Opening a remote file would request its size and then read megabytes ahead.
        system, name = fsspec.url_to_fs(str(path))
        return bytes(system.cat_file(name, start, stop))
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        return file.read(stop - start)


def ends_digest(path: epath.Path, size: int) -> bytes:
    """A digest of the first and last 64 KiB of a file of `size` bytes; a full one is too slow."""
    digest = xxhash.xxh3_128(read_range(path, 0, min(size, _END_BYTES)))
    digest.update(read_range(path, max(0, size - _END_BYTES), size))
    return digest.digest()


def identities(files: Sequence[epath.Path], names: Sequence[str]) -> list[dict[str, Any]]:
    """{name, bytes, ends} of each shard: the same for a copy, whatever its modification time."""

    def identity(file: epath.Path, name: str) -> dict[str, Any]:
        size = file.stat().length
        return {"name": name, "bytes": size, "ends": ends_digest(file, size).hex()}

    with requests_to(files[0]) as pool:
        return list(pool.map(identity, files, names))
