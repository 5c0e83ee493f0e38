"""An index of record offsets beside a TFRecord file, for random access.

The index file is `<shard>.offsets`: magic, size and digest of the shard, count, i64 starts and
stops, and a digest of all that; little-endian. It is a cache: built by reading (and checking) the
shard once, rebuilt when the shard changes, and kept only in memory if the folder is read-only.
"""

import logging
import struct
from os import PathLike
from typing import NamedTuple

import numpy as np
import xxhash
from etils import epath

from vidembed.files import write_bytes
from vidembed.records.crcs import FOOTER, HEADER, is_gzip
from vidembed.records.faults import Faults, RecordError, Skips
from vidembed.records.framing import read_blocks
from vidembed.records.remote import ends_digest
from vidembed.records.shards import OFFSETS_SUFFIX

_MAGIC = b"vidOffs1"
_HEAD = struct.Struct("<8sQ16sQ")
_DIGEST_BYTES = 16

_log = logging.getLogger(__name__)


class Offsets(NamedTuple):
    """The n records of one shard: bytes [starts[i], stops[i]) hold the i-th with its framing, and
    numbers[i] is its number in the file (counting skipped records); all i64[n]."""

    starts: np.ndarray
    stops: np.ndarray
    numbers: np.ndarray


def read_offsets(path: str | PathLike[str], *, skips: Skips | None = None) -> Offsets:
    """The index of a shard: read if there is a valid one, else built and stored if possible.

    An index is valid if its digest, the shard's size, and a digest of the shard's first and last
    64 KiB agree; other changes are detected by the crcs when records are read. Raises RecordError
    as `read_records` does, and for a gzip file, which has no random access.
    """
    shard = epath.Path(path)
    sidecar = shard.with_name(shard.name + OFFSETS_SUFFIX)
    size = shard.stat().length
    identity = ends_digest(shard, size)
    stored = _load(sidecar, size, identity)
    if stored is not None:
        return stored
    offsets, faultless = _build(shard, skips)
    if faultless:  # otherwise the faults must be reported each time
        _store(sidecar, size, identity, offsets)
    return offsets


def _build(path: epath.Path, skips: Skips | None) -> tuple[Offsets, bool]:
    refuse_gzip(path)
    faults = Faults(path, skips)
    starts, sizes, numbers = [], [], []
    for block in read_blocks(path, faults):
        starts.append(block.offsets)
        sizes.append(block.stops - block.starts + HEADER.size + FOOTER.size)
        numbers.append(block.numbers)
    empty = np.empty(0, np.int64)
    begin = np.concatenate([empty, *starts])
    offsets = Offsets(
        begin, begin + np.concatenate([empty, *sizes]), np.concatenate([empty, *numbers])
    )
    return offsets, faults.count == 0


def refuse_gzip(path: epath.Path) -> None:
    """Raise RecordError for a gzip file, which has no random access."""
    with path.open("rb") as file:
        if is_gzip(file.read(HEADER.size)):
            fault = "a gzip file has no random access; decompress it, or read it as a stream"
            raise RecordError(path, 0, 0, fault)


def _load(sidecar: epath.Path, size: int, identity: bytes) -> Offsets | None:
    try:
        data = sidecar.read_bytes()
    except FileNotFoundError:
        return None
    body = data[:-_DIGEST_BYTES]
    if len(body) < _HEAD.size or xxhash.xxh3_128_digest(body) != data[-_DIGEST_BYTES:]:
        _log.warning("%s is damaged: rebuilding the index", sidecar)
        return None
    magic, shard_size, shard_identity, count = _HEAD.unpack_from(body)
    if (magic, shard_size, shard_identity) != (_MAGIC, size, identity):
        _log.warning("%s does not match its shard, which has changed: rebuilding it", sidecar)
        return None
    starts, stops = np.frombuffer(body, "<i8", offset=_HEAD.size).reshape(2, count)
    return Offsets(starts, stops, np.arange(count))


def _store(sidecar: epath.Path, size: int, identity: bytes, offsets: Offsets) -> None:
    body = _HEAD.pack(_MAGIC, size, identity, len(offsets.starts))
    body += offsets.starts.astype("<i8").tobytes() + offsets.stops.astype("<i8").tobytes()
    try:
        write_bytes(sidecar, body + xxhash.xxh3_128_digest(body))
    except Exception as error:  # each kind of storage has its own error for "read-only"
        _log.info("%s cannot be written (%s): the index stays in memory", sidecar, error)
