"""The sound of a media file as one channel at a fixed rate, streamed in blocks."""

import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from vidembed.media.container import best_stream, compare_duration, decoded_frames, opened

SAMPLE_RATE = 16_000


class SoundBlock(NamedTuple):
    """Consecutive samples. seconds: the time of the first, from the start of the file. samples:
    f32[n], usually between -1 and 1."""

    seconds: float
    samples: np.ndarray


def sound_blocks(
    path: str | os.PathLike[str], trouble: list[str], *, sample_rate: int = SAMPLE_RATE
) -> Iterator[SoundBlock]:
    """The sound of a file in blocks of about a second: the mean of its channels, resampled by
    swresample.

    Samples follow each other without gaps: their times count from the first one's. Samples that are
    not finite become 0. What could not be decoded is appended to `trouble`. A file without sound
    yields nothing. Raises as `vidembed.media.container.opened` does.
    """
    with opened(path) as container:
        stream = best_stream(container, "audio")
        if stream is None:
            return
        start: float | None = None
        count = broken = 0
        parts: list[np.ndarray] = []
        frames = decoded_frames(container, stream, os.fspath(path), trouble)
        for frame, part in _resampled(frames, sample_rate):
            if start is None:
                start = _start(container, frame)
            parts.append(part)
            # A codec's own blocks are so short that calls cost more than arithmetic.
            if sum(map(len, parts)) >= sample_rate:
                samples, faults = _finite(parts)
                yield SoundBlock(start + count / sample_rate, samples)
                count, broken, parts = count + len(samples), broken + faults, []
        samples, faults = _finite(parts)
        if start is not None and len(samples):
            yield SoundBlock(start + count / sample_rate, samples)
            count, broken = count + len(samples), broken + faults
        if broken:
            trouble.append(f"audio: {broken:,} samples are not finite; they were set to 0")
        compare_duration(container, stream, count / sample_rate, trouble)


def _resampled(frames: Iterator[Any], sample_rate: int) -> Iterator[tuple[Any, np.ndarray]]:
    """Each frame with the samples f32[n] that it adds; the last one with the rest."""
    from av.audio.resampler import AudioResampler

    resampler, form, frame = None, None, None
    for frame in frames:
        if (frame.format.name, frame.layout.name, frame.sample_rate) != form:
            if resampler is not None:
                yield from ((frame, _mean(out)) for out in resampler.resample(None))
            form = frame.format.name, frame.layout.name, frame.sample_rate
            resampler = AudioResampler("fltp", frame.layout, sample_rate)
        frame.pts = None  # a gap in the times would be filled or refused
        assert resampler is not None
        yield from ((frame, _mean(out)) for out in resampler.resample(frame))
    if resampler is not None:
        yield from ((frame, _mean(out)) for out in resampler.resample(None))


def _finite(parts: list[np.ndarray]) -> tuple[np.ndarray, int]:
    """The samples f32[n] of all parts, with 0 for those that are not finite, and their number."""
    samples = np.concatenate(parts) if parts else np.empty(0, np.float32)
    finite = np.isfinite(samples)
    return np.where(finite, samples, np.float32(0)), int((~finite).sum())


def _mean(frame: Any) -> np.ndarray:
    channels = frame.to_ndarray()
    return np.array(channels[0]) if len(channels) == 1 else channels.mean(0, dtype=np.float32)


def _start(container: Any, frame: Any) -> float:
    if frame.dts is None or not frame.time_base or container.start_time is None:
        return 0.0
    first = frame.dts * Fraction(frame.time_base)
    return float(max(first - Fraction(container.start_time, 1_000_000), Fraction(0)))
