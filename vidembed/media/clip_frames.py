"""All frames of a short video at a number per second, scaled: what clips are cut from."""

import math
import os
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from vidembed.media.container import MediaError
from vidembed.media.frames import Fit, exact_rate, sampled_frames


@dataclass(frozen=True, kw_only=True)
class ClipFrames:
    """Frames u8[T, height, width, 3] at `rate` per second, RGB, of the first `longest_seconds`."""

    rate: float
    height: int
    width: int
    fit: Fit
    longest_seconds: float

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(
                f"height {self.height} and width {self.width} must be at least 1 pixel"
            )
        if self.fit not in ("squeeze", "crop"):
            raise ValueError(f"fit is {self.fit!r}; it must be 'squeeze' or 'crop'")
        for name in ("rate", "longest_seconds"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; it must be above 0")

    def read(self, path: str | os.PathLike[str]) -> np.ndarray:
        """Decode a file, at least one frame. Raises MediaError if there is none, or OSError."""
        trouble: list[str] = []
        frames = sampled_frames(
            path, trouble, rate=exact_rate(self.rate), height=self.height, width=self.width,
            fit=self.fit,
        )  # fmt: skip
        inside = takewhile(lambda frame: frame.seconds < self.longest_seconds, frames)
        images = [frame.image for frame in inside]
        if not images:
            why = "; ".join(trouble) or "it has no video stream"
            raise MediaError(f"{os.fspath(path)}: no frame could be decoded: {why}")
        return np.stack(images)
