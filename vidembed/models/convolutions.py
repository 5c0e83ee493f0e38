"""Convolutions over time, height and width, two ways: direct, or as 2-D ones that are summed."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp

Convolution = Literal["automatic", "direct", "shifted"]
Steps = tuple[int, int, int]


def check_convolution(how: str) -> None:
    """Raise ValueError for a way that does not exist."""
    if how not in get_args(Convolution):
        raise ValueError(
            f"convolution must be one of {', '.join(get_args(Convolution))}, found {how!r}"
        )


def convolve(
    clips: jax.Array, kernel: jax.Array, *, strides: Steps = (1, 1, 1), how: Convolution
) -> jax.Array:
    """Correlate f32[M, T, H, W, C] with a kernel f32[t, h, w, C, D]; odd sizes, padded by zeros.

    Returns f32[M, ceil(T / st), ceil(H / sh), ceil(W / sw), D]. direct: one 3-D convolution.
    shifted: for each of the t taps a 2-D convolution of single frames, summed: the same numbers up
    to rounding, in XLA on CPU several times faster (`python -m
    experiments.benchmarks.convolutions`). automatic: shifted on CPU, else direct.
    """
    direct, shifted = partial(_direct, strides=strides), partial(_shifted, strides=strides)
    if how == "automatic":
        made: jax.Array = jax.lax.platform_dependent(clips, kernel, cpu=shifted, default=direct)
        return made
    return direct(clips, kernel) if how == "direct" else shifted(clips, kernel)


def _direct(clips: jax.Array, kernel: jax.Array, strides: Steps) -> jax.Array:
    padding = [(size // 2, size // 2) for size in kernel.shape[:3]]
    return jax.lax.conv_general_dilated(
        clips, kernel, strides, padding, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )


def _shifted(clips: jax.Array, kernel: jax.Array, strides: Steps) -> jax.Array:
    taps, length, (stride, *plane) = kernel.shape[0], clips.shape[1], strides
    frames, before = -(-length // stride), taps // 2
    padded = jnp.pad(clips, [(0, 0), (before, before), (0, 0), (0, 0), (0, 0)])
    around = [(size // 2, size // 2) for size in kernel.shape[1:3]]
    parts = []
    for tap in range(taps):
        places = range(tap - before, tap - before + (frames - 1) * stride + 1, stride)
        if not any(0 <= place < length for place in places):
            continue  # this tap sees nothing but the padding
        some = padded[:, tap : tap + (frames - 1) * stride + 1 : stride]
        part = jax.lax.conv_general_dilated(
            some.reshape(-1, *some.shape[2:]),
            kernel[tap],
            plane,
            around,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        parts.append(part.reshape(clips.shape[0], frames, *part.shape[1:]))
    return sum(parts[1:], parts[0])
