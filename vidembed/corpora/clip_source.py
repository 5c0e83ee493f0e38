"""What a trained model embeds of videos as files: evenly spread clips, or windows of features."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vidembed.corpora.frame_sources import DecodedFrames, FrameSource
from vidembed.media.clip_frames import ClipFrames
from vidembed.media.frames import Fit
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
    stored: Mapping[str, FrameSource]
    """Modality → the features of the frames."""
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    """None; as of a `FeatureTable`."""
    failures: dict[int, str] = field(default_factory=dict)
    """The videos, by row, that could not be decoded so far, and why."""

    def __len__(self) -> int:
        return len(self.ids)

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
        """Evenly spread clips of videos i64[n], decoded in this thread: `clips` u8[n, N, T, H, W,
        3] and `present` bool[n, N]. One that cannot be decoded has none, and is named once."""
        pictures = ClipFrames(
            rate=rate, height=height, width=width, fit=fit, longest_seconds=longest_seconds
        )
        source = DecodedFrames(files=self.files, pictures=pictures)
        made = even_clips(source.read, rows, taking)
        for row, reason in source.failures.items():
            if row not in self.failures:
                self.failures[row] = reason
                _log.warning("without clips, because it cannot be decoded: %s", reason)
        return made

    def windows(self, rows: np.ndarray, taking: Taking, modality: str) -> dict[str, np.ndarray]:
        """Evenly spread windows of videos i64[n]: `clips` f32[n, N, T, F], `present` bool[n, N]."""
        return even_clips(self.stored[modality].read, rows, taking)
