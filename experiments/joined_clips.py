"""Join two clips in one video file."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from vidembed import files

HEIGHT, WIDTH, RATE = 180, 240, 15
"""Size and frames per second of the joined videos."""


class Clip(NamedTuple):
    """A labelled clip."""

    path: Path
    label: str
    part: str


def join(first: Path, second: Path, out: Path) -> tuple[float, float]:
    """Write both videos one after the other, without sound; returns joint and end in seconds."""
    ends, number = [], 0
    with files.whole_file(out) as unfinished, av.open(str(unfinished), "w", format="mp4") as target:
        stream = target.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for path in (first, second):
            for image in resampled(path):
                frame = av.VideoFrame.from_ndarray(image)
                frame.pts, number = number, number + 1
                target.mux(stream.encode(frame))
            ends.append(number / RATE)
        target.mux(stream.encode())
    return ends[0], ends[1]


def resampled(path: Path) -> Iterator[np.ndarray]:
    """Frames u8[HEIGHT, WIDTH, 3] at RATE per second, in presentation order."""
    with av.open(str(path)) as source:
        number, first = 0, None
        for frame in source.decode(video=0):
            first = frame.time if first is None else first
            while number <= (frame.time - first) * RATE:
                yield frame.reformat(WIDTH, HEIGHT, "rgb24").to_ndarray()
                number += 1


def seconds_of(clip: Clip) -> float:
    """The length of a clip."""
    with av.open(str(clip.path)) as source:
        return float(source.duration or 0) / av.time_base
