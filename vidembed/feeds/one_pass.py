"""Feeds that pass over all train videos once, in a fixed number of steps.

Sums over all of them need no sampling. The recipe sets the number of steps, and the data determine
the size of a step: all steps have the same number of slots, and the last slots are empty.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vidembed.feeds.feed import Batch, Buffers
from vidembed.feeds.videos import RelatedVideoFeedOptions, VideoFeed
from vidembed.records.statistics import Statistics

SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class OnePass(RelatedVideoFeedOptions):
    """Options for dividing the pass."""

    parts: int = 32
    """Number of steps of the whole pass, as in the recipe."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parts < 1:
            raise ValueError(f"parts {self.parts} must be 1 or more")


class OnePassFeed(VideoFeed):
    """Batches of `each` rows per kind and share."""

    config: OnePass
    each: int
    """Rows per group in one share."""
    videos: np.ndarray
    """i32[n]: the table rows of the pass, in this order."""

    @property
    def whole_steps(self) -> int:
        """The number of steps of the pass."""
        return self.config.parts

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about constant features and train videos that lack a modality."""
        sentences, videos = [], np.sort(self.videos)
        for modality in self._reads:
            lacking = int((~self._table.has(modality)[videos]).sum())
            if lacking:
                sentences.append(
                    f"{lacking:,} of {len(videos):,} train videos lack {modality}: its mean is "
                    "used instead"
                )
            flat = np.flatnonzero(self.statistics()[modality]["deviation"] <= 1e-6)
            if len(flat):
                sentences.append(
                    f"{len(flat)} features of {modality} are constant over the train videos and "
                    f"have no effect: {_some(flat)}"
                )
        return tuple(sentences)

    @cached_property
    def _statistics(self) -> Statistics:
        return super().statistics()

    def statistics(self) -> Statistics:
        """See `VideoFeed`; raises ValueError, naming the features, if some are not finite."""
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

    def _make(self, step: int, host_slice: slice, out: Buffers) -> Batch:
        # Convert the host's part from shares to rows.
        return super()._make(
            step, slice(host_slice.start * self.each, host_slice.stop * self.each), out
        )

    def _buffers(self, examples: int) -> Buffers:
        """None: each batch has its own memory; the number of rows depends on the data."""
        del examples
        return None


def check_step(step: int) -> None:
    """Raises ValueError for a step below 0."""
    if step < 0:
        raise ValueError(f"a step must be from 0 on, found {step}")


def _some(numbers: np.ndarray) -> str:
    shown = ", ".join(map(str, numbers[:SHOWN]))
    return f"{shown} ..." if len(numbers) > SHOWN else shown
