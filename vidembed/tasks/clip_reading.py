"""Which clips of a video a trained model reads: evenly spread, so that they are always the same."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vidembed.records.clip_cuts import Taking


@dataclass(frozen=True, kw_only=True)
class EvenWindows:
    """Evenly spread windows of the features of frames.

    A video shorter than a window has one, with its frames in a loop.
    """

    clips: int = 4
    """Windows per video."""
    frames: int = 16
    """Frames per window; choose that of the feed."""
    stride: int = 1
    """Take each k-th frame only; choose that of the feed."""
    modality: str = ""
    """The features, where the videos have several."""

    def __post_init__(self) -> None:
        _taking(self)  # raises for impossible options

    def read(self, source: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
        """clips f32[B, N, T, F] and present bool[B, N] of rows i64[B] of a `ClipSource`."""
        names = [self.modality] if self.modality else list(source.stored)
        if len(names) != 1 or names[0] not in source.stored:
            raise ValueError(
                f"windows of {self.modality or 'one modality'} expected, and the videos have the "
                f"features {sorted(source.stored)}: give them (--corpus.frames), or name one "
                "(--task.embedded.modality)"
            )
        made: dict[str, np.ndarray] = source.windows(rows, _taking(self), names[0])
        return made


@dataclass(frozen=True, kw_only=True)
class EvenClips:
    """Evenly spread clips, decoded from the files.

    Choose the options of the feed: a network for 8 frames per second sees other motion at 24. The
    size of the frames is free: they are resized to that of the augmentation.
    """

    clips: int = 2
    """Clips per video."""
    frames: int = 16
    """Frames per clip."""
    stride: int = 1
    """Take each k-th frame only."""
    rate: float = 8.0
    """Frames per second, of which every stride-th is taken."""
    height: int = 112
    """Of a frame, in pixels."""
    width: int = 112
    """Of a frame, in pixels."""
    fit: Literal["crop", "squeeze"] = "crop"
    """squeeze the frame to the size, or crop its middle."""
    longest_seconds: float = 60.0
    """Clips are cut from the first seconds of a video."""

    def __post_init__(self) -> None:
        _taking(self)  # raises for impossible options

    def read(self, source: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
        """clips u8[B, N, T, H, W, 3] and present bool[B, N] of rows i64[B] of a `ClipSource`."""
        made: dict[str, np.ndarray] = source.clips(
            rows,
            _taking(self),
            rate=self.rate,
            height=self.height,
            width=self.width,
            fit=self.fit,
            longest_seconds=self.longest_seconds,
        )
        return made


def _taking(options: EvenWindows | EvenClips) -> Taking:
    return Taking(
        clips=options.clips,
        frames=options.frames,
        stride=options.stride,
        starts="even",
        short="loop",
    )
