"""One run at a time in a work directory."""

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from etils import epath

from vidembed import files

BEAT_SECONDS = 5.0
STALE_SECONDS = 60.0


class LeaseHeldError(RuntimeError):
    """Another run has this work directory."""


class LeaseLostError(RuntimeError):
    """Another run took this work directory from us: stop, and write nothing more."""


@contextlib.contextmanager
def heartbeat(beat: Callable[[], None], seconds: float) -> Iterator[None]:
    """Calls `beat` every `seconds` from a thread of its own, until left."""
    left = threading.Event()

    def run() -> None:
        while not left.wait(seconds):
            # Whatever goes wrong once, a full disk or a client of object storage that raises its
            # own errors, must not end the beating for good.
            with contextlib.suppress(Exception):
                beat()

    thread = threading.Thread(target=run, daemon=True, name="vidembed heartbeat")
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


class Lease:
    """A file that names the owner of a work directory and shows that it lives.

    It is read and changed under a file lock (storage without locks, such as gs://, gets a second
    look after writing). It is taken over from an owner that is gone, which `notice` then tells:
    on the same machine when there is no such process, elsewhere when its heart-beat is
    `stale_seconds` old and does not move while we watch. From an owner that lives it is taken only
    with `steal`; the robbed one learns it at its next beat, which `take` waits for.
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
        """Makes this process the owner; LeaseHeldError with the owner's name if another is."""
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
        """Raises LeaseLostError if another run took the lease.

        Cheap (what the last beat saw), for every step; `now` reads the file, before a write
        that must not collide. On hosts other than the first, which holds it, nothing is lost.
        """
        if now and self._held:
            self._see(self._read())
        if self._lost_to is not None:
            raise LeaseLostError(
                f"{self.path.parent} was taken by {_name(self._lost_to)} (--steal). This run stops "
                "and writes nothing more; what it saved before stays."
            )

    def why_not_held(self) -> str:
        """In words; "" where an owner lives, as far as one look tells. Nothing is waited for."""
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
        """Shows that this process lives, and sees whether the lease is still its own."""
        with self._locked():
            if self._see(self._read()):
                self._write()

    def release(self) -> None:
        """Gives the lease back, unless it is another's by now."""
        self._held = False
        with self._locked():
            owner = self._read()
            if owner is not None and owner["token"] == self._mine["token"]:
                self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def held(self, *, steal: bool = False) -> Iterator["Lease"]:
        """take, beat while inside, release."""
        self.take(steal=steal)
        try:
            with heartbeat(self.beat, self._beat_seconds):
                yield self
        finally:
            self.release()

    def _see(self, owner: dict[str, Any] | None) -> bool:
        """Whether the lease is ours still (a deleted one is: we write it again)."""
        if owner is not None and owner["token"] != self._mine["token"]:
            self._lost_to = owner
        return self._lost_to is None

    def _why_free(
        self, owner: dict[str, Any] | None, *, steal: bool, watched: dict[str, Any] | None
    ) -> str | None:
        """The notice to take the lease with, or None to watch the owner for a while."""
        if owner is None:
            return ""
        if not process_lives(owner):
            return f"took over from {_name(owner)}, which is gone"
        if steal:
            return f"stole {self.path.parent} from {_name(owner)}"
        age = time.time() - owner["beat"]
        if same_machine(owner) or age < self._stale_seconds or (watched and owner != watched):
            raise LeaseHeldError(
                f"{self.path.parent} is in use by {_name(owner)}, heard of {_ago(age)}. Wait "
                "for it, stop it, choose another --workdir, or take this one from it with --steal "
                "(it will stop)."
            )
        # Clocks of two machines may differ: only an owner that is silent while watched is gone.
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
            # Some network disks have no locks; what remains is the moment between look and write.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


_UNKNOWN = {"token": "", "beat": 0.0, "host": "an unknown host (unreadable lease)", "pid": 0}


def same_machine(owner: dict[str, Any]) -> bool:
    """Whether the owner's pid means something here: same boot, same process namespace."""
    return owner.get("machine") == _machine()


def process_lives(owner: dict[str, Any]) -> bool:
    """False only if the owner's process is certainly gone: none with its pid and start time."""
    return not same_machine(owner) or _started(owner["pid"]) == owner["started"]


def this_process() -> dict[str, Any]:
    """Host, pid, start time and machine of the caller: who it is, for others to read."""
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
    """When a process started, in the system's own words; empty if there is none (or a zombie)."""
    if Path("/proc/self/stat").exists():
        try:
            # The name in brackets may hold anything; the state and the rest follow it.
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
