"""Stream the parsed chunks of several shards, read ahead by threads."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import TypeVar

from etils import epath

from vidembed.records.faults import Skips
from vidembed.records.formats import VideoLevel
from vidembed.records.youtube8m import Videos, read_videos

_CHUNKS_AHEAD = 2  # per shard
_Chunk = TypeVar("_Chunk")


def stream_videos(
    files: Sequence[epath.Path],
    format: VideoLevel,
    *,
    skips: Skips | None = None,
    workers: int = 2,
    read_file: Callable[..., Iterator[Videos]] | None = None,
) -> Generator[tuple[int, Videos]]:
    """(shard number, Videos), in order for any `workers`; close it when leaving early.

    read_file: a reader like `read_videos`, for files of another kind. Otherwise as `stream_chunks`.
    """

    def read(file: epath.Path) -> Iterator[Videos]:
        return (read_file or read_videos)(file, format, skips=skips)

    return stream_chunks(files, read, workers=workers)


def stream_chunks(
    files: Sequence[epath.Path],
    read_file: Callable[[epath.Path], Iterator[_Chunk]],
    *,
    workers: int = 2,
) -> Generator[tuple[int, _Chunk]]:
    """(file number, chunk) of all files, in order for any `workers`; close it when leaving early.

    `workers` files are read at a time, each a few chunks ahead. An exception in a file is raised
    in place of its next chunk. No chunk is None.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; at least 1 is needed")
    stop = threading.Event()

    def read(file: epath.Path, chunks: Queue[_Chunk | Exception | None]) -> None:
        """Queue each chunk of a shard, then None or the exception that ended it."""
        end = None
        try:
            for chunk in read_file(file):
                chunks.put(chunk)
                if stop.is_set():
                    return
        except Exception as error:
            end = error
        chunks.put(end)

    pool = ThreadPoolExecutor(workers, "shard")
    ahead = deque[Queue[_Chunk | Exception | None]]()
    try:
        for number in range(len(files)):
            for file in files[number + len(ahead) : number + workers]:
                ahead.append(Queue(_CHUNKS_AHEAD))
                pool.submit(read, file, ahead[-1])
            while (following := ahead[0].get()) is not None:
                if isinstance(following, Exception):
                    raise following
                yield number, following
            ahead.popleft()
    finally:
        # Make room in the queues, so that waiting threads can end.
        stop.set()
        for chunks in ahead:
            while not chunks.empty():
                chunks.get()
        pool.shutdown()
