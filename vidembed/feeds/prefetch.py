"""Reading ahead: batches are made by threads while others are in use."""

import time
from collections.abc import Callable, Generator
from typing import Any, Literal

import grain
import numpy as np

Batch = dict[str, Any]
Buffers = dict[str, np.ndarray] | None
Placement = Literal["device", "host"]

# A batch from `batches` may be used until this many further ones have been taken.
HELD_BATCHES = 4


def read_ahead(
    make: Callable[[int, Buffers], Batch],
    start: int,
    stop: int,
    *,
    buffers: Callable[[], Buffers],
    read_threads: int,
    prefetch_batches: int,
) -> Generator[tuple[int, Batch, float], None, None]:
    """Yields (step, batch, seconds waited for it) for steps start..stop-1; resume is `start`.

    Gathered features lie in a ring of reused buffers, for the page faults of fresh ones cost
    more than the gather: a batch is valid until HELD_BATCHES further ones have been taken. By
    then the step that uses it must be done, not only dispatched: `jax.device_put` may still be
    reading the memory, and on CPU may share it for good. Close the generator to stop early.
    """
    ring = [buffers() for _ in range(prefetch_batches + HELD_BATCHES + 1)]
    steps = grain.MapDataset.range(start, stop)
    dataset = steps.map(lambda step: make(int(step), ring[step % len(ring)]))
    options = grain.ReadOptions(num_threads=read_threads, prefetch_buffer_size=prefetch_batches)
    iterator = iter(dataset.to_iter_dataset(options))
    try:
        for step in range(start, stop):
            began = time.perf_counter()
            batch = next(iterator)
            yield step, batch, time.perf_counter() - began
    finally:
        iterator.close()
