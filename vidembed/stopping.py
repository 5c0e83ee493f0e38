"""Stopping in order: a signal asks, the loop answers at a step it can resume from."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

# What a process ends with after it was asked to stop and has saved: 128 + SIGTERM, as shells and
# schedulers expect of a process that SIGTERM ended. The run is resumed by the same command.
EXIT_STOPPED = 143


class StopFlag:
    """Turns SIGTERM, and the first SIGINT (Ctrl-C), into a flag to be polled.

    with StopFlag() as stop: ... `if stop.reached(step): save and leave`. A second SIGINT raises
    KeyboardInterrupt at once. The handlers of before are put back at the end.

    After `jax.distributed.initialize` JAX itself listens for SIGTERM, on every host, and names a
    step that all hosts reach; then this class leaves SIGTERM alone, asks JAX in `reached`, and
    passes SIGINT on as SIGTERM. Such a process has to poll: SIGTERM alone does not end it.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._interrupted = False
        self._handlers: dict[int, Any] = {}
        self._distributed = False

    def __enter__(self) -> "StopFlag":
        self._interrupted = False
        self._asked.clear()
        self._distributed = jax.distributed.is_initialized()
        signals = [signal.SIGINT] if self._distributed else [signal.SIGINT, signal.SIGTERM]
        for number in signals:
            self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def reached(self, step: int) -> bool:
        """Whether to stop now, at `step` updates applied; the same answer on every host.

        With several hosts each must ask at every step.
        """
        if self._distributed and multihost_utils.reached_preemption_sync_point(step):
            self._asked.set()
        return self._asked.is_set()

    @property
    def asked(self) -> bool:
        """Whether this process was asked to stop: for waits that no other host takes part in."""
        return self._asked.is_set()

    def sleep(self, seconds: float) -> bool:
        """Waits, at most until asked to stop, and returns whether it was."""
        return self._asked.wait(seconds)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
        if self._distributed:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._asked.set()
