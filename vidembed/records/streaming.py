"""Shards of records as one stream of parsed chunks, read ahead by Grain's threads."""

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any

import grain
from etils import epath

from vidembed.records.faults import OnError, Skips
from vidembed.records.youtube8m import VideoLevel, Videos, read_videos


def stream_videos(
    files: Sequence[epath.Path],
    format: VideoLevel,
    *,
    on_error: OnError = "error",
    skips: Skips | None = None,
    workers: int = 2,
    chunk_records: int = 2048,
) -> Generator[tuple[int, Videos]]:
    """(shard number, Videos), in order whatever `workers` is; close it when leaving early.

    `workers` shards are read at a time, each a chunk or two ahead. An element is a chunk, never a
    record: one costs Grain some 40 µs, ten times the parsing of a record.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; at least 1 is needed")
    stop = threading.Event()

    def chunks(number: int, file: epath.Path) -> Iterator[tuple[int, Videos]]:
        counted = skips if on_error == "skip" else None
        for videos in read_videos(
            file, format, on_error=on_error, skips=counted, chunk_records=chunk_records
        ):
            if stop.is_set():
                return
            yield number, videos

    # Cycling through one shard at a time makes the order that of the shards; the ones after it
    # are being read meanwhile.
    stream = iter(
        grain.experimental.InterleaveIterDataset(
            [_Chunks(partial(chunks, number, file)) for number, file in enumerate(files)],
            cycle_length=1,
            make_iter_buffer_size=max(1, workers - 1),
        )
    )
    try:
        yield from stream
    finally:
        # Grain's own close forgets the shards that are read ahead: their threads would wait for
        # ever. Told to stop, each comes to its end.
        stop.set()
        _exhaust(stream, len(files))
        stream.close()


def _exhaust(stream: Iterator[Any], shards: int) -> None:
    """Take what was read ahead, and whatever each of the shards still raises."""
    for _ in range(shards + 1):
        with contextlib.suppress(Exception):
            for _ in stream:
                pass
            return


class _Chunks(grain.IterDataset):
    """The chunks of one shard."""

    def __init__(self, read: Callable[[], Iterator[Any]]) -> None:
        super().__init__()
        self._read = read

    def __iter__(self) -> "_ChunkIterator":
        return _ChunkIterator(self._read)


class _ChunkIterator(grain.DatasetIterator):
    """A position in a shard; Grain asks for its state after every chunk."""

    def __init__(self, read: Callable[[], Iterator[Any]]) -> None:
        super().__init__()
        self._read, self._chunks, self._taken = read, read(), 0

    def __next__(self) -> Any:
        chunk = next(self._chunks)
        self._taken += 1
        return chunk

    def get_state(self) -> dict[str, Any]:
        return {"taken": self._taken}

    def set_state(self, state: dict[str, Any]) -> None:
        self._chunks, self._taken = self._read(), 0
        for _ in range(state["taken"]):
            next(self)
