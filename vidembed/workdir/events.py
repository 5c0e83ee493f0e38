"""TensorBoard's event file, written by whoever logs and at once.

tensorboardX's own writer has a thread: when that one cannot write, on a disk that is full, it ends
in silence, its queue fills, and the run waits for ever for room in it.
"""

import socket
import time
import uuid
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from vidembed.records.framing import frame


class Events:
    """One new file of scalars in a local folder; events from `purge_step` on in older ones are
    void. What cannot be written raises OSError, at the latest in `flush`."""

    def __init__(self, folder: Path, *, purge_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        self._file = (folder / f"{name}.{uuid.uuid4().hex[:8]}").open("wb")
        self._write(file_version="brain.Event:2")
        self._write(purge_step, session_log=SessionLog(status=SessionLog.START))

    def add(self, name: str, value: float, step: int) -> None:
        """The value of a scalar after `step` updates."""
        self._write(step, summary=scalar(name, value))

    def flush(self) -> None:
        """Lets readers see what was added."""
        self._file.flush()

    def close(self) -> None:
        """Writes what is left; the file is closed whether or not the disk takes it."""
        self._file.close()

    def _write(self, step: int = 0, **what: object) -> None:
        event = Event(wall_time=time.time(), step=step, **what)
        self._file.write(frame(event.SerializeToString()))
