"""What a backbone takes of a video file: frames, clips, log-mel windows or waveforms, in blocks."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vidembed.media.frames import Fit, exact_rate, sampled_frames
from vidembed.media.log_mel import VGGISH, LogMel
from vidembed.media.sound import SAMPLE_RATE, SoundBlock, sound_blocks

BLOCK = 64
"""At most so many frames or windows come in a block, and clips of so many frames in all."""


class Block(NamedTuple):
    """Consecutive frames or windows of one file.

    times: f64[n], seconds from the start of the file. values: u8[n, height, width, 3],
    u8[n, frames, height, width, 3], f32[n, frames, bands] or f32[n, samples].
    """

    times: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, kw_only=True)
class FrameInput:
    """Frames u8[n, height, width, 3] at `rate` per second, RGB."""

    height: int = 224
    width: int = 224
    fit: Fit = "squeeze"
    """squeeze the frame to the size, or crop its middle."""
    rate: float = 1.0

    def __post_init__(self) -> None:
        _check_picture(self.height, self.width, self.fit, self.rate)

    @property
    def lasts(self) -> float:
        """Seconds that a frame covers: none."""
        return 0.0

    def blocks(self, path: str | os.PathLike[str], trouble: list[str]) -> Iterator[Block]:
        """The frames of a file, of which each is the one shown at k / rate seconds (see
        `vidembed.media.frames.sampled_frames`). A file without video yields nothing."""
        frames = sampled_frames(
            path, trouble, rate=exact_rate(self.rate), height=self.height, width=self.width,
            fit=self.fit,
        )  # fmt: skip
        yield from _in_blocks(((frame.seconds, frame.image) for frame in frames), BLOCK)


@dataclass(frozen=True, kw_only=True)
class ClipInput:
    """Clips u8[n, frames, height, width, 3] that follow each other.

    Of the frames at `rate` per second every `stride`-th is taken, so that a clip lasts
    frames x stride / rate seconds.
    """

    frames: int = 16
    stride: int = 2
    rate: float = 25.0
    height: int = 224
    width: int = 224
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        _check_picture(self.height, self.width, self.fit, self.rate)
        if self.frames < 1 or self.stride < 1:
            raise ValueError(f"{self}: frames and stride must be at least 1")

    @property
    def lasts(self) -> float:
        """Seconds that a clip covers."""
        return self.frames * self.stride / self.rate

    def blocks(self, path: str | os.PathLike[str], trouble: list[str]) -> Iterator[Block]:
        """The whole clips of a file. If it is shorter than one, the last frame is repeated. A file
        without video yields nothing."""
        frames = sampled_frames(
            path, trouble, rate=exact_rate(self.rate) / self.stride, height=self.height,
            width=self.width, fit=self.fit,
        )  # fmt: skip
        pairs = ((frame.seconds, frame.image) for frame in frames)
        yield from _in_blocks(
            _windows(pairs, self.frames, self.frames), max(1, BLOCK // self.frames)
        )


@dataclass(frozen=True, kw_only=True)
class LogMelInput:
    """Windows f32[n, window_frames, bands] of a log-mel spectrogram, every `hop_frames` frames.

    The default is 96 frames of 10 ms: windows of 960 ms, end to end.
    """

    log_mel: LogMel = VGGISH
    window_frames: int = 96
    hop_frames: int = 96

    def __post_init__(self) -> None:
        if self.window_frames < 1 or self.hop_frames < 1:
            raise ValueError(f"{self}: window_frames and hop_frames must be at least 1")

    @property
    def lasts(self) -> float:
        """Seconds that a window covers."""
        return self.window_frames * self.log_mel.hop_samples / self.log_mel.sample_rate

    def blocks(self, path: str | os.PathLike[str], trouble: list[str]) -> Iterator[Block]:
        """The whole windows of a file. Sound shorter than one is followed by silence. A file
        without sound yields nothing."""
        front, start = self.log_mel, [0.0]
        lead = 0 if front.padding != "none" else front.frame_samples - front.hop_samples
        shortest = lead + self.window_frames * front.hop_samples
        if front.padding != "none":
            shortest = (self.window_frames - 1) * front.hop_samples
        sound = sound_blocks(path, trouble, sample_rate=front.sample_rate)
        frames = front.frames(_samples(sound, start, shortest))
        rows = (row for chunk in frames for row in chunk)
        step = front.hop_samples / front.sample_rate
        timed = ((start[0] + number * step, row) for number, row in enumerate(rows))
        yield from _in_blocks(_windows(timed, self.window_frames, self.hop_frames), BLOCK)


@dataclass(frozen=True, kw_only=True)
class WaveformInput:
    """Windows f32[n, samples] of the waveform, of `seconds` each, every `hop_seconds`."""

    seconds: float = 1.0
    hop_seconds: float = 1.0
    sample_rate: int = SAMPLE_RATE

    def __post_init__(self) -> None:
        if min(self.samples, self.hop_samples) < 1:
            raise ValueError(f"{self}: seconds and hop_seconds must last at least one sample")

    @property
    def lasts(self) -> float:
        """Seconds that a window covers."""
        return self.seconds

    @property
    def samples(self) -> int:
        """Samples in a window."""
        return round(self.seconds * self.sample_rate)

    @property
    def hop_samples(self) -> int:
        """Samples from a window's start to the next one's."""
        return round(self.hop_seconds * self.sample_rate)

    def blocks(self, path: str | os.PathLike[str], trouble: list[str]) -> Iterator[Block]:
        """The whole windows of a file. Sound shorter than one is followed by silence. A file
        without sound yields nothing."""
        start = [0.0]
        sound = sound_blocks(path, trouble, sample_rate=self.sample_rate)
        windows = self._cut(_samples(sound, start, self.samples))
        step = self.hop_samples / self.sample_rate
        timed = ((start[0] + number * step, window) for number, window in enumerate(windows))
        yield from _in_blocks(timed, BLOCK)

    def _cut(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        held, skip = np.empty(0, np.float32), 0
        for block in blocks:
            held = np.concatenate([held, block[skip:]])
            skip = max(0, skip - len(block))
            while len(held) >= self.samples:
                yield held[: self.samples]
                skip += max(0, self.hop_samples - len(held))
                held = held[self.hop_samples :]


Input = FrameInput | ClipInput | LogMelInput | WaveformInput


def _samples(
    sound: Iterator[SoundBlock], start: list[float], shortest: int
) -> Iterator[np.ndarray]:
    """The blocks of a sound, which is followed by silence if it is too short; `start` gets the time
    of the first sample."""
    count = 0
    for block in sound:
        if not count:
            start[0] = block.seconds
        count += len(block.samples)
        yield block.samples
    if 0 < count < shortest:
        yield np.zeros(shortest - count, np.float32)


def _windows(
    rows: Iterator[tuple[float, np.ndarray]], size: int, hop: int
) -> Iterator[tuple[float, np.ndarray]]:
    """Windows [size, ...] of rows, every `hop` rows, with the time of their first row; a single one
    filled up with the last row if there are fewer."""
    held: list[tuple[float, np.ndarray]] = []
    skip, any_window = 0, False
    for row in rows:
        if skip:
            skip -= 1
            continue
        held.append(row)
        if len(held) == size:
            any_window = True
            yield held[0][0], np.stack([values for _, values in held])
            skip = max(0, hop - size)
            held = held[hop:]
    if held and not any_window:
        held += [held[-1]] * (size - len(held))
        yield held[0][0], np.stack([values for _, values in held])


def _in_blocks(pairs: Iterator[tuple[float, np.ndarray]], size: int) -> Iterator[Block]:
    times: list[float] = []
    values: list[np.ndarray] = []
    for time, value in pairs:
        times.append(time)
        values.append(value)
        if len(times) == size:
            yield Block(np.array(times), np.stack(values))
            times, values = [], []
    if times:
        yield Block(np.array(times), np.stack(values))


def _check_picture(height: int, width: int, fit: str, rate: float) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"height {height} and width {width} must be at least 1 pixel")
    if fit not in ("squeeze", "crop"):
        raise ValueError(f"fit is {fit!r}; it must be 'squeeze' or 'crop'")
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"rate is {rate}; it must be above 0 frames per second")
