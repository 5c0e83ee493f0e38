"""Orderly stopping: a signal requests a stop, which is granted where the work can resume."""

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

import jax
from jax.experimental import multihost_utils

from vidembed.distributed.stopped import StoppedError

_TICK_SECONDS = 0.1
_GRACE_SECONDS = 5.0

T = TypeVar("T")

# JAX compares the hosts by their poll numbers, for the life of the process. This is a separate
# counter and not the training step: a run resumed at step 500 would otherwise never reach the step
# 1 that was agreed upon while it was still reading its data.
_polls = itertools.count(1)


class StopFlag:
    """Turns SIGTERM, SIGHUP (a closed terminal) and the first SIGINT (Ctrl-C) into a flag.

    with StopFlag() as stop: ... `if stop.reached(): save and leave`, and while there is nothing to
    save `with stop.raising(): ...`. A second SIGINT raises KeyboardInterrupt at once. An ignored
    SIGHUP (nohup) stays ignored. The previous handlers are restored at the end.

    After `jax.distributed.initialize` JAX itself listens for SIGTERM on every host, and chooses a
    poll that all hosts reach. This class then leaves SIGTERM to JAX, queries JAX in `reached`, and
    forwards the other signals as SIGTERM. Such a process must poll: SIGTERM does not end it.
    """

    def __init__(self) -> None:
        # No threading.Event: a handler that waits for a lock held by the interrupted code hangs.
        self.asked = False
        """Whether this process was asked to stop, for waits on this host only."""
        self._interrupted = False
        self._raising = False
        self._handlers: dict[int, Any] = {}
        self._distributed = False

    def __enter__(self) -> "StopFlag":
        self.asked = self._interrupted = False
        self._distributed = jax.distributed.is_initialized()
        signals = [signal.SIGINT] if self._distributed else [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signals.append(signal.SIGHUP)
        for number in signals:
            self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def reached(self) -> bool:
        """Whether to stop now; the same on every host.

        With several hosts, all must call this equally often, in the same places.
        """
        if self._distributed and multihost_utils.reached_preemption_sync_point(next(_polls)):
            self.asked = True
        return self.asked

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Inside the block, a stop request raises StoppedError: for work that can be repeated.

        It is raised at once, at any line of Python. With several hosts, which must stop in the same
        place, it is raised at the end of the block.
        """
        before, self._raising = self._raising, True
        try:
            if self.asked:
                raise StoppedError
            yield
        finally:
            self._raising = before
        # Also if Python swallowed the exception, as it does in destructors and callbacks.
        if self.reached():
            raise StoppedError

    def sleep(self, seconds: float) -> bool:
        """Wait, at most until a stop request, and return whether there was one."""
        end = time.monotonic() + seconds
        while not self.asked and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _TICK_SECONDS))
        return self.asked

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
        if self._distributed:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        first, self.asked = not self.asked, True
        # Only once: the cleanup, such as releasing a lease, must not be interrupted in turn.
        if self._raising and first:
            raise StoppedError


def unbroken(work: Callable[[], T]) -> T:
    """Run `work()` in another thread; an exception from a signal handler ends only the wait for it.

    For libraries that run an event loop, which would turn an exception from a signal handler into
    a fault of the loop. Signal handlers do not run in the other thread, and the caller's mesh and
    transfer guard do not apply there. Returns or raises what `work` does.
    """
    outcome: list[T] = []
    faults: list[BaseException] = []
    # No Event and no join: an exception may leave their internal locks held.
    running = threading.Lock()
    running.acquire()

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as fault:
            faults.append(fault)
        finally:
            running.release()

    try:
        threading.Thread(target=run, name="unbroken", daemon=True).start()
        running.acquire()
    except BaseException:
        # A thread that still works when Python exits can crash it, and most finish in time; but a
        # hanging read must not keep the process alive.
        end = time.monotonic() + _GRACE_SECONDS
        while not (outcome or faults) and time.monotonic() < end:
            time.sleep(0.01)
        raise
    if faults:
        raise faults[0]
    return outcome[0]
