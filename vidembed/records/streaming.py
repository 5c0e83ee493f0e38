"""Stream the parsed chunks of several shards, read ahead by threads."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

from etils import epath

from vidembed.records.faults import Skips
from vidembed.records.formats import VideoLevel
from vidembed.records.youtube8m import Videos, read_videos

_CHUNKS_AHEAD = 2  # per shard
_Chunks = Queue[Videos | Exception | None]


def stream_videos(
    files: Sequence[epath.Path],
    format: VideoLevel,
    *,
    skips: Skips | None = None,
    workers: int = 2,
    read_file: Callable[..., Iterator[Videos]] | None = None,
) -> Generator[tuple[int, Videos]]:
    """(shard number, Videos), in order for any `workers`; close it when leaving early.

    `workers` shards are read at a time, each a few chunks ahead. An exception in a shard is raised
    in place of its next chunk. read_file: a reader like `read_videos`, for files of another kind.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; at least 1 is needed")
    stop = threading.Event()

    def read(file: epath.Path, chunks: _Chunks) -> None:
        """Queue each chunk of a shard, then None or the exception that ended it."""
        end = None
        try:
            for videos in (read_file or read_videos)(file, format, skips=skips):
                chunks.put(videos)
                if stop.is_set():
                    return
        except Exception as error:
            end = error
        chunks.put(end)

    pool, ahead = ThreadPoolExecutor(workers, "shard"), deque[_Chunks]()
    try:
        for number in range(len(files)):
            for file in files[number + len(ahead) : number + workers]:
                ahead.append(Queue(_CHUNKS_AHEAD))
                pool.submit(read, file, ahead[-1])
            while (videos := ahead[0].get()) is not None:
                if isinstance(videos, Exception):
                    raise videos
                yield number, videos
            ahead.popleft()
    finally:
        # Make room in the queues, so that waiting threads can end.
        stop.set()
        for chunks in ahead:
            while not chunks.empty():
                chunks.get()
        pool.shutdown()
