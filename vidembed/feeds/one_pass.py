"""What feeds share that go over all train videos once, in a fixed number of steps.

What is summed over videos needs no sampling. A step's share follows from the data: the recipe says
how many steps there are, and every step has as many slots, the last ones empty.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vidembed.feeds.feed import Batch, Buffers
from vidembed.feeds.videos import VideoFeed, VideoFeedOptions
from vidembed.records.statistics import Statistics

SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class OnePass(VideoFeedOptions):
    """How a pass is divided.

    parts: steps of the whole pass; the recipe has as many.
    """

    parts: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parts < 1:
            raise ValueError(f"parts {self.parts} must be 1 or more")


class OnePassFeed(VideoFeed):
    """A batch holds `each` times as many rows of a kind as are split over the devices."""

    config: OnePass
    each: int
    """Rows of a kind in what the batch is counted in."""
    videos: np.ndarray
    """i32[n]: the table rows that are gone over, in this order."""

    @property
    def whole_steps(self) -> int:
        """How many steps the pass has."""
        return self.config.parts

    @property
    def notes(self) -> tuple[str, ...]:
        """Which features are constant, and how many train videos lack a modality."""
        found, videos = [], np.sort(self.videos)
        for modality in self._reads:
            lacking = int((~self._table.has(modality)[videos]).sum())
            if lacking:
                found.append(
                    f"{lacking:,} of {len(videos):,} train videos lack {modality}: its mean stands "
                    "for it"
                )
            flat = np.flatnonzero(self.statistics()[modality]["deviation"] <= 1e-6)
            if len(flat):
                found.append(
                    f"{len(flat)} features of {modality} are constant over the train videos and "
                    f"say nothing: {_some(flat)}"
                )
        return tuple(found)

    @cached_property
    def _statistics(self) -> Statistics:
        return super().statistics()

    def statistics(self) -> Statistics:
        """See `VideoFeed`; ValueError, by name, for features that are not finite."""
        for modality in self._reads:
            known = self._statistics[modality]
            bad = np.flatnonzero(~np.isfinite(known["mean"] + known["deviation"]))
            if len(bad):
                raise ValueError(
                    f"{modality} has values that are not finite among the train videos, in the "
                    f"features {_some(bad)}: find them with `python -m vidembed inspect`, and "
                    "import without them"
                )
        return self._statistics

    def _make(self, step: int, own: slice, out: Buffers) -> Batch:
        # A host's part in rows, not in what the batch is counted in.
        return super()._make(step, slice(own.start * self.each, own.stop * self.each), out)

    def _buffers(self, examples: int) -> Buffers:
        """None: each batch has its own memory; how many rows there are is known from the data."""
        del examples
        return None


def check_step(step: int) -> None:
    """Raises ValueError for a step below 0."""
    if step < 0:
        raise ValueError(f"a step is a number from 0 on, found {step}")


def _some(numbers: np.ndarray) -> str:
    shown = ", ".join(map(str, numbers[:SHOWN]))
    return f"{shown} ..." if len(numbers) > SHOWN else shown
