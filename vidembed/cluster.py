"""Joining the other hosts of a run: one process a host, the same command on each."""

from dataclasses import dataclass

import jax


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Which processes make up the run; by default this one alone."""

    join: bool = False
    """Join the others as the cluster tells (Cloud TPU pods, Slurm, GKE)."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where no cluster tells; the same on every host."""
    count: int | None = None
    """How many processes there are."""
    number: int | None = None
    """The number of this process, from 0."""
    timeout_seconds: int = 100
    """A host that is silent for so long is lost, and every other one ends with an error."""

    def __post_init__(self) -> None:
        given = [self.coordinator is not None, self.count is not None, self.number is not None]
        if any(given) and not all(given):
            raise ValueError(
                f"coordinator {self.coordinator}, count {self.count}, number {self.number}: give "
                "all three or none; coordinator and count are the same on every host"
            )
        if self.coordinator is not None:
            host, _, port = self.coordinator.rpartition(":")
            if not host or not port.isdecimal():
                raise ValueError(f"coordinator {self.coordinator!r} must be HOST:PORT")
            if not 0 <= (self.number or 0) < (self.count or 0):
                raise ValueError(f"number {self.number} must lie in [0, count {self.count})")
        if self.timeout_seconds < 1:
            raise ValueError(f"timeout_seconds {self.timeout_seconds} must be 1 or more")

    def connect(self) -> None:
        """Waits for the others; from then on `jax.devices()` are those of all hosts."""
        if self.coordinator is not None:
            print(
                f"process {self.number} waits up to {self.timeout_seconds} s for all "
                f"{self.count} processes at {self.coordinator} ...",
                flush=True,
            )
            jax.distributed.initialize(
                self.coordinator,
                self.count,
                self.number,
                initialization_timeout=self.timeout_seconds,
                heartbeat_timeout_seconds=self.timeout_seconds,
            )
        elif self.join:
            jax.distributed.initialize(
                initialization_timeout=self.timeout_seconds,
                heartbeat_timeout_seconds=self.timeout_seconds,
            )
