"""A small convolution over time, for windows of the features of frames."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vidembed.models.clip_encoder import (
    Arrays,
    Norm,
    Normaliser,
    check_norm,
    check_windows,
    new_norm,
)
from vidembed.models.parameters import Parameters


@dataclass(frozen=True, kw_only=True)
class TemporalConvolution:
    """Windows f32[M, T, F] → f32[M, D]: a projection of each frame, blocks over time, the mean.

    Each block adds relu(norm(convolution)) to its input. An encoder of clips
    (`vidembed.models.clip_encoder`).
    """

    width: int = 256
    """D, also the channels of all layers."""
    blocks: int = 2
    """Convolutions over time, each added to its input."""
    kernel: int = 3
    """Frames that a convolution sees at once, odd; after b blocks 1 + b x (kernel - 1)."""
    norm: Norm = "batch"
    """batch: over the whole batch. group: within each clip."""

    def __post_init__(self) -> None:
        check_norm(self.norm)
        if self.width < 1 or self.blocks < 0 or self.kernel < 1 or not self.kernel % 2:
            raise ValueError(
                f"width {self.width} must be at least 1, blocks {self.blocks} at least 0, and "
                f"kernel {self.kernel} odd"
            )

    @property
    def size(self) -> int:
        """D."""
        return self.width

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> tuple[Parameters, Parameters]:
        """See `ClipEncoder`; shape: (T, F), of which only F matters."""
        check_windows(shape)
        keys, width = jax.random.split(key, 1 + self.blocks), self.width
        he = jax.nn.initializers.he_normal()
        parameters: Parameters = {"project/kernel": he(keys[0], (shape[1], width), jnp.float32)}
        statistics: Parameters = {}
        new_norm("project/norm", width, self.norm, parameters, statistics)
        for block in range(self.blocks):
            kernel = he(keys[1 + block], (self.kernel, width, width), jnp.float32)
            parameters[f"blocks/{block}/kernel"] = kernel
            new_norm(f"blocks/{block}/norm", width, self.norm, parameters, statistics)
        return parameters, statistics

    def apply(
        self,
        parameters: Arrays,
        statistics: Arrays,
        clips: jax.Array,
        train: bool,
        present: jax.Array | None = None,
    ) -> tuple[jax.Array, Parameters]:
        """See `ClipEncoder`."""
        normalised = Normaliser(self.norm, parameters, statistics, train, present)
        values = jax.nn.relu(normalised("project/norm", clips @ parameters["project/kernel"]))
        half = self.kernel // 2
        for block in range(self.blocks):
            step = jax.lax.conv_general_dilated(
                values,
                parameters[f"blocks/{block}/kernel"],
                (1,),
                [(half, half)],
                dimension_numbers=("NWC", "WIO", "NWC"),
            )
            values = values + jax.nn.relu(normalised(f"blocks/{block}/norm", step))
        return jnp.mean(values, axis=1), normalised.statistics
