"""Passes over items, each in a new random order: what batch k holds is a pure function of k."""

import numpy as np

from vidembed.feeds.sampling import raw_draws

HELD = 3
"""Orders of passes that stay in memory."""


class Passes:
    """Endless passes over items i[n]; batches need not be a whole part of a pass."""

    def __init__(self, seed: int, items: np.ndarray, run_length: int = 1) -> None:
        """run_length: runs of this many consecutive items stay together."""
        self._seed, self._items, self._run_length = seed, items, run_length
        self._orders: dict[int, np.ndarray] = {}

    def batch(self, step: int, size: int) -> np.ndarray:
        """i[size]: the items of batch `step`, which goes on with the next pass at its end."""
        places = np.arange(size, dtype=np.int64) + step * size
        number, place = np.divmod(places, len(self._items))
        batch = np.empty(size, self._items.dtype)
        for each in np.unique(number):
            batch[number == each] = self.order(int(each))[place[number == each]]
        return batch

    def order(self, number: int) -> np.ndarray:
        """i[n]: the items in the order of a pass."""
        if number not in self._orders:
            known = dict(self._orders)  # threads may add at the same time: replace, never change
            while len(known) >= HELD:
                known.pop(min(known))
            order = order_of_pass(self._seed, number, len(self._items), self._run_length)
            self._orders = {**known, number: self._items[order]}
            return self._items[order]
        return self._orders[number]


def order_of_pass(seed: int, number: int, size: int, run_length: int) -> np.ndarray:
    """i64[size]: the places 0..size-1 in the random order of a pass.

    Runs of `run_length` places stay together. Where they begin differs from pass to pass, so that
    the first and the last run may be shorter.
    """
    if run_length == 1:
        return np.argsort(raw_draws(seed, number, (size,)), kind="stable")
    words = raw_draws(seed, number, (-(-(size + run_length - 1) // run_length) + 1,))
    begins = np.arange(-int(words[-1] % np.uint64(run_length)), size, run_length)
    begins = begins[np.argsort(words[: len(begins)], kind="stable")]
    stops = np.minimum(begins + run_length, size)
    begins = np.maximum(begins, 0)
    lengths = stops - begins
    ends = np.cumsum(lengths)
    return np.repeat(stops - ends, lengths) + np.arange(size)
