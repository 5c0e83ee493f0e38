"""Whether a shard is still the one it was: by its name, its size and its ends."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import xxhash
from etils import epath

from vidembed.records.ranges import read_range
from vidembed.storage import is_remote

_END_BYTES = 1 << 16
_REQUESTS = 16  # at a time, to a bucket


def ends_digest(path: epath.Path, size: int) -> bytes:
    """A digest of the first and last 64 KiB of a file of `size` bytes; all of it takes too long."""
    digest = xxhash.xxh3_128(read_range(path, 0, min(size, _END_BYTES)))
    digest.update(read_range(path, max(0, size - _END_BYTES), size))
    return digest.digest()


def identities(files: Sequence[epath.Path], names: Sequence[str]) -> list[dict[str, Any]]:
    """{name, bytes, ends} of each shard: the same for a copy, whatever its time of change."""

    def identity(file: epath.Path, name: str) -> dict[str, Any]:
        size = file.stat().length
        return {"name": name, "bytes": size, "ends": ends_digest(file, size).hex()}

    with ThreadPoolExecutor(_REQUESTS if is_remote(files[0]) else 1) as pool:
        return list(pool.map(identity, files, names))
