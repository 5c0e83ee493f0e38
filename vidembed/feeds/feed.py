"""Random access to batches, and reading them ahead: what all feeds share."""

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

# A batch from `batches` may be used until this many further ones have been taken.
HELD_BATCHES = 4


class Feed(abc.ABC):
    """The batches of one run, each a pure function of its step.

    A batch is a dict. What a host can make alone is its own part; what all need is whole on every
    host. A subclass adds `spec`, `fingerprint` and `one_pass`: see the protocol of the engine.
    """

    split_axes: Mapping[str, int | None]
    """Entry of the batch → its axis that is split over the mesh's data axis; None is whole."""

    def __init__(self, config: "FeedOptions") -> None:
        self.config = config

    @property
    def whole_steps(self) -> int | None:
        """How many steps there are, no more and no less; None: as many as are asked for."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say of the feed, for people."""
        return ()

    @property
    def events(self) -> tuple[str, ...]:
        """Names of what `events_of` may say of a batch."""
        return ()

    def events_of(self, batch: Batch) -> Iterable[str]:
        """Rare events that this batch is one of, to be counted."""
        del batch
        return ()

    def statistics(self) -> Any:
        """What the task's inputs are standardised by; None if they are not."""
        return None

    def resident(self) -> Mapping[str, Any]:
        """Arrays that lie on the devices, by whose `rows` a batch then speaks; {} for none."""
        return {}

    @abc.abstractmethod
    def ids_at(self, step: int) -> np.ndarray:
        """Ids S[..., B] of the whole batch `step`, for messages about it."""

    def at(self, step: int, part: Part = ONE_HOST) -> Batch:
        """Batch `step` of a host, in fresh memory; the same from any thread, in any order."""
        return self._make(step, self.config.own(part), out=None)

    def batches(
        self, start: int, stop: int, part: Part = ONE_HOST
    ) -> Generator[tuple[int, Batch, float], None, None]:
        """Yields (step, batch, seconds waited for it) for steps start..stop-1, read ahead.

        Where a feed reuses memory, a batch is valid until HELD_BATCHES further ones have been
        taken. By then the step that uses it must be done, not only dispatched: `jax.device_put` may
        still be reading the memory, and on CPU may share it for good. Close the generator to stop
        early.
        """
        threads, ahead = self.config.read_threads, self.config.prefetch_batches
        own = self.config.own(part)
        ring = [self._buffers(own.stop - own.start) for _ in range(ahead + HELD_BATCHES + 1)]
        steps = grain.MapDataset.range(start, stop)
        dataset = steps.map(lambda step: self._make(int(step), own, out=ring[step % len(ring)]))
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
    def _make(self, step: int, own: slice, out: Buffers) -> Batch:
        """The batch of the host that has the examples `own`; into `out`, if that is not None."""

    def _buffers(self, examples: int) -> Buffers:
        """Memory for a batch of so many examples, to be used again; None: each has its own."""
        del examples
        return None


@dataclass(frozen=True, kw_only=True)
class FeedOptions(abc.ABC):
    """What every feed is configured by, besides its batch_UNIT."""

    read_threads: Annotated[int, TUNABLE] = 2
    """Batches made at the same time."""
    prefetch_batches: Annotated[int, TUNABLE] = 4
    """Batches made ahead of their use; with 0, and 0 threads, each is made when it is asked for."""
    unit: ClassVar[str]
    """What a batch is counted in."""

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
        """B: what is split over the devices."""
        return int(getattr(self, f"batch_{self.unit}"))

    def own(self, part: Part) -> slice:
        """A host's slice of the B axis; ValueError where hosts cannot share the batch evenly."""
        index, count = part
        if self.examples % count:
            below = self.examples // count * count
            nearest = f"{below} or {below + count}" if below else f"{count}"
            raise ValueError(
                f"batch_{self.unit} must be a multiple of the number of hosts, found "
                f"{self.examples} {self.unit} on {count} hosts; {nearest} would do"
            )
        if not 0 <= index < count:
            raise ValueError(f"host {index} is none of {count} hosts")
        share = self.examples // count
        return slice(index * share, (index + 1) * share)
