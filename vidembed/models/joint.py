"""What models of videos and texts share: linear maps of the one, encoders of the other.

Both sides give unit vectors of D numbers, side by side: the blocks. A model says which blocks a
loss compares, and how a video's blocks become the vector that is searched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from vidembed.models.fusion import Compute, Dense
from vidembed.models.parameters import Network
from vidembed.models.text import TextEncoder
from vidembed.pairwise import normalise


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The pairs of blocks, by number, that a loss compares over a batch."""

    with_text: tuple[tuple[int, int], ...]
    """A block of the video, and one of the text."""
    within_video: tuple[tuple[int, int], ...] = ()
    """Two blocks of the same video."""
    skip_missing: bool = False
    """Pairs whose video lacks a block's modalities have no loss and are no negatives there."""


class JointModel(Network, Protocol):
    """A configured model of videos and texts. As a network it is the videos' side; its `size` is
    that of the vectors whose dot products rank videos for texts."""

    @property
    def text(self) -> TextEncoder:
        """The encoder of texts; its size is D."""

    @property
    def feature_dropout(self) -> float:
        """Share of a video's features set to zero in training."""

    @property
    def compute(self) -> Compute:
        """Precision of the operands of the videos' maps."""

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The modalities of each of a video's blocks."""

    @property
    def text_blocks(self) -> int:
        """Blocks of a text; each has an encoder of its own."""

    @property
    def compared(self) -> Compared:
        """What a loss compares."""

    @property
    def texts(self) -> "TextSide":
        """The texts' side, as a network over the arrays of a caption."""

    def check(self, widths: Mapping[str, int]) -> None:
        """Raise ValueError if the data lacks a modality of the model."""

    def joined(self, blocks: jax.Array) -> jax.Array:
        """A video's blocks f32[..., V·D] as the vector f32[..., size] that is searched."""


class VideoMaps(nnx.Module):
    """f32[..., F] by modality → f32[..., V·D]: one unit vector per block, side by side.

    A block all of whose modalities a video lacks is zero: its similarity is 0.
    """

    def __init__(self, shape: JointModel, widths: Mapping[str, int], rngs: nnx.Rngs) -> None:
        self.groups = shape.groups
        self.dropout = nnx.Dropout(shape.feature_dropout)
        self.maps = nnx.List(
            _xavier(sum(widths[m] for m in group), shape.text.size, shape.compute, rngs)
            for group in shape.groups
        )

    def __call__(
        self,
        features: Mapping[str, jax.Array],
        key: jax.Array | None,
        present: Mapping[str, jax.Array],
    ) -> jax.Array:
        vectors = []
        for number, (group, linear) in enumerate(zip(self.groups, self.maps)):
            of_block = None if key is None else jax.random.fold_in(key, number)
            together = jnp.concatenate([features[m] for m in group], axis=-1)
            together = self.dropout(together, deterministic=key is None, rngs=of_block)
            vector = normalise(linear(together))
            if all(m in present for m in group):
                has_any = jnp.stack([present[m] for m in group]).any(axis=0)
                vector = jnp.where(has_any[..., None], vector, jnp.zeros_like(vector))
            vectors.append(vector)
        return jnp.concatenate(vectors, axis=-1)


class TextEncoders(nnx.Module):
    """A text encoder per block: arrays [B, ...] → f32[B, T·D], unit vectors side by side."""

    def __init__(self, shape: JointModel, widths: Mapping[str, int], rngs: nnx.Rngs) -> None:
        self.texts = nnx.List(shape.text.module(widths, rngs) for _ in range(shape.text_blocks))

    def __call__(
        self,
        features: Mapping[str, jax.Array],
        key: jax.Array | None,
        present: Mapping[str, jax.Array],
    ) -> jax.Array:
        del present
        keys = [None if key is None else jax.random.fold_in(key, n) for n in range(len(self.texts))]
        encoded = [encoder(features, of) for encoder, of in zip(self.texts, keys)]
        return jnp.concatenate(encoded, axis=-1)


@dataclass(frozen=True, kw_only=True)
class TextSide:
    """The text encoders of a model, as `models.parameters` takes networks."""

    joint: JointModel

    @property
    def modalities(self) -> tuple[str, ...]:
        """The arrays of captions that the encoders read."""
        return self.joint.text.modalities

    @property
    def size(self) -> int:
        """T·D."""
        return self.joint.text_blocks * self.joint.text.size

    def module(self, widths: Mapping[str, int], rngs: nnx.Rngs) -> TextEncoders:
        """The encoders; widths as in `TextEncoder.module`."""
        return TextEncoders(self.joint, widths, rngs)


def split_blocks(vectors: jax.Array, size: int) -> list[jax.Array]:
    """f32[..., n·D] → the n blocks f32[..., D] of this size D."""
    return jnp.split(vectors, vectors.shape[-1] // size, axis=-1)


def is_known(block: jax.Array) -> jax.Array:
    """bool[...]: whether the videos have a modality of this block f32[..., D]."""
    return jnp.any(block != 0, axis=-1)


def _xavier(inputs: int, outputs: int, compute: Compute, rngs: nnx.Rngs) -> Dense:
    """A linear map f32[F, D], uniform after Glorot as in the published code, with a bias of 0."""
    linear = Dense(inputs, outputs, compute=compute, rngs=rngs)
    kernel = nnx.initializers.xavier_uniform()(rngs.params(), (inputs, outputs), jnp.float32)
    linear.kernel = nnx.Param(kernel, split=None)
    return linear
