"""What a trained model embeds of videos as files: evenly spread clips, or windows of features."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vidembed.corpora.frame_sources import DecodedFrames, StoredFrames
from vidembed.media.clip_frames import ClipFrames
from vidembed.media.frames import Fit
from vidembed.media.video_list import origin_of
from vidembed.media.videos import VideoFile
from vidembed.records.clip_cuts import Taking, even_clips

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipSource:
    """N videos as files, in the place of a feature table: outputs read its rows.

    It has no features itself, so that evaluators have no baselines of them.
    """

    ids: np.ndarray
    """S[N]"""
    files: tuple[str, ...]
    """The file of each video; none if only the features of frames are known."""
    stored: Mapping[str, StoredFrames]
    """Modality → the features of the frames."""
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    """None; as of a `FeatureTable`."""
    failures: dict[int, str] = field(default_factory=dict)
    """The videos, by row, that could not be decoded so far, and why."""
    quiet: bool = False
    """Whether failures are only kept, and not logged."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def space(self) -> dict[str, str]:
        """Modality → the space of the stored features."""
        return {name: frames.space for name, frames in self.stored.items()}

    def clips(
        self,
        rows: np.ndarray,
        taking: Taking,
        *,
        rate: float,
        height: int,
        width: int,
        fit: Fit = "crop",
        longest_seconds: float = 60.0,
    ) -> dict[str, np.ndarray]:
        """Evenly spread clips of videos i64[n], decoded in one thread for each processor: `clips`
        u8[n, N, T, H, W, 3] and `present` bool[n, N]. One that cannot be decoded has none, and is
        named once. Raises ValueError if there are no files."""
        if not self.files:
            raise ValueError(
                "this run decodes clips of video files, and only features of frames are given: "
                "give the videos"
            )
        pictures = ClipFrames(
            rate=rate, height=height, width=width, fit=fit, longest_seconds=longest_seconds
        )
        source = DecodedFrames(files=self.files, pictures=pictures)
        made = even_clips(source.read, rows, taking, threads=os.cpu_count() or 1)
        for row, reason in sorted(source.failures.items()):
            if row not in self.failures:
                self.failures[row] = reason
                if self.quiet:
                    continue
                _log.warning("without clips, because it cannot be decoded: %s", reason)
        return made

    def windows(self, rows: np.ndarray, taking: Taking, modality: str) -> dict[str, np.ndarray]:
        """Evenly spread windows of videos i64[n]: `clips` f32[n, N, T, F], `present` bool[n, N]."""
        return even_clips(self.stored[modality].read, rows, taking)

    def seconds(self, rows: np.ndarray, begins: np.ndarray, rate: float | None) -> np.ndarray:
        """When clips begin, f32[n, N] in seconds: `begins` i32[n, N] numbers of frames at `rate`
        per second, or, without a rate, of the only modality of stored features."""
        if rate is not None:
            return (begins / rate).astype(np.float32)
        [frames] = self.stored.values()
        found = np.zeros(begins.shape, np.float32)
        for place, row in enumerate(rows.tolist()):
            times = frames.times(row)
            if len(times):
                found[place] = times[np.minimum(begins[place], len(times) - 1)]
        return found

    def origin(self, row: int) -> dict[str, Any]:
        """What identifies the contents of a video's file: its size and its time of change; {} if it
        cannot be read."""
        try:
            if self.files:
                return origin_of(VideoFile("", self.files[row]))
            return next(iter(self.stored.values())).store.origin(os.fsdecode(self.ids[row]))
        except OSError:
            return {}

    def name(self, row: int) -> str:
        """A video as named in messages: its file, else its id."""
        return self.files[row] if self.files else os.fsdecode(self.ids[row])
