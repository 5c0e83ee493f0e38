"""The lease of a work directory: only one run at a time."""

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from vidembed import files
from vidembed.progress import heartbeat

BEAT_SECONDS = 5.0
STALE_SECONDS = 60.0


class LeaseHeldError(RuntimeError):
    """Another run has this work directory."""


class LeaseLostError(RuntimeError):
    """Another run took this work directory from us: stop, and write nothing more."""


class Lease:
    """A file that names the owner of a work directory and shows that the owner is alive.

    It is read and changed under a file lock (storage without locks, such as gs://, is checked again
    after writing). A lease of a dead owner is taken over, which `notice` then reports: an owner is
    dead on the same machine if its process does not exist, on another machine if its heartbeat is
    `stale_seconds` old and does not change while watched. A lease of a live owner is taken only
    with `steal`; the former owner learns this at its next heartbeat, which `take` waits for.
    """

    def __init__(
        self,
        path: epath.PathLike,
        *,
        beat_seconds: float = BEAT_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ):
        self.path = epath.Path(path)
        self.notice = ""
        self._beat_seconds = beat_seconds
        self._stale_seconds = stale_seconds
        self._remote = files.is_remote(self.path)
        self._mine = {**this_process(), "token": uuid.uuid4().hex}
        self._held = False
        self._lost_to: dict[str, Any] | None = None

    def take(self, *, steal: bool = False) -> None:
        """Make this process the owner; raises LeaseHeldError, with the owner, if there is one."""
        watched: dict[str, Any] | None = None
        while True:
            with self._locked():
                owner = self._read()
                notice = self._why_free(owner, steal=steal, watched=watched)
                if notice is not None:
                    self._write()
                    break
            watched = owner
            time.sleep(2 * self._beat_seconds)
        self.notice, self._held = notice, True
        if self._remote or notice.startswith("stole"):
            time.sleep(self._beat_seconds)
            self.check(now=True)

    def check(self, *, now: bool = False) -> None:
        """Raise LeaseLostError if another run took the lease.

        Cheap enough for every step, because it uses the result of the last heartbeat; `now` reads
        the file, before a write that must not collide. Never raises on hosts other than the first,
        which holds the lease.
        """
        if now and self._held:
            self._see(self._read())
        if self._lost_to is not None:
            raise LeaseLostError(
                f"{self.path.parent} was taken by {_name(self._lost_to)} (--steal). This run stops "
                "and writes nothing more; saved checkpoints stay."
            )

    def why_not_held(self) -> str:
        """The reason, or "" if an owner seems alive, from a single look without waiting."""
        owner = self._read()
        if owner is None:
            return "no process holds it"
        if not process_lives(owner):
            return f"{_name(owner)} is gone"
        age = time.time() - owner["beat"]
        if same_machine(owner) or age < self._stale_seconds:
            return ""
        return f"{_name(owner)} was last heard of {_ago(age)}"

    def beat(self) -> None:
        """Renew the heartbeat, and check that this process still owns the lease."""
        with self._locked():
            if self._see(self._read()):
                self._write()

    def release(self) -> None:
        """Release the lease, unless another run owns it by now."""
        self._held = False
        with self._locked():
            owner = self._read()
            if owner is not None and owner["token"] == self._mine["token"]:
                self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def held(self, *, steal: bool = False) -> Iterator["Lease"]:
        """Take the lease, renew it inside the block, and release it."""
        self.take(steal=steal)
        try:
            with heartbeat(self.beat, self._beat_seconds):
                yield self
        finally:
            self.release()

    def _see(self, owner: dict[str, Any] | None) -> bool:
        """Whether this process still owns the lease (a deleted file is written again)."""
        if owner is not None and owner["token"] != self._mine["token"]:
            self._lost_to = owner
        return self._lost_to is None

    def _why_free(
        self, owner: dict[str, Any] | None, *, steal: bool, watched: dict[str, Any] | None
    ) -> str | None:
        """The notice with which to take the lease, or None to watch the owner for a while."""
        if owner is None:
            return ""
        if not process_lives(owner):
            return f"took over from {_name(owner)}, which is gone"
        if steal:
            return f"stole {self.path.parent} from {_name(owner)}"
        age = time.time() - owner["beat"]
        if same_machine(owner) or age < self._stale_seconds or (watched and owner != watched):
            raise LeaseHeldError(
                f"{self.path.parent} is in use by {_name(owner)}, last heard of {_ago(age)}. Wait "
                "for it, stop it, choose another --workdir, or take this one over with --steal "
                "(the other run then stops)."
            )
        # Clocks may differ between machines: only an owner that is silent while watched is gone.
        return f"took over from {_name(owner)}, last heard of {_ago(age)}" if watched else None

    def _read(self) -> dict[str, Any] | None:
        try:
            owner = json.loads(self.path.read_text())
            return owner if {"token", "beat", "host", "pid"} <= owner.keys() else _UNKNOWN
        except FileNotFoundError:
            return None
        except (ValueError, AttributeError):
            return _UNKNOWN

    def _write(self) -> None:
        self._mine["beat"] = time.time()
        files.write_text(self.path, json.dumps(self._mine))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if self._remote:
            yield
            return
        with open(self.path.with_name(f"{self.path.name}.lock"), "a") as file:
            # Some network disks have no locks; the gap between reading and writing then remains.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


_UNKNOWN = {"token": "", "beat": 0.0, "host": "an unknown host (unreadable lease)", "pid": 0}


def same_machine(owner: dict[str, Any]) -> bool:
    """Whether the owner's pid is valid here: same boot, same process namespace."""
    return owner.get("machine") == _machine()


def process_lives(owner: dict[str, Any]) -> bool:
    """False only if the owner is certainly gone: no process has its pid and start time."""
    return not same_machine(owner) or _started(owner["pid"]) == owner["started"]


def this_process() -> dict[str, Any]:
    """Host, pid, start time and machine of the calling process, for other processes to read."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "machine": _machine(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():
        return f"{boot.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    return f"{socket.gethostname()} {uuid.getnode()}"


def _started(pid: int) -> str:
    """Start time of a process in the system's notation; "" if there is none (or a zombie)."""
    if Path("/proc/self/stat").exists():
        try:
            # The name in brackets may contain anything; the state and other fields follow it.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if fields[0] in "ZX" else fields[19]
    ps = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return ps.stdout.strip()


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds < 1e9 else "never"


def _name(owner: dict[str, Any]) -> str:
    since = f", since {owner['since']}" if "since" in owner else ""
    return f"process {owner['pid']} on {owner['host']}{since}"
