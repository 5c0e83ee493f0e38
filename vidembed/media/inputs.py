"""What a backbone takes. (A place holder with the options alone.)"""

from dataclasses import dataclass
from typing import Literal

from vidembed.media.log_mel import LogMel


@dataclass(frozen=True, kw_only=True)
class FrameInput:
    """Single frames, u8[n, H, W, 3]."""

    height: int = 224
    width: int = 224
    fit: Literal["squeeze", "crop"] = "squeeze"
    rate: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ClipInput:
    """Clips of frames, u8[n, T, H, W, 3]."""

    frames: int = 16
    stride: int = 1
    height: int = 224
    width: int = 224
    fit: Literal["squeeze", "crop"] = "squeeze"
    rate: float = 1.0


@dataclass(frozen=True, kw_only=True)
class LogMelInput:
    """Windows of a log-mel spectrogram, f32[n, frames, bands]."""

    log_mel: LogMel = LogMel()
    window_frames: int = 96
    hop_frames: int = 96


@dataclass(frozen=True, kw_only=True)
class WaveformInput:
    """Windows of a waveform, f32[n, samples]."""

    seconds: float = 1.0
    hop_seconds: float = 1.0
    sample_rate: int = 16000

    @property
    def samples(self) -> int:
        """Samples in a window."""
        return round(self.seconds * self.sample_rate)


Input = FrameInput | ClipInput | LogMelInput | WaveformInput
