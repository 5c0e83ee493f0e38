"""Joint spaces of videos and texts: JEMC's (ICMR 2018).

A space reads some of a video's modalities, maps them linearly, and has a text encoder of its own.
The paper's spaces are object and text, and activity with sound and text; it adds their cosine
similarities. That sum is one dot product of a video's unit vectors side by side with a text's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from vidembed.models.fusion import Compute, Dense
from vidembed.models.text import Gru, TextEncoder, check_dropout
from vidembed.pairwise import normalise

JOIN = "+"
SPACES = ("object", "activity+audio")
"""The paper's two spaces."""


class VideoMaps(nnx.Module):
    """f32[..., F] by modality → f32[..., S·D]: one unit vector per space, side by side.

    A space all of whose modalities a video lacks has a zero vector: its similarity is 0.
    """

    def __init__(self, shape: "JointSpaces", widths: Mapping[str, int], rngs: nnx.Rngs) -> None:
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
            of_space = None if key is None else jax.random.fold_in(key, number)
            joined = jnp.concatenate([features[m] for m in group], axis=-1)
            joined = self.dropout(joined, deterministic=key is None, rngs=of_space)
            vector = normalise(linear(joined))
            if all(m in present for m in group):
                has_any = jnp.stack([present[m] for m in group]).any(axis=0)
                vector = jnp.where(has_any[..., None], vector, jnp.zeros_like(vector))
            vectors.append(vector)
        return jnp.concatenate(vectors, axis=-1)


class TextEncoders(nnx.Module):
    """A text encoder for each space: arrays [B, ...] → f32[B, S·D], unit vectors side by side."""

    def __init__(self, shape: "JointSpaces", widths: Mapping[str, int], rngs: nnx.Rngs) -> None:
        self.texts = nnx.List(shape.text.module(widths, rngs) for _ in shape.groups)

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


def _xavier(inputs: int, outputs: int, compute: Compute, rngs: nnx.Rngs) -> Dense:
    """A linear map f32[F, D], uniform after Glorot as in the published code, with a bias of 0."""
    linear = Dense(inputs, outputs, compute=compute, rngs=rngs)
    kernel = nnx.initializers.xavier_uniform()(rngs.params(), (inputs, outputs), jnp.float32)
    linear.kernel = nnx.Param(kernel, split=None)
    return linear


@dataclass(frozen=True, kw_only=True)
class JointSpaces:
    """Spaces that videos and texts share; a video's vector holds that of each space."""

    spaces: tuple[str, ...] = SPACES
    """The modalities of each space, joined by +: object activity+audio are the paper's two spaces,
    object+activity+audio is one space of all. The same modality may be in several spaces."""
    text: TextEncoder = Gru()
    """From a caption to a unit vector; each space has its own. Its size is that of the space."""
    feature_dropout: float = 0.0
    """Share of a video's (standardised) features set to zero in training; not in the paper."""
    compute: Compute = "float32"
    """bfloat16 rounds the operands of the videos' maps only; sums and parameters stay float32."""

    def __post_init__(self) -> None:
        if not self.spaces:
            raise ValueError(f"spaces: name one or more, such as {' '.join(SPACES)}; found none")
        for space, group in zip(self.spaces, self.groups):
            if "" in group or len(set(group)) < len(group):
                raise ValueError(
                    f"spaces: {space!r} must be distinct names of modalities joined by {JOIN}, "
                    f"such as {SPACES[-1]}"
                )
        check_dropout("feature_dropout", self.feature_dropout)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The modalities of each space."""
        return tuple(tuple(space.split(JOIN)) for space in self.spaces)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of all spaces, each once."""
        return tuple(dict.fromkeys(m for group in self.groups for m in group))

    @property
    def size(self) -> int:
        """S·D, the size of the vectors of a video and of a text."""
        return len(self.spaces) * self.text.size

    @property
    def texts(self) -> "TextSide":
        """The texts' side, as a network over the arrays of a caption."""
        return TextSide(joint=self)

    def module(self, widths: Mapping[str, int], rngs: nnx.Rngs) -> VideoMaps:
        """The videos' side, for modalities of these widths."""
        return VideoMaps(self, widths, rngs)

    def check(self, widths: Mapping[str, int]) -> None:
        """Raise ValueError if the data lacks a modality of a space."""
        missing = [m for m in self.modalities if m not in widths]
        if missing:
            raise ValueError(
                f"the spaces {' '.join(self.spaces)} read {list(self.modalities)}, the data has "
                f"{sorted(widths)}: no {missing[0]!r}. Name the data's modalities: "
                f"--task.model.spaces {' '.join(sorted(widths)) or 'NAME'}, or joined by {JOIN} "
                "for one space"
            )

    def parts_of(self, vectors: jax.Array) -> list[jax.Array]:
        """f32[..., S·D] → the vectors f32[..., D] of each space."""
        return jnp.split(vectors, len(self.spaces), axis=-1)


@dataclass(frozen=True, kw_only=True)
class TextSide:
    """The text encoders of all spaces, as `models.parameters` takes networks."""

    joint: JointSpaces

    @property
    def modalities(self) -> tuple[str, ...]:
        """The arrays of captions that the encoders read."""
        return self.joint.text.modalities

    @property
    def size(self) -> int:
        """S·D."""
        return self.joint.size

    def module(self, widths: Mapping[str, int], rngs: nnx.Rngs) -> TextEncoders:
        """The encoders; widths as in `TextEncoder.module`."""
        return TextEncoders(self.joint, widths, rngs)
