"""Sums of products over one pass, for tasks that solve for a linear map."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidembed.models.fusion import EarlyFusion, SingleModality
from vidembed.models.parameters import Network
from vidembed.tasks.video import Arrays

KERNEL, BIAS = "towers/0/layers/0/kernel", "towers/0/layers/0/bias"
"""The parameters of a linear map of the concatenated modalities."""


def check_linear(model: Network, what: str) -> None:
    """Raise ValueError for a network that is not a linear map."""
    if (
        not isinstance(model, EarlyFusion | SingleModality)
        or model.layers.hidden
        or model.layers.last_activation != "none"
    ):
        raise ValueError(
            f"{what} is a linear map: use task.model:early-fusion or task.model:single-modality, "
            "without hidden layers (--task.model.layers.hidden) and without an activation"
        )


def feature_names(model: Network, state: Arrays) -> list[str]:
    """Names of the rows of the map: "visual 0", ..."""
    widths = {m: len(state["inputs"][m]["mean"]) for m in model.modalities}
    return [f"{m} {number}" for m, width in widths.items() for number in range(width)]


def product(left: jax.Array, right: jax.Array) -> jax.Array:
    """f32[d, k] = leftᵀ right, for f32[n, d] and f32[n, k], in full float32 on every device."""
    return jnp.matmul(left.T, right, precision=jax.lax.Precision.HIGHEST)


def zero_sums(shapes: Mapping[str, tuple[int, int]]) -> dict[str, jax.Array]:
    """Sums of zero by name. The rounding error of each sum is stored with it, so that many steps
    lose no more than one."""
    return {
        f"{name}{part}": jnp.zeros(shape)
        for name, shape in shapes.items()
        for part in ("", "_lost")
    }


def added(sums: Arrays, name: str, more: jax.Array) -> dict[str, jax.Array]:
    """Add to one of the sums, by Kahan's compensated summation."""
    before, more = sums[name], more - sums[f"{name}_lost"]
    after = before + more
    return {**sums, name: after, f"{name}_lost": (after - before) - more}


def total(sums: Mapping[str, Any], name: str) -> np.ndarray:
    """One of the sums in float64."""
    return np.asarray(sums[name], np.float64) - np.asarray(sums[f"{name}_lost"], np.float64)
