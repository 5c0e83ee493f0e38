"""Frames of a video file at a number per second, by presentation time."""

import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np

from vidembed.media.container import best_stream, compare_duration, decoded_frames, opened

Fit = Literal["squeeze", "crop"]
LONGEST_SECONDS = 600
"""How long a frame may be shown; a longer gap between two frames is a damaged time."""

_SLACK_SECONDS = Fraction(1, 2000)
_WIDEST = 16  # the widest aspect ratio that is preserved


class SampledFrame(NamedTuple):
    """A frame as it is shown at a time.

    seconds: the time, from the start of the file. shown_seconds: when the frame appeared. image:
    u8[height, width, 3], RGB.
    """

    seconds: float
    shown_seconds: float
    image: np.ndarray


def exact_rate(rate: float) -> Fraction:
    """The rate as it is written: 29.97 is 2997/100."""
    return Fraction(repr(float(rate)))


def sampled_frames(
    path: str | os.PathLike[str],
    trouble: list[str],
    *,
    rate: Fraction,
    height: int,
    width: int,
    fit: Fit = "squeeze",
) -> Iterator[SampledFrame]:
    """The frames shown at k / rate seconds after the first frame, for k = 0, 1, 2 ...

    The frame shown at t is the last one, in order of presentation, with a time of at most t. It
    counts from half a tick of the stream's clock, at most 0.5 ms, before its time, because
    containers round times. The last frame is shown as long as the file says, or as long as the one
    before it; the first is always among the results. If times are missing, step back by a second or
    jump by more than `LONGEST_SECONDS`, a frame follows the one before it after that one's
    duration.

    Turned upright as the file's display matrix says, then scaled by swscale's area averaging:
    squeezed to height and width, or, for "crop", scaled so that it covers them with its shape
    preserved (ratios beyond 16:1 are not) and cut at the middle. What could not be decoded is
    appended to `trouble`. A file without a video stream yields nothing. Raises as `opened` does.
    """
    with opened(path) as container:
        stream = best_stream(container, "video")
        if stream is None:
            return
        frames = decoded_frames(container, stream, os.fspath(path), trouble)
        clock = _Clock(stream)
        scaled = _Scaled(height, width, fit, stream)
        slack = min(Fraction(stream.time_base or 1) / 2, _SLACK_SECONDS)
        start = previous = None
        zero, k, appeared = Fraction(0), 0, Fraction(0)
        for frame in frames:
            time = clock.time(frame)
            if start is None:
                start, zero = time, _file_start(container, time)
            while previous is not None and start + k / rate + slack < time:
                at, shown = start + k / rate - zero, appeared - zero
                yield SampledFrame(float(at), float(shown), scaled(previous))
                k += 1
            previous, appeared = frame, time
        if previous is None or start is None:
            return
        end = appeared + clock.last_duration(previous)
        while k == 0 or start + k / rate + slack < end:
            at, shown = start + k / rate - zero, appeared - zero
            yield SampledFrame(float(at), float(shown), scaled(previous))
            k += 1
        trouble.extend(clock.trouble)
        compare_duration(container, stream, float(end - start), trouble)


def _file_start(container: Any, first: Fraction) -> Fraction:
    """When the file starts: no later than its first frame."""
    if container.start_time is None:
        return first
    return min(Fraction(container.start_time, 1_000_000), first)


class _Clock:
    """Times of frames in seconds that never step back and never jump."""

    def __init__(self, stream: Any) -> None:
        rate = stream.average_rate or stream.guessed_rate
        self._usual = 1 / Fraction(rate) if rate else Fraction(1, 25)
        self._base = stream.time_base
        self._last: Fraction | None = None
        self._step = self._usual
        self._shift = Fraction(0)
        self._untimed = self._jumps = 0

    def time(self, frame: Any) -> Fraction:
        """The time of the next frame."""
        last, stamp = self._last, frame.pts
        base = frame.time_base or self._base
        if stamp is None or not base:
            self._untimed += 1
            time = Fraction(0) if last is None else last + self._step
        else:
            time = stamp * Fraction(base) + self._shift
            if last is not None and not -1 < time - last <= LONGEST_SECONDS:
                self._jumps += 1
                self._shift += last + self._step - time
                time = last + self._step
        if last is not None:
            time = max(time, last)
            self._step = time - last or self._step
        self._last = time
        return time

    def last_duration(self, frame: Any) -> Fraction:
        """How long the last frame is shown."""
        base = frame.time_base or self._base
        duration = Fraction(frame.duration or 0) * Fraction(base or 0)
        return duration if 0 < duration <= LONGEST_SECONDS else self._step

    @property
    def trouble(self) -> list[str]:
        """What is wrong with the times."""
        jumps = f"video: times jump at {self._jumps:,} places, which were joined"
        return [jumps] if self._jumps else []


class _Scaled:
    """Scales frames to u8[height, width, 3]; the latest result is reused."""

    def __init__(self, height: int, width: int, fit: Fit, stream: Any) -> None:
        from av.video.reformatter import Interpolation, VideoReformatter

        self._height, self._width, self._fit = height, width, fit
        self._shape_of_pixels = Fraction(stream.sample_aspect_ratio or 1)
        self._reformatter = VideoReformatter()
        # Exact and the same on every processor.
        self._how = (
            Interpolation.AREA | Interpolation.ACCURATE_RND
            | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
        )  # fmt: skip
        self._latest: tuple[Any, np.ndarray] | None = None

    def __call__(self, frame: Any) -> np.ndarray:
        """The frame as u8[height, width, 3]."""
        if self._latest is None or self._latest[0] is not frame:
            self._latest = frame, self._scale(frame)
        return self._latest[1]

    def _scale(self, frame: Any) -> np.ndarray:
        matrix = _display_matrix(frame)
        swapped = abs(matrix[0, 0]) < abs(matrix[0, 1])
        height, width = self._height, self._width
        if self._fit == "crop":
            shape = Fraction(frame.width, frame.height) * self._shape_of_pixels
            shape = min(
                max(1 / shape if swapped else shape, Fraction(1, _WIDEST)), Fraction(_WIDEST)
            )
            height = max(height, round(width / shape))
            width = max(width, round(height * shape))
        before = (height, width) if not swapped else (width, height)
        small = self._reformatter.reformat(
            frame, before[1], before[0], "rgb24", interpolation=self._how, threads=1
        )
        image = turned(small.to_ndarray(), matrix)
        top, left = (height - self._height) // 2, (width - self._width) // 2
        return np.ascontiguousarray(image[top : top + self._height, left : left + self._width])


def turned(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The image [H, W, 3] as a display matrix i32[2, 2] shows it, by the nearest right angle.

    The pixel at (x, y) is shown at (x, y) @ matrix; x runs to the right and y down.
    """
    (xx, xy), (yx, yy) = matrix.tolist()
    if abs(xx) >= abs(xy):
        flip_x, flip_y = xx < 0, yy < 0
    else:
        image = image.transpose(1, 0, 2)
        flip_x, flip_y = yx < 0, xy < 0
    return image[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


def _display_matrix(frame: Any) -> np.ndarray:
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return np.eye(2, dtype=np.int32)
    return np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2]
