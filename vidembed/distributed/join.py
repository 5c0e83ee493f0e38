"""Join the other hosts of a run: the same command on each, one process per host (or GPU)."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax

# When JAX's own wait times out, it ends the process with only a log. Give up earlier, with a
# message that names the expected processes and the address.
_JAX_WAITS_LONGER_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The processes of the run; by default only this one."""

    distributed: bool = False
    """Detect the processes from the cluster environment: Cloud TPU pods, Slurm, Open MPI, GKE."""
    coordinator: str | None = None
    """HOST:PORT of process 0, without --distributed; the same on every host."""
    processes: int | None = None
    """Number of processes; needs --coordinator."""
    process: int | None = None
    """Number of this process, from 0; needs --coordinator."""
    host_timeout_seconds: int = 100
    """Seconds after which a host that does not connect or respond counts as lost, and the others
    end."""

    def __post_init__(self) -> None:
        given = {
            "--coordinator": self.coordinator,
            "--processes": self.processes,
            "--process": self.process,
        }
        missing = [name for name, value in given.items() if value is None]
        if 0 < len(missing) < len(given):
            present = [f"{name} {value}" for name, value in given.items() if value is not None]
            raise ValueError(
                f"{' '.join(present)} is given without {' and '.join(missing)}: give all three, "
                "the first two the same on every host (or only --distributed, on a known cluster)"
            )
        if self.coordinator is not None:
            _check_address(self.coordinator)
        if self.processes is not None and self.processes < 1:
            raise ValueError(f"--processes {self.processes} must be 1 or more")
        if self.process is not None and not 0 <= self.process < (self.processes or 0):
            raise ValueError(
                f"--process {self.process} must lie in [0, {self.processes}): processes are "
                f"numbered from 0, and --processes is {self.processes}"
            )
        if self.host_timeout_seconds < 1:
            raise ValueError(
                f"--host-timeout-seconds {self.host_timeout_seconds} must be 1 or more"
            )

    def connect(self) -> None:
        """Waits for the other processes; afterwards `jax.devices()` lists those of all hosts.

        Ends the process with a message (exit code 1) if a process does not connect in time. Raises
        ValueError if --distributed finds no cluster, OSError if the port of process 0 is in use.
        """
        if self.coordinator is None and not self.distributed:
            return
        if self.coordinator is not None and self.process == 0:
            _refuse_taken_port(self.coordinator)
        where = f" at {self.coordinator}" if self.coordinator else " of the cluster"
        name = f"process {self.process} of {self.processes}" if self.coordinator else "process"
        print(
            f"{name} waits up to {self.host_timeout_seconds} s for the others{where} ...",
            flush=True,
        )
        with _gives_up_after(self.host_timeout_seconds, self._nobody_came), _interruptible():
            try:
                jax.distributed.initialize(
                    self.coordinator,
                    self.processes,
                    self.process,
                    cluster_detection_method="deactivate" if self.coordinator else None,
                    initialization_timeout=self.host_timeout_seconds + _JAX_WAITS_LONGER_SECONDS,
                    heartbeat_timeout_seconds=self.host_timeout_seconds,
                )
            except ValueError as error:
                if self.coordinator:
                    raise
                # JAX's message for a value that the cluster environment does not define.
                missing = str(error).endswith("be defined.")
                what = "found no cluster" if missing else "cannot read the cluster environment"
                raise ValueError(
                    f"--distributed {what} here (TPU pod, Slurm, Open MPI, GKE): {error} "
                    "Give --coordinator HOST:PORT --processes N --process I instead"
                ) from error

    def _nobody_came(self) -> str:
        expected = (
            f"all {self.processes} processes at {self.coordinator} (this is process {self.process})"
            if self.coordinator
            else "all processes of the cluster"
        )
        return (
            f"waited {self.host_timeout_seconds} s for {expected}, and not all connected. Check "
            "that each was started with its own number and can reach the address of process 0; if "
            "hosts start slowly, raise --host-timeout-seconds. Nothing was read or written"
        )


def _check_address(coordinator: str) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            f"--coordinator {coordinator} must be HOST:PORT, with a port from 1 to 65535 that is "
            "free on the host of process 0"
        )


def _refuse_taken_port(coordinator: str) -> None:
    """Check the port first: JAX's service crashes with a segmentation fault if it cannot listen."""
    port = int(coordinator.rpartition(":")[2])
    # Like JAX, listen on all addresses, IPv6 and IPv4 if the system has both.
    both = socket.has_dualstack_ipv6()
    with socket.socket(socket.AF_INET6 if both else socket.AF_INET) as listener:
        if both:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Ignore connections left by a run that has just ended.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError as error:
            raise OSError(
                f"process 0 cannot listen on port {port} of {socket.gethostname()}, as "
                f"--coordinator {coordinator} requires: {error.strerror}. Give all processes "
                "another port, or end the process that uses this one (an earlier run?)"
            ) from error


@contextlib.contextmanager
def _gives_up_after(seconds: float, words: Callable[[], str]) -> Iterator[None]:
    """Ends the process unless the block finishes in time: JAX's own wait cannot be interrupted."""

    def give_up() -> None:
        print(f"error: {words()}", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let signals end the process at once: Python's handlers would run only after JAX's wait."""
    # Afterwards JAX handles SIGTERM.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
