"""Stopping in order: a signal asks, and is answered where the work can be taken up again."""

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

# JAX tells the hosts apart by how far each has counted, for the life of the process. It is a count
# of its own, not the step: a run that goes on at step 500 would otherwise never come past the
# step 1 that was agreed upon while it was still reading its data.
_polls = itertools.count(1)


class StopFlag:
    """Turns SIGTERM, SIGHUP (a terminal was closed) and the first SIGINT (Ctrl-C) into a flag.

    with StopFlag() as stop: ... `if stop.reached(): save and leave`, and where there is nothing to
    save `with stop.raising(): ...`. A second SIGINT raises KeyboardInterrupt at once. A SIGHUP that
    is ignored (nohup) stays so. The handlers of before are put back at the end.

    After `jax.distributed.initialize` JAX itself listens for SIGTERM, on every host, and names a
    poll that all hosts reach; then this class leaves SIGTERM alone, asks JAX in `reached`, and
    passes the others on as SIGTERM. Such a process has to poll: SIGTERM alone does not end it.
    """

    def __init__(self) -> None:
        # No threading.Event: a handler that waits for the lock it has interrupted waits for ever.
        self.asked = False
        """Whether this process was asked to stop: for waits that no other host takes part in."""
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
        """Whether to stop now; the same answer on every host.

        With several hosts each must ask equally often, in the same places.
        """
        if self._distributed and multihost_utils.reached_preemption_sync_point(next(_polls)):
            self.asked = True
        return self.asked

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Inside, being asked to stop raises StoppedError: for work that is simply done again.

        It comes at once, whatever line of Python is running. With several hosts, which must stop
        in the same place, it comes at the end of the block.
        """
        before, self._raising = self._raising, True
        try:
            if self.asked:
                raise StoppedError
            yield
        finally:
            self._raising = before
        # Also where Python swallowed it, as it does in destructors and callbacks.
        if self.reached():
            raise StoppedError

    def sleep(self, seconds: float) -> bool:
        """Waits, at most until asked to stop, and returns whether it was."""
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
        # Once: what it unwinds, a lease given back, must not be interrupted in turn.
        if self._raising and first:
            raise StoppedError


def unbroken(work: Callable[[], T]) -> T:
    """What `work()` returns or raises; a signal handler that raises breaks off the wait for it.

    For libraries that run an event loop: an exception out of a signal handler comes back from
    there as a fault of the loop's own. `work` runs in another thread, where no handler runs and
    where the mesh and the transfer guard that the caller has set do not hold.
    """
    outcome: list[T] = []
    faults: list[BaseException] = []
    # No Event and no join: they have locks inside that an exception may leave behind.
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
        # A thread that is at work when Python ends can take it down: most are done by then. A
        # read that hangs must not keep the process.
        end = time.monotonic() + _GRACE_SECONDS
        while not (outcome or faults) and time.monotonic() < end:
            time.sleep(0.01)
        raise
    if faults:
        raise faults[0]
    return outcome[0]
