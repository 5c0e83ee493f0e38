"""3-D residual networks for clips: R3D and R(2+1)D (Tran et al., CVPR 2018).

As the authors' networks of 18 layers, without the last layer: no pooling after the stem, halving in
time and space by the first block of stages 2 to 4. Depth 50 has bottlenecks in the same stages.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from vidembed.models.clip_encoder import Arrays, Norm, Normaliser, check_norm, new_norm
from vidembed.models.convolutions import Convolution, Steps, check_convolution, convolve
from vidembed.models.parameters import Parameters

CHANNELS = (64, 128, 256, 512)
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
EXPANSION = 4
"""Channels of a bottleneck's output per channel inside."""


class Layer(NamedTuple):
    """A convolution with its normalisation."""

    name: str
    kernel: Steps
    inputs: int
    outputs: int
    strides: Steps = (1, 1, 1)


class Block(NamedTuple):
    """Layers with ReLU between them; their sum with the input, or with its projection, has one."""

    layers: tuple[Layer, ...]
    shortcut: Layer | None


@dataclass(frozen=True, kw_only=True)
class ResidualClips:
    """Clips f32[M, T, H, W, 3] → f32[M, D], D = 512 x width (2,048 x width for depth 50)."""

    depth: Literal[18, 34, 50] = 18
    """Layers; 50 has bottlenecks."""
    width: float = 1.0
    """Factor of all channels; 0.25 is for trying things on a CPU."""
    factorised: bool = False
    """R(2+1)D: each 3-D convolution is one over space, then one over time, of as many parameters
    together."""
    norm: Norm = "batch"
    """batch: over the whole batch, on all devices together. group: within each clip."""
    convolution: Convolution = "automatic"
    """shifted: sums of 2-D convolutions. direct: 3-D. automatic: shifted on CPU, else direct."""

    def __post_init__(self) -> None:
        check_norm(self.norm)
        check_convolution(self.convolution)
        if self.depth not in BLOCKS:
            raise ValueError(f"depth must be one of {', '.join(map(str, BLOCKS))}: {self.depth}")
        if not 64 * self.width >= 1 or 64 * self.width != int(64 * self.width):
            raise ValueError(f"width {self.width} x 64 channels must be a whole number from 1 on")

    @property
    def size(self) -> int:
        """D."""
        return self._channels(3) * (EXPANSION if self.depth >= 50 else 1)

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> tuple[Parameters, Parameters]:
        """See `ClipEncoder`; shape: (T, H, W, channels), of which only the channels matter."""
        if len(shape) != 4:
            raise ValueError(
                f"clips of frames (T, H, W, 3) expected, found clips {list(shape)}: choose "
                "task.encoder:temporal-convolution for windows of features, or feed:decoded-clips"
            )
        stem, blocks = self.layout(shape[3])
        parameters: Parameters = {}
        statistics: Parameters = {}
        layers = [*stem]
        for block in blocks:
            layers += [*block.layers, *((block.shortcut,) if block.shortcut else ())]
        spread = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        for layer, each in zip(layers, jax.random.split(key, len(layers)), strict=True):
            shape_of = (*layer.kernel, layer.inputs, layer.outputs)
            parameters[f"{layer.name}/kernel"] = spread(each, shape_of, jnp.float32)
            new_norm(f"{layer.name}/norm", layer.outputs, self.norm, parameters, statistics)
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

        def run(layer: Layer, values: jax.Array) -> jax.Array:
            kernel = parameters[f"{layer.name}/kernel"]
            made = convolve(values, kernel, strides=layer.strides, how=self.convolution)
            return normalised(f"{layer.name}/norm", made)

        stem, blocks = self.layout(clips.shape[-1])
        values = clips
        for layer in stem:
            values = jax.nn.relu(run(layer, values))
        for block in blocks:
            values = _residual(block, values, run)
        return jnp.mean(values, axis=(1, 2, 3)), normalised.statistics

    def layout(self, channels: int) -> tuple[tuple[Layer, ...], list[Block]]:
        """The stem and the blocks of the network, for inputs of so many channels."""
        first, blocks = self._channels(0), []
        if self.factorised:
            middle = max(1, int(45 * self.width))
            stem: tuple[Layer, ...] = (
                Layer("stem/space", (1, 7, 7), channels, middle, (1, 2, 2)),
                Layer("stem/time", (3, 1, 1), middle, first),
            )
        else:
            stem = (Layer("stem", (3, 7, 7), channels, first, (1, 2, 2)),)
        inputs = first
        for stage, count in enumerate(BLOCKS[self.depth]):
            for number in range(count):
                stride = 2 if stage and not number else 1
                block = self._block(f"stages/{stage}/{number}", inputs, stage, stride)
                blocks.append(block)
                inputs = block.layers[-1].outputs
        return stem, blocks

    def _channels(self, stage: int) -> int:
        return int(CHANNELS[stage] * self.width)

    def _block(self, name: str, inputs: int, stage: int, stride: int) -> Block:
        inside = self._channels(stage)
        outputs = inside * (EXPANSION if self.depth >= 50 else 1)
        # The factorised layers of a block share the channels between space and time.
        middle = max(1, inputs * inside * 27 // (inputs * 9 + 3 * inside))
        if self.depth >= 50:
            middle = max(1, inside * inside * 27 // (inside * 9 + 3 * inside))
            layers = (
                Layer(f"{name}/reduce", (1, 1, 1), inputs, inside),
                *self._full(f"{name}/full", inside, inside, middle, stride),
                Layer(f"{name}/expand", (1, 1, 1), inside, outputs),
            )
        else:
            layers = (
                *self._full(f"{name}/first", inputs, inside, middle, stride),
                *self._full(f"{name}/second", inside, inside, middle, 1),
            )
        shortcut = None
        if stride != 1 or inputs != outputs:
            shortcut = Layer(f"{name}/shortcut", (1, 1, 1), inputs, outputs, (stride,) * 3)
        return Block(layers, shortcut)

    def _full(
        self, name: str, inputs: int, outputs: int, middle: int, stride: int
    ) -> Iterator[Layer]:
        if not self.factorised:
            yield Layer(name, (3, 3, 3), inputs, outputs, (stride,) * 3)
            return
        yield Layer(f"{name}/space", (1, 3, 3), inputs, middle, (1, stride, stride))
        yield Layer(f"{name}/time", (3, 1, 1), middle, outputs, (stride, 1, 1))


def _residual(
    block: Block, values: jax.Array, run: Callable[[Layer, jax.Array], jax.Array]
) -> jax.Array:
    inner = values
    for layer in block.layers[:-1]:
        inner = jax.nn.relu(run(layer, inner))
    inner = run(block.layers[-1], inner)
    return jax.nn.relu(inner + (run(block.shortcut, values) if block.shortcut else values))
