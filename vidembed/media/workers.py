"""Decode many files in worker processes: a file that hangs or crashes costs that file alone."""

import collections
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing import resource_tracker
from typing import Any

from vidembed.media.container import check_installed
from vidembed.media.inputs import Block, Input
from vidembed.media.videos import VideoFile
from vidembed.media.worker import Message, receive, work

_START_SECONDS = 120
_POLL_SECONDS = 0.5


class DecodedFile:
    """A file that is being decoded. After `blocks` is exhausted:

    trouble: what of the file could not be decoded. error: why nothing could be, or why decoding
    ended early (crash, or silence longer than the patience); None otherwise. decode_seconds: time
    the worker spent on it, without waiting for the consumer.
    """

    def __init__(self, file: VideoFile, messages: Iterator[Message]) -> None:
        self.file = file
        self.trouble: list[str] = []
        self.error: str | None = None
        self.decode_seconds = 0.0
        self._messages = messages

    def blocks(self) -> Iterator[tuple[str, Block]]:
        """The blocks with the names of their inputs: all of the first input, then of the next."""
        for message, block in self._messages:
            if block is not None:
                yield message["block"], block
            elif "end" in message:
                self.trouble, self.error = message["trouble"], message["error"]
                self.decode_seconds = message["seconds"]


def decoded(
    files: Iterable[VideoFile],
    inputs: Mapping[str, Input],
    *,
    workers: int,
    patience_seconds: float = 60,
) -> Iterator[DecodedFile]:
    """Decode all inputs of each file in `workers` processes.

    Files come out as they become ready, those given first first among these; with one worker, in
    the given order. Exhaust the blocks of a file before taking the next; blocks that were not taken
    are dropped. Each worker holds at most `worker.BLOCKS_AHEAD` + 2 blocks.

    A worker that neither sends a block nor decodes a packet for `patience_seconds` is killed. A
    worker that crashes is replaced. In both cases the file's `error` says so. Closing the iterator,
    or an exception in the loop over it, ends all workers. As with all of multiprocessing, a script
    that calls this must do so below `if __name__ == "__main__":`. Raises ImportError without PyAV,
    and RuntimeError if workers cannot start.
    """
    check_installed()
    if workers < 1 or not patience_seconds > 0:
        raise ValueError(
            f"workers {workers} and patience_seconds {patience_seconds}: at least 1, above 0"
        )
    if not inputs:
        raise ValueError("no inputs: name at least one")
    pool = _Pool(dict(inputs), patience_seconds)
    waiting = iter(files)
    try:
        for file in waiting:
            pool.start(file)
            if len(pool.busy) == workers:
                break
        while pool.busy:
            worker = pool.next_ready()
            decoded_file = DecodedFile(worker.file, pool.messages(worker))
            yield decoded_file
            for _ in decoded_file.blocks():
                pass
            following = next(waiting, None)
            if following is not None:
                pool.start(following)
    finally:
        pool.close()


class _Worker:
    """A worker process and the file that it decodes."""

    def __init__(self, inputs: dict[str, Input], folder: str) -> None:
        context = multiprocessing.get_context("spawn")  # JAX must not be forked
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=work, args=(theirs, inputs, folder), daemon=True, name="vidembed decoder"
        )
        with _for_children():
            self.process.start()
        theirs.close()
        self.file = VideoFile("", "")
        self.ready = False
        self.heard = time.monotonic()
        self.early: collections.deque[Message] = collections.deque()

    def end(self) -> None:
        """Kill the process and wait for it."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class _Pool:
    """Workers that are busy, in the order of their files, and idle ones."""

    def __init__(self, inputs: dict[str, Input], patience_seconds: float) -> None:
        self._inputs, self._patience = inputs, patience_seconds
        self.busy: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._folder = tempfile.TemporaryDirectory(prefix="vidembed-videos-")

    def start(self, file: VideoFile) -> None:
        """Give a file to an idle or new worker."""
        worker = self._idle.pop() if self._idle else _Worker(self._inputs, self._folder.name)
        worker.file, worker.heard = file, time.monotonic()
        self.busy.append(worker)
        with contextlib.suppress(OSError):  # a dead worker is noticed when it is read
            worker.connection.send_bytes(os.fsencode(file.path))

    def next_ready(self) -> _Worker:
        """Wait for the first worker whose file has a block or has ended."""
        while True:
            connections = [worker.connection for worker in self.busy]
            ready = multiprocessing.connection.wait(connections, _POLL_SECONDS)
            for worker in self.busy:
                message = self._receive(worker, waits=False) if worker.connection in ready else None
                if message is None and self._is_silent(worker):
                    message = self._ended(worker, self._hung())
                if message is not None:
                    worker.early.append(message)
                    return worker

    def messages(self, worker: _Worker) -> Iterator[Message]:
        """The messages about a worker's file, until its end; the worker is idle afterwards."""
        while True:
            message = worker.early.popleft() if worker.early else self._receive(worker, waits=True)
            if message is None:
                continue
            if "end" in message[0]:
                self.busy.remove(worker)
                if worker.process.is_alive() and not message[0].get("gone"):
                    self._idle.append(worker)
                yield message
                return
            yield message

    def close(self) -> None:
        """End all workers."""
        for worker in (*self.busy, *self._idle):
            worker.process.kill()
        for worker in (*self.busy, *self._idle):
            worker.end()
        self._folder.cleanup()

    def _receive(self, worker: _Worker, *, waits: bool) -> Message | None:
        """A block or the end of the worker's file; None if another message or none has arrived."""
        if waits and not worker.connection.poll(_POLL_SECONDS):
            return self._ended(worker, self._hung()) if self._is_silent(worker) else None
        # A worker that stops in the middle of a message is killed too, which ends the waiting.
        guard = threading.Timer(self._patience, worker.process.kill)
        guard.daemon = True
        guard.start()
        try:
            message, block = receive(worker.connection)
        except (EOFError, OSError):
            worker.process.join(_START_SECONDS)
            return self._ended(worker, _crash(worker.process.exitcode))
        finally:
            guard.cancel()
        worker.heard, worker.ready = time.monotonic(), True
        return (message, block) if block is not None or "end" in message else None

    def _is_silent(self, worker: _Worker) -> bool:
        """Whether a worker has been silent for too long. What it sent is in the pipe until it is
        read, however long that takes, so an empty pipe means silence."""
        patience = self._patience if worker.ready else max(self._patience, _START_SECONDS)
        return time.monotonic() - worker.heard > patience and not worker.connection.poll()

    def _hung(self) -> str:
        return f"nothing of it was decoded for {self._patience:g} seconds; its decoder was ended"

    def _ended(self, worker: _Worker, why: str) -> Message:
        """The message that ends the file of a worker that is gone."""
        worker.end()
        if not worker.ready:
            raise RuntimeError(
                f"a decoding process did not start ({why}). Run in a script, this needs the call "
                'below `if __name__ == "__main__":`'
            )
        end = {"end": True, "gone": True, "trouble": [], "seconds": 0.0}
        return end | {"error": f"{worker.file.path}: {why}"}, None


def _crash(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            memory = ", perhaps for lack of memory" if name == "SIGKILL" else ""
            return f"its decoder was ended by {name}{memory}"
    return f"its decoder ended with exit code {code}"


@contextlib.contextmanager
def _for_children() -> Iterator[None]:
    """Start processes here with one thread for linear algebra, and deaf to Ctrl-C."""
    names: dict[str, Any] = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    before = {name: os.environ.get(name) for name in names}
    resource_tracker.ensure_running()  # which, when it begins, lets signals through again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
