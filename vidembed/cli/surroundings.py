"""Handle a command's signals, pipes and terminal, all in one place."""

import contextlib
import errno
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from vidembed.distributed.stopped import StoppedError

STOPPING = "stopped as asked; unfinished output was removed: run the same command again"
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Surroundings:
    """Context manager for a command: with Surroundings() as around: ...

    Signals. SIGTERM and SIGHUP (the terminal was closed) raise StoppedError, and SIGINT (Ctrl-C)
    KeyboardInterrupt, so that unfinished output is removed; `StopFlag` replaces them while there is
    something to save. The first signal is kept in `asked`, because a library may turn it into an
    error of its own (DuckDB does). A signal ignored from the start (nohup) stays ignored.

    Output. When a pipe or terminal is closed, its stream is replaced by a null device and the
    process stops as after SIGTERM: a training saves first. A terminal that cannot show a
    character shows "?" instead.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        """The first signal that no StopFlag handled."""
        self.closed: OSError | None = None
        """Why a stream can no longer be written."""
        self._handlers: dict[int, Any] = {}
        self._streams: dict[str, Any] = {}
        self._over = False

    def __enter__(self) -> "Surroundings":
        if threading.current_thread() is threading.main_thread():
            # With several hosts JAX handles SIGTERM.
            jax = sys.modules.get("jax")
            several = jax is not None and jax.distributed.is_initialized()
            for number in _HANDLED[several:]:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._on_signal)
        for name in ("stdout", "stderr"):
            stream = self._streams[name] = getattr(sys, name)
            # If the shell closed it (>&-), Python has None, and the next opened file would get it.
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
        """Ignore streams that fail from here on: the work is done, or goes to files."""
        self._over = True
        self.flush()

    def finished(self, code: int = 0) -> int:
        """The exit code of finished work; lost output is reported and turns 0 into 1."""
        self.done()
        if words := lost_output(self.closed):
            print(words, file=sys.stderr)
        return code or int(bool(words))

    def flush(self) -> None:
        """Flush both streams, so that a failing one fails now."""
        for name in self._streams:
            getattr(sys, name).flush()

    def lose(self, name: str, stream: Any, error: OSError) -> None:
        """Handle a stream that can no longer be written: report it on the other one, and stop."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # Buffered text goes to the null device, so that Python's own exit does not fail.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        if self.closed is not None:
            return
        self.closed = error
        if self._over:
            return
        other = sys.stdout if name == "stderr" else sys.stderr
        why = error.strerror or "it is closed"
        print(f"{name} can no longer be written ({why}): stopping", file=other, flush=True)
        signal.raise_signal(signal.SIGTERM)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        first, self.asked = self.asked is None, self.asked or number
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        # Only once: the cleanup that it starts must not be interrupted.
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
    """Makes stdout and stderr write "?" for characters outside their encoding."""
    for stream in (sys.stdout, sys.stderr):
        # Replacements by tests and notebooks may have no encoding.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def lost_output(error: OSError | None) -> str:
    """The message for output that finished work lost; "" if the pipe or terminal was closed."""
    if error is None or error.errno in (errno.EPIPE, errno.EIO):
        return ""
    return f"error: the output could not be written: {error.strerror}"
