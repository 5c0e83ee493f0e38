"""What every task that learns one vector per video shares: from stored features to embeddings.

Inputs are standardised by the train split's mean and scale, which are kept in the task's state.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from vidembed.distributed import mesh
from vidembed.models.fusion import LateFusion
from vidembed.models.parameters import Network, Parameters, apply, initialise, model_axes
from vidembed.records.bytecode import dequantise
from vidembed.tasks.spec import Spec

Arrays = Mapping[str, Any]


class Rows(Protocol):
    """Features with one row per video: a FeatureTable is one."""

    @property
    def features(self) -> Mapping[str, np.ndarray]: ...
    @property
    def present(self) -> Mapping[str, np.ndarray]: ...


@dataclass(frozen=True, kw_only=True)
class VideoTask:
    """A task whose output is an embedding of a video."""

    model: Network = LateFusion()
    """The network from features to a unit vector."""

    @property
    def outputs(self) -> dict[str, Callable[..., jax.Array]]:
        """Named functions of the trained parameters."""
        return {"video": self.embed}

    def init(
        self, key: jax.Array, spec: Spec, statistics: Mapping[str, Arrays]
    ) -> tuple[Parameters, dict[str, Any]]:
        """Parameters, and the state that standardises inputs: {"inputs": modality → mean f32[F],
        scale f32[F]}.

        `statistics`: modality → {"mean": f32[F], "deviation": f32[F]}. A feature that is constant
        over the train split is scaled to zero.
        """
        inputs = {}
        for modality in self.model.modalities:
            deviation = statistics[modality]["deviation"]
            varies = deviation > 1e-6
            inputs[modality] = {
                "mean": jnp.asarray(statistics[modality]["mean"]),
                "scale": jnp.where(varies, 1 / jnp.where(varies, deviation, 1.0), 0.0),
            }
        return initialise(self.model, spec.widths, key), {"inputs": inputs}

    def model_axes(self, parameters: Parameters) -> dict[str, int | None]:
        """The axis of each parameter that is split over the mesh's model axis."""
        return model_axes(parameters)

    def resident(self, table: Rows) -> dict[str, Any]:
        """The rows that a step gathers from the devices: features as stored, and who has them."""
        modalities = self.model.modalities
        present = {m: table.present[m].astype(np.uint8) for m in modalities if m in table.present}
        return {"features": {m: table.features[m] for m in modalities}, "present": present}

    def embed(
        self,
        parameters: Parameters,
        state: Arrays,
        features: Arrays,
        present: Arrays,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Stored features u8|bf16|f32[..., F] a modality to unit vectors f32[..., D].

        `present`: bool[...] for modalities that some videos lack. Late fusion leaves the tower of
        a missing modality out of the product; early fusion takes the train split's mean for it.
        `key` turns dropout on.
        """
        inputs = {}
        for modality in self.model.modalities:
            values, known = dequantise(features[modality]), state["inputs"][modality]
            values = (values - _like(known["mean"], values)) * _like(known["scale"], values)
            if modality in present:
                values = jnp.where(present[modality][..., None], values, jnp.zeros_like(values))
            inputs[modality] = values
        return apply(self.model, parameters, inputs, key, present=present)


def batch_features(constants: Arrays, batch: Arrays) -> tuple[Arrays, Arrays]:
    """(features, present) of batch["rows"] i32[..., B]: the batch's own, or those on the devices.

    `constants` is what `resident` named, split over the devices; {} where the batch carries its
    features. batch["exchange"], if there is one, plans how the rows travel between the devices.
    """
    if "features" in batch:
        return batch["features"], batch.get("present", {})
    rows, plan = batch["rows"], batch.get("exchange")
    gathered = jax.tree.map(lambda table: mesh.gather_rows(table, rows, plan), dict(constants))
    present = {m: flags.astype(bool) for m, flags in gathered["present"].items()}
    return gathered["features"], present


def _like(vector: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.broadcast_to(vector, values.shape)
