"""Text encoders: words through a GRU, or frozen sentence vectors through a small network.

The GRU is that of JEMC's published code and of VSE++: one layer, one direction, learned word
embeddings, and the state after a caption's last word (`vidembed.models.gru`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from vidembed.models import gru
from vidembed.models.fusion import Dense
from vidembed.pairwise import normalise

TOKENS, WORDS, SENTENCES = "tokens", "words", "sentences"
EMBEDDING_RANGE = 0.1
"""Word embeddings start uniform within ± this, as in the published code."""


class TextEncoder(Protocol):
    """A configured encoder of captions; it reads named arrays, as a network reads modalities."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The arrays of a batch that it reads: tokens and words, or sentences."""

    @property
    def size(self) -> int:
        """D, the size of a caption's vector."""

    def module(self, widths: Mapping[str, int], rngs: nnx.Rngs) -> Any:
        """The Flax module, called as module(arrays, key) → unit vectors f32[B, D].

        widths: `tokens` → W, the words of the vocabulary; or `sentences` → E.
        """


class GruEncoder(nnx.Module):
    """tokens i32[B, L] and words i32[B], the length of each caption → unit vectors f32[B, H].

    A token that is not in the vocabulary gives NaN, not another word's vector.
    """

    def __init__(self, shape: "Gru", words: int, rngs: nnx.Rngs) -> None:
        def uniform(rows: int, columns: int, within: float) -> nnx.Param[jax.Array]:
            draw = jax.random.uniform(rngs.params(), (rows, columns), jnp.float32, -within, within)
            return nnx.Param(draw, split=None)

        within = shape.units**-0.5
        self.embedding = uniform(words, shape.embedding, EMBEDDING_RANGE)
        self.input_kernel = uniform(shape.embedding, 3 * shape.units, within)
        self.recurrent_kernel = uniform(shape.units, 3 * shape.units, within)
        self.bias = nnx.Param(jnp.zeros((3 * shape.units,), jnp.float32), split=None)
        self.candidate_bias = nnx.Param(jnp.zeros((shape.units,), jnp.float32), split=None)
        self.dropout = nnx.Dropout(shape.dropout)

    def __call__(self, arrays: Mapping[str, jax.Array], key: jax.Array | None) -> jax.Array:
        weights = gru.GruWeights(
            self.embedding[...],
            self.input_kernel[...],
            self.bias[...],
            self.recurrent_kernel[...],
            self.candidate_bias[...],
        )
        if key is None:
            return normalise(gru.embedded(weights, arrays[TOKENS], arrays[WORDS]))
        words = gru.looked_up(weights.embedding, jnp.swapaxes(arrays[TOKENS], 0, 1))
        words = self.dropout(words, deterministic=False, rngs=key)
        return normalise(gru.scanned(weights, words, arrays[WORDS]))


class SentenceEncoder(nnx.Module):
    """sentences f32[B, E] → unit vectors f32[B, D]; ReLU between the layers."""

    def __init__(self, shape: "Sentences", inputs: int, rngs: nnx.Rngs) -> None:
        widths = (inputs, *shape.hidden, shape.size)
        self.layers = nnx.List(
            Dense(before, after, compute="float32", rngs=rngs) for before, after in pairwise(widths)
        )
        self.dropout = nnx.Dropout(shape.dropout)

    def __call__(self, arrays: Mapping[str, jax.Array], key: jax.Array | None) -> jax.Array:
        x = self.dropout(arrays[SENTENCES], deterministic=key is None, rngs=key)
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return normalise(self.layers[-1](x))


@dataclass(frozen=True, kw_only=True)
class Gru:
    """Words through a GRU, learned from the captions alone."""

    units: int = 1024
    """H, the units of the GRU and the size of a caption's vector."""
    embedding: int = 300
    """Size of the word embeddings."""
    dropout: float = 0.0
    """Share of the numbers of word embeddings set to zero in training; not in the paper."""

    def __post_init__(self) -> None:
        if min(self.units, self.embedding) < 1:
            raise ValueError(f"units {self.units} and embedding {self.embedding} must be 1 or more")
        check_dropout("dropout", self.dropout)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The arrays that it reads."""
        return (TOKENS, WORDS)

    @property
    def size(self) -> int:
        """D, the size of a caption's vector."""
        return self.units

    def module(self, widths: Mapping[str, int], rngs: nnx.Rngs) -> GruEncoder:
        """The encoder of a vocabulary of widths["tokens"] words."""
        return GruEncoder(self, widths[TOKENS], rngs)


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """Sentence vectors from a frozen language model, through dense layers."""

    hidden: tuple[int, ...] = (512,)
    """Widths of the hidden layers; none for a linear map."""
    size: int = 256
    """D, the size of a caption's vector."""
    dropout: float = 0.0
    """Share of the numbers of sentence vectors set to zero in training."""

    def __post_init__(self) -> None:
        if min((self.size, *self.hidden)) < 1:
            raise ValueError(f"widths {self.hidden} and size {self.size} must be 1 or more")
        check_dropout("dropout", self.dropout)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The array that it reads."""
        return (SENTENCES,)

    def module(self, widths: Mapping[str, int], rngs: nnx.Rngs) -> SentenceEncoder:
        """The encoder of sentence vectors of width widths["sentences"]."""
        return SentenceEncoder(self, widths[SENTENCES], rngs)


def check_dropout(name: str, share: float) -> None:
    """Raise ValueError unless the share is in [0, 1)."""
    if not 0 <= share < 1:
        raise ValueError(f"{name} {share} is outside [0, 1): the share of numbers set to zero")
