"""Solve for a linear map onto given vectors: ridge regression over one pass.

Each step adds the products of its train videos with themselves and with their targets to two
matrices in the state, on the mesh. After the pass, the map is solved for in float64 on the host
(`models.ridge`). The feed supplies the target vectors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from vidembed.distributed import mesh
from vidembed.models.parameters import Parameters
from vidembed.models.ridge import centred, ridge_map
from vidembed.tasks.spec import Spec
from vidembed.tasks.sums import (
    BIAS,
    KERNEL,
    SolvedMap,
    added,
    measures_of,
    product,
    total,
    zero_sums,
)
from vidembed.tasks.video import Arrays

PASS = ("rows", "targets")
"""The two sums, XᵀX and XᵀY, with a 1 appended to each row of X."""


@dataclass(frozen=True, kw_only=True)
class Ridge(SolvedMap):
    """The linear map of the features that is nearest to the targets, by least squares."""

    intercept: bool = False
    """Add the mean of the targets, to compare vectors with targets. When vectors are compared with
    each other, a shared mean would dominate every cosine."""
    learns_from: ClassVar[str] = "targets"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.ridge < float("inf"):
            raise ValueError(
                f"ridge {self.ridge} must be 0 or more: a share of the mean eigenvalue"
            )

    def init(
        self, key: jax.Array, spec: Spec, statistics: Mapping[str, Arrays] | None
    ) -> tuple[Parameters, dict[str, Any]]:
        """A random map, and sums of zero. Raises ValueError for targets of another size."""
        parameters, state = super().init(key, spec, statistics)
        if self.model.size != spec.targets:
            raise ValueError(
                f"the targets have size {spec.targets}, but the map makes vectors of size "
                f"{self.model.size}: give --task.model.layers.size {spec.targets}"
            )
        width, size = parameters[KERNEL].shape
        sums = zero_sums({"rows": (width + 1, width + 1), "targets": (width + 1, size)})
        return parameters, state | {"sums": sums, "mean": jnp.zeros(size)}

    def loss_and_measures(
        self,
        parameters: Parameters,
        state: Arrays,
        constants: Arrays,
        batch: Arrays,
        key: jax.Array,
    ) -> tuple[jax.Array, tuple[Arrays, dict[str, jax.Array]]]:
        """(0, (state, measures)): the batch's products are added to the state.

        `constants` and features as in `video.batch_features`. `batch`: rows i32[1, B], counts
        f32[1, B], targets f32[1, B, K] less their mean f32[K]. Measures: `measures_of`.
        """
        del parameters, key
        counts, targets = batch["counts"], batch["targets"]
        chex.assert_rank([batch["rows"], counts, targets], [2, 2, 3])
        joined, present = self.joined(state, constants, batch)
        rows, cross = mesh.on_all_devices(_products, (1, 1, 1))(joined, counts, targets)
        sums = added(added(state["sums"], "rows", rows), "targets", cross)
        measures = measures_of(counts[0], present, sums["rows"][:-1, :-1])
        return jnp.zeros(()), ({**state, "sums": sums, "mean": batch["mean"]}, measures)

    def solve(self, parameters: Mapping[str, Any], state: Arrays) -> dict[str, Any]:
        """Replace kernel and bias with the solved map; see `models.ridge`."""
        sums = centred(*(total(state["sums"], name) for name in PASS))
        solved = ridge_map(
            sums.square,
            sums.cross,
            penalty=self.ridge * max(0.0, float(np.trace(sums.square))) / len(sums.square),
            names=self.feature_names(state),
        )
        bias = -sums.mean @ solved
        if self.intercept:
            bias = bias + np.asarray(state["mean"], np.float64)
        return {**parameters, KERNEL: solved.astype(np.float32), BIAS: bias.astype(np.float32)}


def _products(
    joined: jax.Array, counts: jax.Array, targets: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(XᵀX f32[d + 1, d + 1], XᵀY f32[d + 1, K]), summed over all devices.

    Each device has its features f32[1, b, d], counts f32[1, b] and targets f32[1, b, K].
    """
    weights = counts.reshape(-1, 1)
    videos = jnp.concatenate([joined[0], jnp.ones_like(weights)], axis=-1)
    parts = product(videos, videos * weights), product(videos, targets[0] * weights)
    summed: tuple[jax.Array, jax.Array] = mesh.total(parts)
    return summed
