"""Log-mel spectrograms. (A place holder with the options alone.)"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Options of a log-mel spectrogram."""

    sample_rate: int = 16_000
    frame_samples: int = 400
    hop_samples: int = 160
    fft_samples: int = 512
    bands: int = 64
    low_hz: float = 125.0
    high_hz: float = 7500.0
    scale: Literal["htk", "slaney"] = "htk"
    slopes: Literal["mel", "hertz"] = "mel"
    equal_area: bool = False
    power: Literal[1, 2] = 1
    padding: Literal["none", "reflect", "zeros"] = "none"
    compression: Literal["natural", "decimal"] = "natural"


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
