"""From blocks of frames or sound to the array that a network takes: axes, offset and scale.

Axes have letters: N frames, clips or windows, T time, H height, W width, C colours (RGB), B mel
bands, S samples; "1" is an axis of size 1. A layout such as NCHW is the network's order of them. NF
is a flat row of all numbers of each frame, clip or window.
"""

import math
from collections.abc import Sequence
from itertools import permutations

import numpy as np

from vidembed.media.inputs import ClipInput, FrameInput, Input, LogMelInput

COLOURS, FLAT = 3, "NF"


def axes_of(taken: Input) -> dict[str, int]:
    """The axes of one frame, clip or window as `blocks` gives them, with their sizes, in order."""
    if isinstance(taken, FrameInput):
        return {"H": taken.height, "W": taken.width, "C": COLOURS}
    if isinstance(taken, ClipInput):
        return {"T": taken.frames, "H": taken.height, "W": taken.width, "C": COLOURS}
    if isinstance(taken, LogMelInput):
        return {"T": taken.window_frames, "B": taken.log_mel.bands}
    return {"S": taken.samples}


def check_layout(layout: str, taken: Input) -> None:
    """Raise ValueError unless the layout has each axis of the input once, N first, else 1."""
    axes = "".join(axes_of(taken))
    if layout == FLAT:
        return
    if layout[:1] != "N" or sorted(layout[1:].replace("1", "")) != sorted(axes):
        raise ValueError(
            f"layout {layout!r}: expected N, then each of {', '.join(axes)} once, in the order of "
            f"the network's input, and 1 for each axis of size 1, such as 'N{axes}'; or 'NF' for "
            "flat rows"
        )


def shape_in(layout: str, taken: Input) -> tuple[int | None, ...]:
    """The network's input shape by this layout; None for the free N."""
    sizes = axes_of(taken)
    if layout == FLAT:
        return None, math.prod(sizes.values())
    return tuple(None if axis == "N" else sizes.get(axis, 1) for axis in layout)


def fits(expected: Sequence[int | None], declared: Sequence[int | None]) -> bool:
    """Whether a graph's declared input shape admits this shape. The first axis is not compared."""
    return len(expected) == len(declared) and all(
        size in (None, other) for size, other in zip(declared[1:], expected[1:])
    )


def fitting(taken: Input, declared: Sequence[int | None]) -> list[str]:
    """Layouts without axes of size 1 by which the input fits the declared shape."""
    orders = ["N" + "".join(order) for order in permutations(axes_of(taken))]
    return [layout for layout in [*orders, FLAT] if fits(shape_in(layout, taken), declared)]


def arranged(
    values: np.ndarray,
    layout: str,
    taken: Input,
    *,
    mean: Sequence[float] = (0.0,),
    scale: Sequence[float] = (1.0,),
    dtype: str = "float32",
) -> np.ndarray:
    """(values - mean) / scale in the network's order of axes and dtype, contiguous.

    values: u8[n, ...] or f32[n, ...] with the axes of `axes_of`. mean, scale: one number, or one
    for each entry of the last axis (colours, bands). Raises ValueError for another shape.
    """
    sizes = axes_of(taken)
    if values.shape[1:] != tuple(sizes.values()):
        expected = ", ".join(f"{axis} = {size}" for axis, size in sizes.items())
        raise ValueError(f"values of shape {values.shape}: expected [n, {expected}]")
    if dtype != "uint8":
        values = np.subtract(values, np.asarray(mean, np.float32), dtype=np.float32)
        values /= np.asarray(scale, np.float32)
    axes = "N" + "".join(sizes)
    if layout == FLAT:
        return np.ascontiguousarray(values.reshape(len(values), -1), dtype)
    values = values.transpose([axes.index(axis) for axis in layout if axis != "1"])
    ones = tuple(place for place, axis in enumerate(layout) if axis == "1")
    return np.ascontiguousarray(np.expand_dims(values, ones), dtype)
