"""8-bit quantisation, which keeps features small until they are on the device.

A byte b of a range [low, high] stands for low + (high − low)·(b/255 + 1/512): 256 levels, shifted
by half a step. The default range [−2, 2] is YouTube-8M's, as in the starter code of the data set. A
table may have a range of its own for each modality; floats are plain values.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True)
class Range:
    """The values that 8 bits cover: [low, high]. Raises ValueError unless low < high are finite."""

    low: float = -2.0
    high: float = 2.0

    def __post_init__(self) -> None:
        largest = float(np.finfo(np.float32).max) / 4
        inside = all(-largest <= value <= largest for value in (self.low, self.high))
        if not inside or not np.float32(self.step) > 0:
            raise ValueError(
                f"a range of bytes needs finite low < high, found {self.low!r} and {self.high!r}"
            )

    @staticmethod
    def covering(low: float, high: float) -> "Range":
        """The range of values from low to high; if these are equal, a range that begins there."""
        low, high = float(low), float(high)
        return Range(low, high if high > low else low + max(1.0, abs(low)))

    @property
    def step(self) -> float:
        """The distance of two levels; values in the range are rounded by at most half of it."""
        return (self.high - self.low) / 255.0

    @property
    def offset(self) -> float:
        """The value of byte 0."""
        return self.low + (self.high - self.low) / 512.0

    @property
    def bounds(self) -> tuple[float, float]:
        """Values beyond these change by more than half a step."""
        top = self.offset + (self.high - self.low)
        return self.offset - self.step / 2, top + self.step / 2

    def quantise(self, values: np.ndarray) -> np.ndarray:
        """Quantise f32[...] to the nearest level, u8[...]; clips values outside the range."""
        values = np.clip(np.asarray(values, np.float32), self.low, self.high)
        levels = np.rint((values - np.float32(self.offset)) * np.float32(1 / self.step))
        return np.clip(levels, 0, 255).astype(np.uint8)

    def dequantise(self, stored: Any) -> Any:
        """The values f32[...] of u8[...]; NumPy in, NumPy out; works under jit too."""
        return stored.astype(np.float32) * np.float32(self.step) + np.float32(self.offset)

    def clipped(self, values: np.ndarray) -> int:
        """The number of values that `quantise` changes by more than half a step."""
        below, above = self.bounds
        return int(((values < below) | (values > above)).sum())

    def __str__(self) -> str:
        return f"[{self.low:.4g}, {self.high:.4g}]"


YOUTUBE_8M = Range()
LOW, HIGH, STEP, OFFSET = YOUTUBE_8M.low, YOUTUBE_8M.high, YOUTUBE_8M.step, YOUTUBE_8M.offset


@functools.partial(jax.tree_util.register_dataclass, data_fields=["array"], meta_fields=["range"])
@dataclass(frozen=True)
class Ranged:
    """Bytes u8[...] with a range of their own, which travels with them to the devices.

    A pytree with one leaf; the range is part of its structure, so that compiled functions know it.
    """

    array: Any
    range: Range

    def __getitem__(self, rows: Any) -> "Ranged":
        return Ranged(self.array[rows], self.range)


def ranged(array: Any, range: Range | None) -> Any:
    """The array as `dequantise` reads it: with its range, unless that is None or YouTube-8M's."""
    return array if range in (None, YOUTUBE_8M) else Ranged(array, range)


def quantise(values: np.ndarray) -> np.ndarray:
    """Quantise f32[...] to YouTube-8M's levels, u8[...]; clips values outside [−2, 2]."""
    return YOUTUBE_8M.quantise(values)


def dequantise(stored: Any) -> Any:
    """Stored features u8|bf16|f32[...] as f32[...]; NumPy in, NumPy out; works under jit too.

    Bytes are YouTube-8M's unless they are `Ranged`.
    """
    if isinstance(stored, Ranged):
        return stored.range.dequantise(stored.array)
    if stored.dtype == np.uint8:
        return YOUTUBE_8M.dequantise(stored)
    return stored.astype(np.float32)
