"""Solve for a linear space instead of learning it: sums over one pass, then one decomposition.

Each step adds the products of its train videos and of its relations to two matrices [d, d] in the
state, on the mesh. After the pass, the map is solved for in float64 on the host (`models.linear`)
and replaces the network's kernel.
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
from vidembed.models.parameters import Parameters
from vidembed.tasks.spec import Spec
from vidembed.tasks.sums import KERNEL, SolvedMap, added, measures_of, product, total, zero_sums
from vidembed.tasks.video import Arrays

PASS = ("rows", "edges")
"""The two sums, XᵀX and half of XᵀÂX (each relation is summed in one direction only)."""


@dataclass(frozen=True, kw_only=True)
class ClosedForm(SolvedMap):
    """The leading directions in which related videos vary together; its size is their number."""

    power: float = linear.POWER
    """Each direction is scaled by this power of its eigenvalue."""
    learns_from: ClassVar[str] = "shares"

    def __post_init__(self) -> None:
        super().__post_init__()
        linear.check_options(size=self.model.size, ridge=self.ridge, power=self.power)

    def init(
        self, key: jax.Array, spec: Spec, statistics: Mapping[str, Arrays] | None
    ) -> tuple[Parameters, dict[str, Any]]:
        """A random map, and sums of zero. Raises ValueError for more directions than features."""
        parameters, state = super().init(key, spec, statistics)
        width = parameters[KERNEL].shape[0]
        if self.model.size > width:
            raise ValueError(
                f"the closed form has at most one direction per feature, {width} here: "
                f"--task.model.layers.size {self.model.size} is more"
            )
        sums = zero_sums(dict.fromkeys(PASS, (width, width)))
        return parameters, state | {"sums": sums}

    def loss_and_measures(
        self,
        parameters: Parameters,
        state: Arrays,
        constants: Arrays,
        batch: Arrays,
        key: jax.Array,
    ) -> tuple[jax.Array, tuple[Arrays, dict[str, jax.Array]]]:
        """(0, (state, measures)): the batch's products are added to the state.

        `constants` and features as in `video.batch_features`. `batch`: rows i32[1 + 2m, B] of
        videos, sources and targets, counts f32[1 + m, B]. Measures: `measures_of`,
        and the number of `relations`.
        """
        del parameters, key
        counts = batch["counts"]
        chex.assert_rank([batch["rows"], counts], [2, 2])
        joined, present = self.joined(state, constants, batch)
        rows, edges = mesh.on_all_devices(_products, (1, 1))(joined, counts)
        sums = added(added(state["sums"], "rows", rows), "edges", edges)
        measures = measures_of(counts[0], present, sums["rows"])
        measures["relations"] = jnp.sum((counts[1:] > 0).astype(jnp.float32))
        return jnp.zeros(()), ({**state, "sums": sums}, measures)

    def solve(self, parameters: Mapping[str, Any], state: Arrays) -> dict[str, Any]:
        """Replace the kernel with the solved map; see `models.linear.projection`."""
        rows, edges = (total(state["sums"], name) for name in PASS)
        solved = linear.projection(
            rows,
            edges + edges.T,
            size=self.model.size,
            ridge=self.ridge,
            power=self.power,
            names=self.feature_names(state),
        )
        return {**parameters, KERNEL: solved.astype(np.float32)}


def _products(joined: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(XᵀX of the videos, SᵀT of sources and targets) f32[d, d], summed over all devices.

    Each device has its features f32[1 + 2m, b, d] and counts f32[1 + m, b].
    """
    # Plain matrix products on each device: over two axes at once, the CPU takes half as long again.
    videos, sources, targets = (
        part.reshape(-1, joined.shape[-1]) for part in jnp.split(joined, (1, len(counts)))
    )
    weights = counts[:1].reshape(-1, 1), counts[1:].reshape(-1, 1)
    parts = product(videos, videos * weights[0]), product(sources, targets * weights[1])
    summed: tuple[jax.Array, jax.Array] = mesh.total(parts)
    return summed
