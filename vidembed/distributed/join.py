"""Joining the other hosts of a run: the same command on each, one process a host (or a GPU)."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax

# JAX ends the process with a log of its own when it has waited too long. We give up before it
# does, for a message that says who was awaited, and where.
_JAX_WAITS_LONGER_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Which processes make up the run; by default this one alone."""

    distributed: bool = False
    """Join the processes that the cluster tells of: Cloud TPU pods, Slurm, Open MPI, GKE."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where no cluster tells; the same on every host."""
    processes: int | None = None
    """How many processes there are; goes with --coordinator."""
    process: int | None = None
    """The number of this process, from 0; goes with --coordinator."""
    host_timeout_seconds: int = 100
    """A host that does not come, or is silent, for so long is lost: the others end."""

    def __post_init__(self) -> None:
        given = {
            "--coordinator": self.coordinator,
            "--processes": self.processes,
            "--process": self.process,
        }
        missing = [name for name, value in given.items() if value is None]
        if 0 < len(missing) < len(given):
            found = [f"{name} {value}" for name, value in given.items() if value is not None]
            raise ValueError(
                f"{' '.join(found)} is given without {' and '.join(missing)}: give all three, the "
                "first two the same on every host (or --distributed alone, where a cluster tells)"
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
        """Waits for the others; from then on `jax.devices()` are those of all hosts.

        Ends the process with a message (exit code 1) when one does not come in time. Raises
        ValueError where --distributed finds no cluster, OSError where process 0 finds its port
        taken.
        """
        if self.coordinator is None and not self.distributed:
            return
        if self.coordinator is not None and self.process == 0:
            _refuse_taken_port(self.coordinator)
        where = f" at {self.coordinator}" if self.coordinator else ", as the cluster tells,"
        awaited = f"process {self.process} of {self.processes}" if self.coordinator else "process"
        print(
            f"{awaited} waits up to {self.host_timeout_seconds} s for the others{where} ...",
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
                # JAX says so of a value that no cluster told it.
                missing = str(error).endswith("be defined.")
                what = "found no cluster" if missing else "cannot read what the cluster tells"
                raise ValueError(
                    f"--distributed {what} here (TPU pod, Slurm, Open MPI, GKE): {error} "
                    "Name it by --coordinator HOST:PORT --processes N --process I"
                ) from error

    def _nobody_came(self) -> str:
        told = (
            f"all {self.processes} processes at {self.coordinator} (this is process {self.process})"
            if self.coordinator
            else "all processes that the cluster tells of"
        )
        return (
            f"waited {self.host_timeout_seconds} s for {told}, and not all came. Look whether each "
            "was started, with a number of its own, and reaches the address of process 0; where "
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
    """JAX's own service ends the process by a segmentation fault where it cannot listen."""
    port = int(coordinator.rpartition(":")[2])
    # As JAX listens: on all addresses, of both kinds where the system has them.
    both = socket.has_dualstack_ipv6()
    with socket.socket(socket.AF_INET6 if both else socket.AF_INET) as listener:
        if both:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Connections of a run that has just ended are no hindrance.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError as error:
            raise OSError(
                f"process 0 cannot listen on port {port} of {socket.gethostname()}, as "
                f"--coordinator {coordinator} asks: {error.strerror}. Name another port, to all "
                "processes, or end what uses this one (an earlier run?)"
            ) from error


@contextlib.contextmanager
def _gives_up_after(seconds: float, words: Callable[[], str]) -> Iterator[None]:
    """Ends the process unless the block is done in time: JAX's own wait cannot be broken off."""

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
    """Signals end the process at once: Python's handlers would only run after JAX's wait."""
    # SIGTERM is JAX's own afterwards.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
