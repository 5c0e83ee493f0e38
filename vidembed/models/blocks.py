"""Modalities side by side in blocks: projections by principal components, and unit norms.

CDML's input of the annotation model (KDD 2018, Eq. 7): z = A(x - μ) / ‖A(x - μ)‖, where A projects
each modality to its 256 leading principal components.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from vidembed.pairwise import normalise

Norm = Literal["joint", "per_block", "none"]


class Joined(nnx.Module):
    """f32[..., F] by modality → f32[..., D], in the order of the modalities."""

    def __init__(self, blocks: "Blocks", widths: Mapping[str, int]) -> None:
        self.modalities, self.norm = blocks.modalities, blocks.norm
        self.blocks: nnx.Dict[nnx.Param[jax.Array]] = nnx.Dict()
        if blocks.components:
            for modality in blocks.modalities:
                width = widths[modality]
                kernel = jnp.eye(width, min(width, blocks.components), dtype=jnp.float32)
                self.blocks[modality] = nnx.Param(kernel, split=None)

    def __call__(
        self,
        features: Mapping[str, jax.Array],
        key: jax.Array | None,
        present: Mapping[str, jax.Array],
    ) -> jax.Array:
        del key, present  # missing modalities are zeros already
        blocks = []
        for modality in self.modalities:
            block = features[modality]
            if modality in self.blocks:
                kernel = self.blocks[modality][...]
                block = jnp.matmul(block, kernel, precision=jax.lax.Precision.HIGHEST)
            blocks.append(normalise(block) if self.norm == "per_block" else block)
        joined = jnp.concatenate(blocks, axis=-1)
        return normalise(joined) if self.norm == "joint" else joined


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """The modalities side by side, each projected to its principal components.

    A missing modality is a block of zeros.
    """

    modalities: tuple[str, ...] = ("visual", "audio")
    """Names of the modalities, as in the table."""
    components: int = 256
    """Principal components per modality, at most its width (the paper: 256); 0: no projection."""
    whiten: bool = False
    """Scale each component to variance 1 over the train videos."""
    norm: Norm = "joint"
    """joint: the whole vector has unit norm (the paper's Eq. 7). per_block: each modality has."""
    standardise: bool = False
    """Divide each feature by its deviation over the train videos; only without a projection."""

    def __post_init__(self) -> None:
        names = self.modalities
        if not names or len(set(names)) < len(names):
            raise ValueError(f"modalities must be distinct names, one or more, found {list(names)}")
        if self.components < 0:
            raise ValueError(f"components {self.components} must be 0 (no projection) or more")
        if self.standardise and self.components:
            raise ValueError(
                "principal components are those of features as they are: with --task.model."
                "standardise, set --task.model.components 0"
            )
        if self.norm not in ("joint", "per_block", "none"):
            raise ValueError(f"norm must be joint, per_block or none, found {self.norm!r}")

    @property
    def size(self) -> int:
        """The size of the vector, if no modality is narrower than its components; see `module`."""
        return self.components * len(self.modalities)

    def module(self, widths: Mapping[str, int], rngs: nnx.Rngs) -> Joined:
        """The network; its projections are the first features until they are set."""
        del rngs
        return Joined(self, widths)
