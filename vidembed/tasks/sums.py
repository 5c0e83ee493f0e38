"""Linear maps that are solved for: sums of products over one pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vidembed.models import linear
from vidembed.models.fusion import EarlyFusion, Layers, SingleModality
from vidembed.models.parameters import Network
from vidembed.tasks import video
from vidembed.tasks.video import Arrays

KERNEL, BIAS = "towers/0/layers/0/kernel", "towers/0/layers/0/bias"
"""The parameters of a linear map of the concatenated modalities."""


@dataclass(frozen=True, kw_only=True)
class SolvedMap(video.VideoTask):
    """A linear map of the concatenated modalities, solved for from sums over the train videos.

    A missing modality counts as the mean.
    """

    model: Network = EarlyFusion(layers=Layers(hidden=(), size=linear.SIZE))
    """A linear map, without hidden layers. Its size is that of the vectors."""
    ridge: float = linear.RIDGE
    """λ, as a share of the mean eigenvalue of XᵀX: larger values trust directions of little
    variance less."""
    inherits: ClassVar[tuple[str, ...]] = ("parameters", "state/inputs")
    optimised: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if (
            not isinstance(self.model, EarlyFusion | SingleModality)
            or self.model.layers.hidden
            or self.model.layers.last_activation != "none"
        ):
            raise ValueError(
                f"{type(self).__name__} is a linear map: use task.model:early-fusion or "
                "task.model:single-modality, without hidden layers (--task.model.layers.hidden) "
                "and without an activation"
            )

    def joined(
        self, state: Arrays, constants: Arrays, batch: Arrays
    ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        """Standardised features f32[G, B, d] of a batch, and which modalities are present
        bool[G, B]; `constants` and `batch` as in `video.batch_features`."""
        features, present = video.batch_features(constants, batch)
        inputs = self.standardised(state, features, present)
        return jnp.concatenate([inputs[m] for m in self.model.modalities], axis=-1), present

    def feature_names(self, state: Arrays) -> list[str]:
        """Names of the rows of the map: "visual 0", ..."""
        widths = {m: len(state["inputs"][m]["mean"]) for m in self.model.modalities}
        return [f"{m} {number}" for m, width in widths.items() for number in range(width)]


def measures_of(
    counts: jax.Array, present: Mapping[str, jax.Array], square: jax.Array
) -> dict[str, jax.Array]:
    """Measures of a step: the number of `videos` (counts f32[B]), of those that lack a modality
    (`lacking/audio`), and the `mean_eigenvalue` of the sum XᵀX so far. The loss is always 0."""
    measures = {
        "loss": jnp.zeros(()),
        "videos": jnp.sum(counts),
        "mean_eigenvalue": jnp.trace(square) / len(square),
    }
    for modality, flags in present.items():
        measures[f"lacking/{modality}"] = jnp.sum(jnp.where(flags[0], 0.0, counts))
    return measures


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
