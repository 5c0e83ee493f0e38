"""The process that decodes files for `vidembed.media.workers`, and what it sends.

A message is a JSON object in one piece of bytes; a block is followed by two more pieces, its times
and its values. Nothing that comes from a worker is unpickled.
"""

import contextlib
import json
import os
import queue
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from vidembed.files import is_remote
from vidembed.media.container import MediaError, decoded_count
from vidembed.media.inputs import Block, Input

BEAT_SECONDS = 0.5
"""How often a worker that decodes says so."""
BLOCKS_AHEAD = 4
"""Blocks that wait in a worker for being sent."""

Message = tuple[dict[str, Any], Block | None]


def work(connection: Connection, inputs: Mapping[str, Input], folder: str) -> None:
    """Decode the files whose paths arrive until the connection is closed.

    folder: for local copies of remote files.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    with contextlib.suppress(OSError):  # if memory runs out, the kernel kills this process first
        Path("/proc/self/oom_score_adj").write_text("500")
    import av  # noqa: F401  a fault of the installation shows here, before any file

    send(connection, {"ready": True}, None)
    outbox: queue.Queue[Message] = queue.Queue(BLOCKS_AHEAD)
    threading.Thread(target=_send_all, args=(connection, outbox), daemon=True).start()
    while True:
        try:
            path = connection.recv_bytes().decode(errors="surrogateescape")
        except (EOFError, OSError):
            return
        outbox.put(({"start": True}, None))
        outbox.put((_decode(path, inputs, folder, outbox), None))


def _decode(
    path: str, inputs: Mapping[str, Input], folder: str, outbox: queue.Queue[Message]
) -> dict[str, Any]:
    """Put all blocks of a file into the outbox; returns the message that ends it."""
    trouble: list[str] = []
    error, seconds, any_block = None, 0.0, False
    copy: Path | None = None
    begin = time.perf_counter()
    try:
        local = path
        if is_remote(path):
            local = str(copy := _copied(path, folder))
        for name, value in inputs.items():
            blocks = value.blocks(local, trouble)
            while True:
                block = next(blocks, None)
                seconds += time.perf_counter() - begin
                if block is not None:
                    any_block = True
                    outbox.put(({"block": name}, block))
                begin = time.perf_counter()
                if block is None:
                    break
        if not any_block and trouble:
            error = f"{path}: nothing could be decoded: {'; '.join(trouble)}"
    except MediaError as fault:
        error = str(fault)
    except Exception as fault:
        error = f"{path}: {_described(fault)}"
    finally:
        if copy is not None:
            copy.unlink(missing_ok=True)
    if copy is not None and error:
        error = error.replace(str(copy), path)
    return {"end": True, "trouble": trouble, "error": error, "seconds": seconds}


def _described(fault: Exception) -> str:
    if isinstance(fault, OSError):
        return f"cannot be read: {fault}"
    at = traceback.extract_tb(fault.__traceback__)[-1]
    where = f"{os.path.basename(at.filename)}, line {at.lineno}"
    return f"{type(fault).__name__}: {fault} ({where})"


def _copied(path: str, folder: str) -> Path:
    """A local copy of a remote file: its inputs read it several times, and not in order."""
    number, name = tempfile.mkstemp(suffix=os.path.basename(path)[-40:], dir=folder)
    try:
        with os.fdopen(number, "wb") as copy, epath.Path(path).open("rb") as file:
            shutil.copyfileobj(file, copy, 1 << 22)
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)


def _send_all(connection: Connection, outbox: queue.Queue[Message]) -> None:
    """Send messages, and a beat while packets are being decoded; a thread of its own, so that
    decoding goes on while the parent is busy."""
    count, parent = decoded_count(), os.getppid()
    try:
        while True:
            try:
                message, block = outbox.get(timeout=BEAT_SECONDS)
            except queue.Empty:
                if os.getppid() != parent:
                    os._exit(1)
                if count == (count := decoded_count()):
                    continue
                message, block = {"beat": True}, None
            send(connection, message, block)
    except OSError:  # the parent is gone
        os._exit(1)


def send(connection: Connection, message: dict[str, Any], block: Block | None) -> None:
    """Send a message, with a block or without."""
    if block is None:
        connection.send_bytes(json.dumps(message).encode())
        return
    times = np.ascontiguousarray(block.times, "<f8")
    values = np.ascontiguousarray(block.values)
    message = message | {"dtype": values.dtype.str, "shape": values.shape}
    connection.send_bytes(json.dumps(message).encode())
    connection.send_bytes(_octets(times))
    connection.send_bytes(_octets(values))


def _octets(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def receive(connection: Connection) -> Message:
    """The next message. Raises EOFError or OSError if the worker is gone."""
    message = json.loads(connection.recv_bytes())
    if "block" not in message:
        return message, None
    times = np.frombuffer(connection.recv_bytes(), "<f8")
    values = np.empty(message["shape"], message["dtype"])
    connection.recv_bytes_into(_octets(values))
    return message, Block(times, values)
