"""Encoders of clips as plain JAX, with statistics of the batch in the state, not in parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
from flax import nnx

from vidembed.models.parameters import Parameters

Statistics = dict[str, jax.Array]
"""Running means and variances by name; {} for a network without them."""


class ClipEncoder(Protocol):
    """A configured network from clips to vectors."""

    def width(self, channels: int) -> int:
        """F, the width of its vectors, for clips whose last axis is `channels` long."""

    def module(self, channels: int, rngs: nnx.Rngs) -> Any:
        """The Flax module, called as module(clips f32[M, ..., C], present bool[M], training: bool)
        → f32[M, F].

        Its parameters are `nnx.Param`, its statistics `nnx.BatchStat`; it has no other variables.
        While training, statistics are those of the clips that are present, which are of the whole
        batch on any number of devices: without an axis name.
        """


class Unchanged(nnx.Module):
    """clips f32[M, F] → f32[M, F]."""

    def __call__(self, clips: jax.Array, present: jax.Array, training: bool) -> jax.Array:
        del present, training
        return clips


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """Clips are features already, f32[M, F], from a frozen network."""

    def width(self, channels: int) -> int:
        """F, the width of the features."""
        return channels

    def module(self, channels: int, rngs: nnx.Rngs) -> Unchanged:
        """A module without parameters."""
        del channels, rngs
        return Unchanged()


def initialise(
    encoder: ClipEncoder, channels: int, key: jax.Array
) -> tuple[Parameters, Statistics]:
    """Parameters and statistics before training, by name."""
    _, parameters, statistics = _split(encoder.module(channels, nnx.Rngs(params=key)))
    return _named(parameters), _named(statistics)


def encode(
    encoder: ClipEncoder,
    parameters: Parameters,
    statistics: Mapping[str, jax.Array],
    clips: jax.Array,
    present: jax.Array,
    *,
    training: bool,
) -> tuple[jax.Array, Statistics]:
    """Run the encoder: clips f32[M, ..., C], present bool[M] → (f32[M, F], statistics).

    While training, the statistics are updated, without a gradient; otherwise they are used, and
    returned as they are.
    """
    skeleton = nnx.eval_shape(lambda: encoder.module(clips.shape[-1], nnx.Rngs(0)))
    graph, of_parameters, of_statistics = _split(skeleton)
    # A copy: inside jax.grad, Flax refuses to change variables that were made outside.
    module = nnx.merge(
        graph, _filled(of_parameters, parameters), _filled(of_statistics, statistics), copy=True
    )
    vectors = module(clips, present, training)
    after = _named(nnx.state(module, nnx.BatchStat)) if training else dict(statistics)
    return vectors, jax.lax.stop_gradient(after)


def _split(module: Any) -> tuple[Any, Any, Any]:
    parts: Any = nnx.split(module, nnx.Param, nnx.BatchStat)
    graph, parameters, statistics = parts
    return graph, parameters, statistics


def _named(state: Any) -> dict[str, jax.Array]:
    return {_name(path): leaf[...] for path, leaf in nnx.to_flat_state(state)}


def _filled(state: Any, arrays: Mapping[str, jax.Array]) -> Any:
    leaves = nnx.to_flat_state(state)
    return nnx.from_flat_state([(path, leaf.replace(arrays[_name(path)])) for path, leaf in leaves])


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(map(str, path))
