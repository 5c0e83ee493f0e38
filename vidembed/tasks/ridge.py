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
from vidembed.models import linear
from vidembed.models.fusion import EarlyFusion, Layers
from vidembed.models.parameters import Network, Parameters
from vidembed.models.ridge import centred, ridge_map
from vidembed.tasks import video
from vidembed.tasks.spec import Spec
from vidembed.tasks.sums import (
    BIAS,
    KERNEL,
    added,
    check_linear,
    feature_names,
    product,
    total,
    zero_sums,
)
from vidembed.tasks.video import Arrays

PASS = ("rows", "targets")
"""The two sums, XᵀX and XᵀY, with a 1 appended to each row of X."""


@dataclass(frozen=True, kw_only=True)
class Ridge(video.VideoTask):
    """The linear map of the features that is nearest to the targets, by least squares.

    The network is one linear map of the concatenated modalities; a missing one counts as the mean.
    """

    model: Network = EarlyFusion(layers=Layers(hidden=(), size=linear.SIZE))
    """A linear map, without hidden layers. Its size is that of the targets."""
    ridge: float = linear.RIDGE
    """λ, as a share of the mean eigenvalue of XᵀX: larger values trust directions of little
    variance less."""
    intercept: bool = False
    """Add the mean of the targets, to compare vectors with targets. When vectors are compared with
    each other, a shared mean would dominate every cosine."""
    learns_from: ClassVar[str] = "targets"
    inherits: ClassVar[tuple[str, ...]] = ("parameters", "state/inputs")

    def __post_init__(self) -> None:
        if not 0 <= self.ridge < float("inf"):
            raise ValueError(
                f"ridge {self.ridge} must be 0 or more: a share of the mean eigenvalue"
            )
        check_linear(self.model, "a ridge")

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
        f32[1, B], targets f32[1, B, K] less their mean f32[K]. Measures: the number of `videos`
        in the batch, of those that lack a modality (`lacking/audio`), and the `mean_eigenvalue` of
        the sum so far. The loss is always 0.
        """
        del parameters, key
        counts, targets = batch["counts"], batch["targets"]
        chex.assert_rank([batch["rows"], counts, targets], [2, 2, 3])
        features, present = video.batch_features(constants, batch)
        inputs = self.standardised(state, features, present)
        joined = jnp.concatenate([inputs[m] for m in self.model.modalities], axis=-1)
        rows, cross = mesh.on_all_devices(_products, (1, 1, 1))(joined, counts, targets)
        sums = added(added(state["sums"], "rows", rows), "targets", cross)
        measures = {
            "loss": jnp.zeros(()),
            "videos": jnp.sum(counts),
            "mean_eigenvalue": jnp.trace(sums["rows"][:-1, :-1]) / joined.shape[-1],
        }
        for modality, flags in present.items():
            measures[f"lacking/{modality}"] = jnp.sum(jnp.where(flags, 0.0, counts))
        return jnp.zeros(()), ({**state, "sums": sums, "mean": batch["mean"]}, measures)

    def solve(self, parameters: Mapping[str, Any], state: Arrays) -> dict[str, Any]:
        """Replace kernel and bias with the solved map; see `models.ridge`."""
        sums = centred(*(total(state["sums"], name) for name in PASS))
        solved = ridge_map(
            sums.square,
            sums.cross,
            penalty=self.ridge * float(np.trace(sums.square)) / len(sums.square),
            names=feature_names(self.model, state),
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
