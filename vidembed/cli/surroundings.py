"""What surrounds a command: its signals, its pipes, its terminal. The one place for them all."""

import contextlib
import errno
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from vidembed.distributed.stopped import StoppedError

STOPPING = "stopped as asked; what was unfinished is removed, and the same command does it again"
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Surroundings:
    """Around a command, with Surroundings() as around: ...

    Signals. SIGTERM and SIGHUP (the terminal was closed) raise StoppedError, and SIGINT (Ctrl-C)
    KeyboardInterrupt, so that whatever is unfinished is removed; `StopFlag` takes their place where
    there is something to save. The first is kept in `asked`: a library may make an error of its own
    of it (DuckDB does). A signal that is ignored from the start (nohup) stays ignored.

    Output. A stream that can be written no longer, since its pipe or terminal was closed, is
    exchanged for nothing and asks the process to stop as SIGTERM does: what is to be saved is
    saved. A terminal that cannot show a character shows "?" instead.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        """The signal that came first, where no StopFlag took it."""
        self.closed: OSError | None = None
        """Why a stream can be written no longer."""
        self._handlers: dict[int, Any] = {}
        self._streams: dict[str, Any] = {}
        self._over = False

    def __enter__(self) -> "Surroundings":
        if threading.current_thread() is threading.main_thread():
            # Among several hosts SIGTERM is JAX's own.
            jax = sys.modules.get("jax")
            several = jax is not None and jax.distributed.is_initialized()
            for number in _HANDLED[several:]:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._on_signal)
        for name in ("stdout", "stderr"):
            stream = self._streams[name] = getattr(sys, name)
            # Python has none where the shell closed it (>&-); the first file opened would be it.
            setattr(sys, name, stream or open(os.devnull, "w"))
        show_any_character()
        for name in self._streams:
            setattr(sys, name, _Stream(self, name, getattr(sys, name)))
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self.flush()
        for name, stream in self._streams.items():
            setattr(sys, name, stream)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def done(self) -> None:
        """A stream that fails from here on stops nothing: the work is done, or goes to files."""
        self._over = True
        self.flush()

    def finished(self, code: int = 0) -> int:
        """The exit code of work that is done; lost output is said, and makes 1 of 0."""
        self.done()
        if words := lost_output(self.closed):
            print(words, file=sys.stderr)
        return code or int(bool(words))

    def flush(self) -> None:
        """Writes what Python holds back, so that a stream that fails does it now."""
        for name in self._streams:
            getattr(sys, name).flush()

    def lose(self, name: str, stream: Any, error: OSError) -> None:
        """A stream can be written no longer: says so on the other one, and asks to stop."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # What is held back goes nowhere, and Python's own end finds nothing to complain of.
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)
        if self.closed is not None:
            return
        self.closed = error
        if self._over:
            return
        other = sys.stdout if name == "stderr" else sys.stderr
        why = error.strerror or "it is closed"
        print(f"{name} can be written no longer ({why}): stopping", file=other, flush=True)
        signal.raise_signal(signal.SIGTERM)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        first, self.asked = self.asked is None, self.asked or number
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        # Once: what it unwinds must not be interrupted in turn.
        if first:
            raise StoppedError(STOPPING)


class _Stream:
    """stdout or stderr; see `Surroundings`."""

    def __init__(self, around: Surroundings, name: str, stream: Any) -> None:
        self._around, self._name, self._stream = around, name, stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._around.lose(self._name, self._stream, error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._around.lose(self._name, self._stream, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def show_any_character() -> None:
    """Makes stdout and stderr write "?" for what their encoding lacks, and raise nothing."""
    for stream in (sys.stdout, sys.stderr):
        # What tests and notebooks put in their place may have no encoding.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def lost_output(error: OSError | None) -> str:
    """The message for output that was lost, though the work is done; "" where nobody wanted it."""
    if error is None or error.errno in (errno.EPIPE, errno.EIO):
        return ""
    return f"error: the output could not be written: {error.strerror}"
