"""Log-mel spectrograms. (A place holder with the options alone.)"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Options of a log-mel spectrogram."""

    sample_rate: int = 16000
    n_fft: int = 512
    hop: int = 256
    bands: int = 96
