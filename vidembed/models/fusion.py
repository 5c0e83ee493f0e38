"""Fusion networks: map the features of several modalities to one unit vector (CDML, 3.2.2).

Early fusion concatenates the modalities before one tower; late fusion gives each modality a tower
and multiplies their outputs element by element. The paper's choice is late fusion, 4000-256. The
activation of a tower's last layer is not established: `last_activation`, none by default.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from vidembed.models.modality_dropout import drop_modalities
from vidembed.pairwise import normalise

Compute = Literal["float32", "bfloat16"]


def _narrow(x: jax.Array) -> jax.Array:
    return x.astype(jnp.bfloat16)


@jax.custom_vjp
def product_bfloat16(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x bf16[..., F] times kernel f32[F, D] rounded to bfloat16: f32[..., D], sums in float32.

    The gradient's products are done the same way. JAX's own rule would multiply a float32
    cotangent, which runs at the rate of float32. The gradient of the kernel stays float32.
    """
    return jnp.matmul(x, _narrow(kernel), preferred_element_type=jnp.float32)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product_bfloat16(x, kernel), (x, _narrow(kernel))


def _backward(
    saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    gradient = _narrow(gradient)
    along_x = jnp.matmul(gradient, kernel.T, preferred_element_type=jnp.float32)
    # Sum over the row axes without reshaping: merging a whole axis with one that is split over
    # devices would send all activations to every device.
    rows = tuple(range(x.ndim - 1))
    along_kernel = jax.lax.dot_general(
        x, gradient, ((rows, rows), ((), ())), preferred_element_type=jnp.float32
    )
    return _narrow(along_x), along_kernel


product_bfloat16.defvjp(_forward, _backward)


class Dense(nnx.Module):
    """f32[..., F] → f32[..., D]; kernel f32[F, D] with LeCun initialisation, bias f32[D] zero.

    `split`: the side that is split over the mesh's model axis, if any.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        compute: Compute,
        rngs: nnx.Rngs,
        split: Literal["inputs", "outputs"] | None = None,
    ) -> None:
        draw = nnx.initializers.lecun_normal()
        kernel_axis = {"inputs": 0, "outputs": 1, None: None}[split]
        bias_axis = 0 if split == "outputs" else None
        kernel = draw(rngs.params(), (inputs, outputs), jnp.float32)
        self.kernel = nnx.Param(kernel, split=kernel_axis)
        self.bias = nnx.Param(jnp.zeros((outputs,), jnp.float32), split=bias_axis)
        self.compute = compute

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, bias = self.kernel[...], self.bias[...]
        if self.compute == "bfloat16":
            product = product_bfloat16(_narrow(x), kernel)
        else:
            # Explicit, because TPUs and GPUs round the operands of a plain product.
            product = jnp.matmul(x, kernel, precision=jax.lax.Precision.HIGHEST)
        return product + jnp.broadcast_to(bias, product.shape)


@dataclass(frozen=True, kw_only=True)
class Layers:
    """The shape of a tower, and how it computes."""

    hidden: tuple[int, ...] = (4000,)
    """Widths of the hidden layers; none for a linear map."""
    size: int = 256
    """D, the size of the embedding."""
    input_dropout: float = 0.0
    """Share of the (standardised) input features set to zero in training."""
    last_activation: Literal["none", "relu"] = "none"
    """Activation of the last layer; the paper does not say."""
    compute: Compute = "float32"
    """bfloat16 rounds the operands of products only; sums and parameters stay float32."""

    def __post_init__(self) -> None:
        if min((self.size, *self.hidden)) < 1:
            raise ValueError(f"widths {self.hidden} and size {self.size} must be 1 or more")
        if not 0 <= self.input_dropout < 1:
            raise ValueError(f"input_dropout {self.input_dropout} is outside [0, 1)")


class Tower(nnx.Module):
    """Dense layers with ReLU between them: f32[..., F] → f32[..., D].

    Layers alternate: the outputs of even layers are split over the mesh's model axis, and so are
    the inputs of the odd layers that follow. Each pair of layers then communicates
    only one sum over the model axis. An even last layer has no follower and is not split.
    """

    def __init__(self, inputs: int, shape: Layers, rngs: nnx.Rngs) -> None:
        widths = (inputs, *shape.hidden, shape.size)

        def split(layer: int) -> Literal["inputs", "outputs"] | None:
            if layer % 2:
                return "inputs"
            return "outputs" if layer < len(shape.hidden) else None

        self.layers = nnx.List(
            Dense(before, after, compute=shape.compute, rngs=rngs, split=split(layer))
            for layer, (before, after) in enumerate(pairwise(widths))
        )
        self.dropout = nnx.Dropout(shape.input_dropout)
        self.last_activation = shape.last_activation

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        x = self.dropout(x, deterministic=key is None, rngs=key)
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        x = self.layers[-1](x)
        return jax.nn.relu(x) if self.last_activation == "relu" else x


class Fused(nnx.Module):
    """One tower per group of modalities; their outputs are multiplied, then normalised."""

    def __init__(
        self,
        groups: tuple[tuple[str, ...], ...],
        widths: Mapping[str, int],
        layers: Layers,
        rngs: nnx.Rngs,
        modality_dropout: float = 0.0,
    ) -> None:
        self.groups, self.modality_dropout = groups, modality_dropout
        self.towers = nnx.List(Tower(sum(widths[m] for m in g), layers, rngs) for g in groups)

    def __call__(
        self,
        features: Mapping[str, jax.Array],
        key: jax.Array | None,
        present: Mapping[str, jax.Array],
    ) -> jax.Array:
        if key is not None and self.modality_dropout:
            names = [modality for group in self.groups for modality in group]
            drop_key = jax.random.fold_in(key, len(self.groups))
            features, present = drop_modalities(
                features, present, names, self.modality_dropout, drop_key
            )
        product = jnp.ones((), jnp.float32)
        for number, (group, tower) in enumerate(zip(self.groups, self.towers)):
            joined = jnp.concatenate([features[m] for m in group], axis=-1)
            output = tower(joined, None if key is None else jax.random.fold_in(key, number))
            if len(self.groups) > 1 and group[0] in present:
                # A tower without its modality outputs ones, which leave the product unchanged.
                has_modality = present[group[0]][..., None]
                output = jnp.where(has_modality, output, jnp.ones_like(output))
            product = output if number == 0 else product * output
        return normalise(product)


@dataclass(frozen=True, kw_only=True)
class _OfModalities:
    layers: Layers = Layers()
    modalities: tuple[str, ...] = ("visual", "audio")
    """Names of the modalities that the network reads, as in the table."""
    modality_dropout: float = 0.0
    """Probability that a modality of a video counts as missing in a training batch, drawn for each
    separately; a video always keeps one. Teaches the network to do without. Not in the paper."""

    def __post_init__(self) -> None:
        names = self.modalities
        if not names or len(set(names)) < len(names):
            raise ValueError(f"modalities must be distinct names, one or more, found {list(names)}")
        if not 0 <= self.modality_dropout < 1:
            raise ValueError(f"modality_dropout {self.modality_dropout} is outside [0, 1)")

    @property
    def size(self) -> int:
        """D, the size of the embedding."""
        return self.layers.size


@dataclass(frozen=True, kw_only=True)
class LateFusion(_OfModalities):
    """One tower per modality; their outputs are multiplied element by element."""

    def module(self, widths: Mapping[str, int], rngs: nnx.Rngs) -> Fused:
        """The network for modalities of these widths."""
        groups = tuple((m,) for m in self.modalities)
        return Fused(groups, widths, self.layers, rngs, self.modality_dropout)


@dataclass(frozen=True, kw_only=True)
class EarlyFusion(_OfModalities):
    """One tower over the concatenated modalities."""

    def module(self, widths: Mapping[str, int], rngs: nnx.Rngs) -> Fused:
        """The network for modalities of these widths."""
        return Fused((self.modalities,), widths, self.layers, rngs, self.modality_dropout)


@dataclass(frozen=True, kw_only=True)
class SingleModality:
    """The tower of a single modality: the paper's video-only control."""

    layers: Layers = Layers()
    modality: str = "visual"
    """Name of the modality that the network reads, as the table has it."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modality, as a tuple like those of the fusions."""
        return (self.modality,)

    @property
    def size(self) -> int:
        """D, the size of the embedding."""
        return self.layers.size

    def module(self, widths: Mapping[str, int], rngs: nnx.Rngs) -> Fused:
        """The network for a modality of this width."""
        return Fused(((self.modality,),), widths, self.layers, rngs)
