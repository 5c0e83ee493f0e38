"""YouTube-8M's 8-bit quantisation, which keeps features small until they are on the device.

A byte b stands for b·4/255 + 4/512 − 2, as in the starter code of the data set: 256 levels over
[−2, 2], shifted by half a step. Stored uint8 arrays always mean this; floats are plain values.
"""

from typing import Any

import numpy as np

LOW, HIGH = -2.0, 2.0
STEP = (HIGH - LOW) / 255.0
OFFSET = LOW + (HIGH - LOW) / 512.0


def quantise(values: np.ndarray) -> np.ndarray:
    """Quantise f32[...] to the nearest of 256 levels, u8[...]; clips values outside [−2, 2]."""
    values = np.clip(np.asarray(values, np.float32), LOW, HIGH)  # prevents overflow below
    levels = np.rint((values - np.float32(OFFSET)) * np.float32(1 / STEP))
    return np.clip(levels, 0, 255).astype(np.uint8)


def dequantise(stored: Any) -> Any:
    """Stored features u8|bf16|f32[...] as f32[...]; NumPy in, NumPy out; works under jit too."""
    if stored.dtype == np.uint8:
        return stored.astype(np.float32) * np.float32(STEP) + np.float32(OFFSET)
    return stored.astype(np.float32)
