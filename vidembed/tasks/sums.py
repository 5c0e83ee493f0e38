"""What tasks share that sum products over one pass and then solve for a linear map."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidembed.models.fusion import EarlyFusion, SingleModality
from vidembed.models.parameters import Network
from vidembed.tasks.video import Arrays

KERNEL, BIAS = "towers/0/layers/0/kernel", "towers/0/layers/0/bias"
"""The parameters of a linear map of all modalities side by side."""


def check_linear(model: Network, what: str) -> None:
    """Raises ValueError for a network that is no linear map."""
    if (
        not isinstance(model, EarlyFusion | SingleModality)
        or model.layers.hidden
        or model.layers.last_activation != "none"
    ):
        raise ValueError(
            f"{what} is a linear map: task.model:early-fusion or task.model:single-modality, "
            "without hidden layers (--task.model.layers.hidden) and without an activation"
        )


def feature_names(model: Network, state: Arrays) -> list[str]:
    """What the rows of the map are called: "visual 0", ..."""
    widths = {m: len(state["inputs"][m]["mean"]) for m in model.modalities}
    return [f"{m} {number}" for m, width in widths.items() for number in range(width)]


def product(one: jax.Array, other: jax.Array) -> jax.Array:
    """f32[d, k]: products of f32[n, d] and f32[n, k] summed over rows, precise on every device."""
    return jnp.matmul(one.T, other, precision=jax.lax.Precision.HIGHEST)


def none_yet(shapes: Mapping[str, tuple[int, int]]) -> dict[str, jax.Array]:
    """Sums of nothing by name. What rounding took from a sum is kept beside it, so that many steps
    lose no more than one."""
    return {
        f"{name}{part}": jnp.zeros(shape)
        for name, shape in shapes.items()
        for part in ("", "_lost")
    }


def added(sums: Arrays, name: str, more: jax.Array) -> dict[str, jax.Array]:
    """The sums with more in one of them, by Kahan's compensated summation."""
    before, more = sums[name], more - sums[f"{name}_lost"]
    after = before + more
    return {**sums, name: after, f"{name}_lost": (after - before) - more}


def total(sums: Mapping[str, Any], name: str) -> np.ndarray:
    """One of the sums in float64."""
    return np.asarray(sums[name], np.float64) - np.asarray(sums[f"{name}_lost"], np.float64)
