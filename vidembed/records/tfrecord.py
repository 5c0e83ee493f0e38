"""TFRecord files: found, read and written, local or remote, plain or gzip."""

import gzip
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from os import PathLike
from typing import Any

from etils import epath

from vidembed.records.faults import Faults, OnError, RecordError, Skips
from vidembed.records.framing import frame, read_blocks
from vidembed.records.shards import shards
from vidembed.storage import whole_file

__all__ = ["OnError", "RecordError", "Skips", "read_records", "shards", "write_records"]


def read_records(
    path: str | PathLike[str], *, on_error: OnError = "error", skips: Skips | None = None
) -> Iterator[bytes]:
    """The payloads of one file, both crcs of each verified.

    Under on_error="skip" a payload with a wrong crc is dropped; a wrong length, a truncation or a
    broken gzip stream drops the rest of the file; each is logged and counted in `skips`.
    Raises RecordError, also for an empty file.
    """
    path = epath.Path(path)
    for block in read_blocks(path, Faults(path, on_error, skips)):
        memory = block.data.data
        for start, stop in zip(block.starts.tolist(), block.stops.tolist()):
            yield memory[start:stop].tobytes()


def write_records(
    path: str | PathLike[str], payloads: Iterable[bytes], *, compress: bool = False
) -> int:
    """Write one file, whole or not at all; returns how many records it holds."""
    count = 0
    with whole_file(path) as unfinished, ExitStack() as stack:
        file: Any = stack.enter_context(unfinished.open("wb"))
        if compress:
            file = stack.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0))
        for payload in payloads:
            file.write(frame(payload))
            count += 1
    return count
