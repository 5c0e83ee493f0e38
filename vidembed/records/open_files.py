"""Read byte ranges of many local files at once from several threads, by positional reads."""

import os
import resource
import threading
import weakref
from collections.abc import Sequence
from typing import Any


class OpenFiles:
    """Files that stay open once they were read, up to a quarter of what the process may open.

    Further files are opened for each read. None is closed before the object is collected, so that
    no thread can read from a descriptor that now belongs to another file.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths, self._lock = paths, threading.Lock()
        self._open: dict[int, int] = {}
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._room = 1024 if soft == resource.RLIM_INFINITY else soft // 4
        weakref.finalize(self, _close, self._open)

    def fill(self, number: int, start: int, memory: Any) -> bool:
        """Fill a writable buffer from byte `start` of a file; False if the file ends too early."""
        descriptor = self._open.get(number)
        if descriptor is not None:
            return _fill(descriptor, start, memory)
        descriptor = os.open(self._paths[number], os.O_RDONLY)
        with self._lock:
            if number not in self._open and len(self._open) < self._room:
                self._open[number] = descriptor
        try:
            return _fill(descriptor, start, memory)
        finally:
            if self._open.get(number) != descriptor:
                os.close(descriptor)


def _fill(descriptor: int, start: int, memory: Any) -> bool:
    done = os.preadv(descriptor, [memory], start)
    while done < len(memory):  # a read may return less than there is, such as beyond 2 GiB
        count = os.preadv(descriptor, [memory[done:]], start + done)
        if not count:
            return False
        done += count
    return True


def _close(descriptors: dict[int, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
    descriptors.clear()
