"""The base of tasks that learn one vector per video: from stored features to embeddings.

Inputs are standardised by the mean and scale of the train split, kept in the task's state.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidembed.distributed import mesh
from vidembed.models.frame_attention import attend
from vidembed.models.fusion import LateFusion
from vidembed.models.parameters import Network, Parameters, apply, initialise, parts, split_axes
from vidembed.records.bytecode import dequantise
from vidembed.records.frame_pooling import pooled_features
from vidembed.records.frame_rows import FrameRows
from vidembed.records.rows import Rows, read_rows
from vidembed.tasks.outputs import Output
from vidembed.tasks.spec import Spec
from vidembed.tasks.task import Axes, Task

Arrays = Mapping[str, Any]
ATTENTION = "attention/"
"""Prefix of the weights of frames."""


@dataclass(frozen=True, kw_only=True)
class VideoTask(Task):
    """A task whose output is an embedding of a video."""

    model: Network = LateFusion()
    """The network from features to a unit vector."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities of the network."""
        return self.model.modalities

    @property
    def outputs(self) -> Mapping[str, Output]:
        """The embedding of a video, from a FeatureTable; needs the network and the statistics that
        standardise its inputs."""
        network = tuple(f"parameters/{part}" for part in parts(self.model))
        weights = (ATTENTION.removesuffix("/"),) if self.attention else ()
        needs = (*network, *(f"parameters/{name}" for name in weights), "state/inputs")
        video = Output(apply=self._video, read=self._read, needs=needs)
        return {"video": video}

    def init(
        self, key: jax.Array, spec: Spec, statistics: Mapping[str, Arrays] | None
    ) -> tuple[Parameters, dict[str, Any]]:
        """Return parameters, and the state that standardises inputs.

        state: {"inputs": modality → {"mean": f32[F], "scale": f32[F]}}. `statistics`: modality →
        {"mean": f32[F], "deviation": f32[F]}; None leaves inputs unchanged. A feature that is
        constant over the train split is scaled to zero.
        """
        parameters, inputs = initialise(self.model, spec.widths, key), {}
        if unread := [m for m in self.attention if m not in self.model.modalities]:
            raise ValueError(
                f"--task.attention names {unread[0]!r}, but the model reads "
                f"{', '.join(self.model.modalities)}"
            )
        for modality in self.attention:
            if not spec.framed:
                raise ValueError(
                    f"--task.attention {' '.join(self.attention)} needs frames: give frame-level "
                    "records (--corpus.records PATH --corpus.layout.level frame), not a table"
                )
            if modality not in spec.framed:
                raise ValueError(
                    f"--task.attention names {modality!r}, which has no frames of its own: name "
                    f"modalities of the records, of {', '.join(spec.framed)}"
                )
            parameters[ATTENTION + modality] = jnp.zeros(spec.widths[modality])
        for modality in self.model.modalities:
            if statistics is None:
                width = spec.widths[modality]
                inputs[modality] = {"mean": jnp.zeros(width), "scale": jnp.ones(width)}
                continue
            deviation = statistics[modality]["deviation"]
            varies = deviation > 1e-6
            inputs[modality] = {
                "mean": jnp.asarray(statistics[modality]["mean"]),
                "scale": jnp.where(varies, 1 / jnp.where(varies, deviation, 1.0), 0.0),
            }
        return parameters, {"inputs": inputs}

    def layout(self, parameters: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[Axes, Axes]:
        """The axes given by the network's modules; no array of the state is split."""
        axes, of_state = super().layout(parameters, state)
        widths = {m: statistics["mean"].shape[0] for m, statistics in state["inputs"].items()}
        return axes | split_axes(self.model, widths), of_state

    def embed(
        self,
        parameters: Parameters,
        state: Arrays,
        features: Arrays,
        present: Arrays,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Embed stored features u8|bf16|f32[..., F] per modality as unit vectors f32[..., D].

        Those of `attention` are `FrameRows`, or vectors that are pooled already.

        `present`: bool[...] for modalities that some videos lack. If a modality is missing, late
        fusion skips its tower in the product, and early fusion uses the train split's mean.
        `key` turns dropout on.
        """
        vectors = {
            m: attend(values, parameters[ATTENTION + m])
            if isinstance(values, FrameRows)
            else values
            for m, values in features.items()
        }
        inputs = self.standardised(state, vectors, present)
        return apply(self.model, parameters, inputs, key, present=present)

    def standardised(
        self, state: Arrays, features: Arrays, present: Arrays
    ) -> dict[str, jax.Array]:
        """Standardise stored features u8|bf16|f32[..., F] per modality to f32[..., F]: subtract the
        mean, multiply by the scale; zero if a video lacks the modality."""
        inputs = {}
        for modality in self.model.modalities:
            values, statistics = dequantise(features[modality]), state["inputs"][modality]
            values = (values - _like(statistics["mean"], values)) * _like(
                statistics["scale"], values
            )
            if modality in present:
                values = jnp.where(present[modality][..., None], values, jnp.zeros_like(values))
            inputs[modality] = values
        return inputs

    def _video(self, parameters: Parameters, state: Arrays, arrays: Arrays) -> jax.Array:
        return self.embed(parameters, state, arrays["features"], arrays["present"])

    def _read(self, source: Rows, rows: np.ndarray) -> dict[str, Any]:
        return read_rows(source, rows, self.reads, self.attention)


def batch_features(
    constants: Arrays, batch: Arrays, attention: Collection[str] = ()
) -> tuple[Arrays, Arrays]:
    """(features, present) of batch["rows"] i32[..., B], from the batch or from the devices.

    Frames u8[B, T, F] of the batch, with lengths i32[B], are pooled to every statistic; those of
    the modalities `attention` stay frames.
    `constants` are the `resident_rows`, split over the devices; {} if the batch carries its
    features. batch["exchange"], if present, plans how rows travel between devices.
    """
    if "lengths" in batch:
        frames, lengths = batch["features"], batch["lengths"]
        framed = {name: FrameRows(frames[name], lengths) for name in attention}
        return pooled_features(frames, lengths) | framed, batch.get("present", {})
    if "features" in batch:
        return batch["features"], batch.get("present", {})
    rows, plan = batch["rows"], batch.get("exchange")
    gathered = jax.tree.map(lambda table: mesh.gather_rows(table, rows, plan), dict(constants))
    present = {m: flags.astype(bool) for m, flags in gathered["present"].items()}
    return gathered["features"], present


def _like(vector: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.broadcast_to(vector, values.shape)
