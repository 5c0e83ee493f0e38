"""The place of a video in a batch of clips: which video is there, and where its clips begin.

Both are pure functions of (seed, step, slot, attempt), so that it does not matter who executes
them, and each host makes only its own.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from vidembed.feeds.one_pass import check_step
from vidembed.feeds.passes import Passes
from vidembed.feeds.sampling import below, unit

_DOMAIN = 1  # of the counter of Philox: raw_draws, with the same keys, counts from 0


class Chosen(NamedTuple):
    """A video, and random numbers f64[N] in [0, 1) for its clips."""

    row: int
    draws: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Slots:
    """Which of the videos i64[n] is in a slot of a batch.

    The first attempt takes each video once per pass, in a new random order, like other feeds; a
    pass need not be a whole number of batches. If that video fails, further attempts draw from all
    videos, by a hash of the slot: an earlier one may come again.
    """

    seed: int
    batch: int
    videos: np.ndarray
    clips: int

    def chosen(self, step: int, slot: int, attempt: int = 0) -> Chosen:
        """The video of an attempt."""
        check_step(step)
        words = self._words(step, slot, attempt)
        if attempt:
            return Chosen(int(self.videos[below(words[0], len(self.videos))]), unit(words[1:]))
        return Chosen(int(self.planned(step)[slot]), unit(words[1:]))

    def planned(self, step: int) -> np.ndarray:
        """i64[B]: the videos of a batch, if none fails."""
        check_step(step)
        return self._passes.batch(step, self.batch)

    @cached_property
    def _passes(self) -> Passes:
        return Passes(self.seed, self.videos)

    def _words(self, step: int, slot: int, attempt: int) -> np.ndarray:
        key = np.array([self.seed, step], np.uint64)
        counter = np.array([0, slot, attempt, _DOMAIN], np.uint64)
        generator = np.random.Philox(key=key, counter=counter)
        return np.asarray(generator.random_raw(1 + self.clips))
