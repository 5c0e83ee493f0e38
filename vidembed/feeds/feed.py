"""The base of all feeds: random access to batches, and reading ahead."""

import abc
import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import grain
import numpy as np

from vidembed import TUNABLE

Batch = dict[str, Any]
Buffers = dict[str, np.ndarray] | None
Part = tuple[int, int]
"""A host's number, and how many hosts there are."""
ONE_HOST: Part = (0, 1)

# A batch from `batches` stays valid until this many further ones have been taken.
HELD_BATCHES = 4


class Feed(abc.ABC):
    """The batches of one run, each a pure function of its step.

    A batch is a dict. Each host makes only its part of an entry if it can; entries that all hosts
    need are whole on every host. A subclass adds `spec`, `fingerprint` and `one_pass`: see the
    protocol of the engine.
    """

    split_axes: Mapping[str, int | None]
    """Entry of the batch → its axis that is split over the mesh's data axis; None: not split."""

    def __init__(self, config: "FeedOptions") -> None:
        self.config = config

    @property
    def whole_steps(self) -> int | None:
        """The exact number of steps of this feed; None: any number."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about the feed, to show the user."""
        return ()

    @property
    def events(self) -> tuple[str, ...]:
        """Names of all events that `events_of` may return."""
        return ()

    def events_of(self, batch: Batch) -> Iterable[str]:
        """Names of the rare events that apply to this batch; they are counted."""
        del batch
        return ()

    def statistics(self) -> Any:
        """Statistics to standardise the task's inputs by; None: inputs are not standardised."""
        return None

    def resident(self) -> Mapping[str, Any]:
        """Arrays to keep on the devices, indexed by a batch's `rows`; {} for none."""
        return {}

    @abc.abstractmethod
    def ids_at(self, step: int) -> np.ndarray:
        """Ids S[..., B] of the whole batch `step`, for messages."""

    def at(self, step: int, part: Part = ONE_HOST) -> Batch:
        """Batch `step` of a host, in new memory; the same from any thread, in any order."""
        return self._make(step, self.config.own(part), out=None)

    def batches(
        self, start: int, stop: int, part: Part = ONE_HOST
    ) -> Generator[tuple[int, Batch, float], None, None]:
        """Yield (step, batch, seconds waited for it) for steps start..stop-1, read ahead.

        If a feed reuses memory, a batch is valid until HELD_BATCHES further ones have been taken.
        By then the step that uses it must be finished, not only dispatched: `jax.device_put` may
        still be reading the memory, and on CPU may share it permanently. Close the generator to
        stop early.
        """
        threads, ahead = self.config.read_threads, self.config.prefetch_batches
        host_slice = self.config.own(part)
        ring = [
            self._buffers(host_slice.stop - host_slice.start)
            for _ in range(ahead + HELD_BATCHES + 1)
        ]
        steps = grain.MapDataset.range(start, stop)
        dataset = steps.map(
            lambda step: self._make(int(step), host_slice, out=ring[step % len(ring)])
        )
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        iterator = iter(dataset.to_iter_dataset(options))
        try:
            for step in range(start, stop):
                began = time.perf_counter()
                batch = next(iterator)
                yield step, batch, time.perf_counter() - began
        finally:
            iterator.close()

    @abc.abstractmethod
    def _make(self, step: int, host_slice: slice, out: Buffers) -> Batch:
        """The batch of the host with examples `host_slice`; into `out`, unless that is None."""

    def _buffers(self, examples: int) -> Buffers:
        """Reusable memory for a batch of `examples`; None: each batch gets new memory."""
        del examples
        return None


@dataclass(frozen=True, kw_only=True)
class FeedOptions(abc.ABC):
    """Options of every feed, besides its batch_UNIT."""

    read_threads: Annotated[int, TUNABLE] = 2
    """Number of batches made at the same time."""
    prefetch_batches: Annotated[int, TUNABLE] = 4
    """Number of batches made ahead of use; 0, with 0 threads, makes each batch on request."""
    unit: ClassVar[str]
    """The unit in which a batch is counted."""

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise ValueError(f"batch_{self.unit} must be at least 1, found {self.examples}")
        if not 0 <= self.read_threads <= self.prefetch_batches:
            raise ValueError(
                "read_threads must lie between 0 and prefetch_batches, found "
                f"{self.read_threads} threads and {self.prefetch_batches} batches: a thread "
                "without a batch to make ahead is idle"
            )

    @property
    def examples(self) -> int:
        """B, the examples per batch, split over the devices."""
        return int(getattr(self, f"batch_{self.unit}"))

    def own(self, part: Part) -> slice:
        """A host's slice of the B axis; raises ValueError if the hosts do not divide the batch."""
        index, count = part
        if self.examples % count:
            below = self.examples // count * count
            nearest = f"{below} or {below + count}" if below else f"{count}"
            raise ValueError(
                f"batch_{self.unit} must be a multiple of the number of hosts, found "
                f"{self.examples} {self.unit} on {count} hosts; use {nearest}"
            )
        if not 0 <= index < count:
            raise ValueError(f"host {index} is not one of {count} hosts, numbered from 0")
        share = self.examples // count
        return slice(index * share, (index + 1) * share)
