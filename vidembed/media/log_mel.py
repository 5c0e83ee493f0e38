"""Log-mel spectrograms, streamed, with the two usual front ends as presets."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

_CHUNK = 256  # frames transformed at a time


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """A log-mel front end; the defaults are VGGish's (Hershey et al. 2017, CNN architectures for
    large-scale audio classification, and the code released with AudioSet).

    Frames of `frame_samples`, weighted by a periodic Hann window and padded with zeros to
    `fft_samples`, start every `hop_samples`. Their magnitude, to the power of `power`, is summed in
    `bands` triangular bands whose edges are equally spaced in mel between `low_hz` and `high_hz`.
    """

    sample_rate: int = 16_000
    frame_samples: int = 400
    hop_samples: int = 160
    fft_samples: int = 512
    bands: int = 64
    low_hz: float = 125.0
    high_hz: float = 7500.0
    scale: Literal["htk", "slaney"] = "htk"
    """the mel scale: HTK's 1127 ln(1 + f / 700), or Slaney's, linear below 1 kHz."""
    slopes: Literal["mel", "hertz"] = "mel"
    """the axis on which the triangles have straight sides."""
    equal_area: bool = False
    """whether each triangle is divided by half its width in Hz."""
    power: Literal[1, 2] = 1
    """sum magnitudes, or their squares."""
    padding: Literal["none", "reflect", "zeros"] = "none"
    """centre frame i on sample i x hop_samples, by mirroring the sound at both ends or by zeros;
    none: frame i begins there."""
    compression: Literal["natural", "decimal"] = "natural"
    """ln(x + 0.01), or log10(10000 x + 1)."""

    def __post_init__(self) -> None:
        if not 0 < self.frame_samples <= self.fft_samples or self.hop_samples < 1 or self.bands < 1:
            raise ValueError(
                f"{self}: frame_samples must be 1 to fft_samples; hop and bands above 0"
            )
        if not 0 <= self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise ValueError(
                f"bands from {self.low_hz} to {self.high_hz} Hz: expected 0 <= low_hz < high_hz <= "
                f"{self.sample_rate / 2}, half the sample rate"
            )

    def frames(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Consecutive frames f32[n, bands] of a waveform that comes in blocks f32[m].

        They do not depend on how the waveform is cut.
        """
        for samples, count in self._spans(blocks):
            view = np.lib.stride_tricks.sliding_window_view(samples, self._span)
            for start in range(0, count, _CHUNK):
                stop = min(start + _CHUNK, count)
                yield self._of_spans(view[:: self.hop_samples][start:stop])

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """The frames f32[n, bands] of a whole waveform f32[m]."""
        frames = list(self.frames([waveform]))
        return np.concatenate(frames) if frames else np.empty((0, self.bands), np.float32)

    @property
    def _span(self) -> int:
        """Samples that a frame reads: centred frames are as long as the transform."""
        return self.frame_samples if self.padding == "none" else self.fft_samples

    def _spans(self, blocks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
        """Samples with the number of frames that they hold; what remains comes again."""
        held = np.empty(0, np.float32)
        for block in self._padded(blocks):
            held = np.concatenate([held, block])
            count = max(0, 1 + (len(held) - self._span) // self.hop_samples)
            if count:
                yield held, count
                held = held[count * self.hop_samples :]

    def _padded(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        half = self.fft_samples // 2
        if self.padding == "none":
            yield from blocks
            return
        if self.padding == "zeros":
            yield np.zeros(half, np.float32)
            empty = True
            for block in blocks:
                empty = empty and not len(block)
                yield block
            if not empty:
                yield np.zeros(half, np.float32)
            return
        head, tail, begun = np.empty(0, np.float32), np.empty(0, np.float32), False
        for block in blocks:
            tail = np.concatenate([tail, block])[-half - 1 :]
            if begun:
                yield block
                continue
            head = np.concatenate([head, block])
            if len(head) > half:
                begun = True
                yield np.concatenate([head[half:0:-1], head])
        if begun:
            yield tail[-2::-1]
        elif len(head):  # shorter than what is mirrored
            yield np.pad(head, half, "reflect" if len(head) > 1 else "edge")

    def _of_spans(self, spans: np.ndarray) -> np.ndarray:
        weighted = spans * self._window
        spectrum = np.abs(np.fft.rfft(weighted, self.fft_samples)).astype(np.float32)
        mel = (spectrum if self.power == 1 else spectrum**2) @ self.matrix
        if self.compression == "natural":
            return np.log(mel + np.float32(0.01))
        return np.log10(10_000 * mel + np.float32(1))

    @cached_property
    def _window(self) -> np.ndarray:
        angle = 2 * np.pi * np.arange(self.frame_samples) / self.frame_samples
        window = (0.5 - 0.5 * np.cos(angle)).astype(np.float32)
        margin = self._span - self.frame_samples
        return np.pad(window, (margin // 2, margin - margin // 2))

    @cached_property
    def matrix(self) -> np.ndarray:
        """Weights f32[fft_samples // 2 + 1, bands] of the frequencies in the bands."""
        bins = np.arange(self.fft_samples // 2 + 1) * self.sample_rate / self.fft_samples
        low, high = _to_mel(np.array([self.low_hz, self.high_hz]), self.scale)
        mels = np.linspace(low, high, self.bands + 2)
        hertz = _to_hertz(mels, self.scale)
        edges, at = (mels, _to_mel(bins, self.scale)) if self.slopes == "mel" else (hertz, bins)
        rising = (at[:, None] - edges[:-2]) / np.diff(edges)[:-1]
        falling = (edges[2:] - at[:, None]) / np.diff(edges)[1:]
        weights = np.maximum(0, np.minimum(rising, falling))
        if self.equal_area:
            weights *= 2 / (hertz[2:] - hertz[:-2])
        return weights.astype(np.float32)


VGGISH = LogMel()
MUSICNN = LogMel(
    frame_samples=512,
    hop_samples=256,
    bands=96,
    low_hz=0.0,
    high_hz=8000.0,
    scale="slaney",
    slopes="hertz",
    equal_area=True,
    power=2,
    padding="reflect",
    compression="decimal",
)
"""musicnn's (Pons and Serra 2019), with librosa 0.7's defaults; its windows have 187 frames."""


def _to_mel(hertz: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 1127.0 * np.log1p(hertz / 700.0)
    logarithmic = 15 + 27 * np.log(np.maximum(hertz, 1000) / 1000) / np.log(6.4)
    return np.where(hertz < 1000, 3 * hertz / 200, logarithmic)


def _to_hertz(mel: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700.0 * np.expm1(mel / 1127.0)
    return np.where(mel < 15, 200 * mel / 3, 1000 * 6.4 ** (np.maximum(mel - 15, 0) / 27))
