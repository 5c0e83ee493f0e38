"""EfficientNet-Lite0 as an ONNX graph (Tan and Le 2019; the Lite variants: TensorFlow, 2020).

Frames of 224 x 224, (byte - 127) / 128 → `features`, 1280 after the average over the image, and
`logits` of the 1,000 ImageNet classes. Lite: ReLU6 in place of swish, no squeeze-and-excitation.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from vidembed.media.backbones.graph import Graph

SIDE, MEAN, SCALE = 224, 127.0, 128.0
WIDTH, CLASSES = 1280, 1000
EPSILON = 1e-3
BOUNDS = np.array(0, np.float32), np.array(6, np.float32)
"""Of ReLU6."""
IMAGES, FEATURES, LOGITS = "images", "features", "logits"


class Stage(NamedTuple):
    """Blocks of one kernel size. Only the first has the stride; the others add their input."""

    blocks: int
    kernel: int
    stride: int
    expand: int


STAGES = (
    Stage(1, 3, 1, 1),
    Stage(2, 3, 2, 6),
    Stage(2, 5, 2, 6),
    Stage(3, 3, 2, 6),
    Stage(3, 5, 1, 6),
    Stage(4, 5, 2, 6),
    Stage(1, 3, 1, 6),
)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis, so that ceil(size / stride) places result. TensorFlow puts
    the odd one after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def to_onnx(
    tensors: Mapping[str, np.ndarray], *, stages: tuple[Stage, ...] = STAGES, side: int = SIDE
) -> bytes:
    """The graph with these weights: images f32[N, 3, side, side] → features, logits.

    tensors: as in the `.pth`. Raises ValueError if one is missing or left over.
    """
    return _Network(tensors, side).whole(stages)


class _Network:
    def __init__(self, tensors: Mapping[str, np.ndarray], side: int) -> None:
        self.unused = {name: array for name, array in tensors.items() if "num_batches" not in name}
        self.graph = Graph("efficientnet-lite0", {IMAGES: (3, side, side)})
        self.size = side

    def whole(self, stages: tuple[Stage, ...]) -> bytes:
        graph = self.graph
        value = self.convolved(IMAGES, "_conv_stem", "_bn0", kernel=3, stride=2)
        number = 0
        for stage in stages:
            for place in range(stage.blocks):
                stride = stage.stride if place == 0 else 1
                made = self.block(value, f"_blocks.{number}.", stage, stride)
                value = graph.add("Add", made, value) if place else made
                number += 1
        value = self.convolved(value, "_conv_head", "_bn1")
        pooled = graph.add("GlobalAveragePool", value)
        graph.add("Flatten", pooled, to=FEATURES)
        weight, bias = self.take("_fc.weight"), self.take("_fc.bias")
        graph.add("Gemm", FEATURES, weight, bias, to=LOGITS, transB=1)
        if self.unused:
            raise ValueError(f"EfficientNet-Lite0 has no tensor {sorted(self.unused)[0]!r}")
        return graph.to_bytes({FEATURES: weight.shape[1], LOGITS: weight.shape[0]})

    def block(self, value: str, prefix: str, stage: Stage, stride: int) -> str:
        """Expand, filter each channel by itself, project."""
        if stage.expand > 1:
            value = self.convolved(value, f"{prefix}_expand_conv", f"{prefix}_bn0")
        value = self.convolved(
            value, f"{prefix}_depthwise_conv", f"{prefix}_bn1",
            kernel=stage.kernel, stride=stride, depthwise=True,
        )  # fmt: skip
        return self.convolved(value, f"{prefix}_project_conv", f"{prefix}_bn2", bounded=False)

    def convolved(
        self, value: str, name: str, norm: str, *, kernel: int = 1, stride: int = 1,
        depthwise: bool = False, bounded: bool = True,
    ) -> str:  # fmt: skip
        """Convolution, batch normalisation and, if `bounded`, ReLU6."""
        weight = self.take(f"{name}.weight")
        if weight.shape[2:] != (kernel, kernel):
            raise ValueError(f"{name}.weight has shape {weight.shape}: expected kernel {kernel}")
        before, after = same_padding(self.size, kernel, stride)
        value = self.graph.add(
            "Conv", value, weight, kernel_shape=[kernel] * 2, strides=[stride] * 2,
            pads=[before, before, after, after], group=len(weight) if depthwise else 1,
        )  # fmt: skip
        self.size = -(-self.size // stride)
        parts = {
            "scale": "weight",
            "bias": "bias",
            "mean": "running_mean",
            "variance": "running_var",
        }
        statistics = {part: self.take(f"{norm}.{stored}") for part, stored in parts.items()}
        value = self.graph.batch_norm(value, statistics, EPSILON)
        return self.graph.add("Clip", value, *BOUNDS) if bounded else value

    def take(self, name: str) -> np.ndarray:
        if name not in self.unused:
            raise ValueError(f"there is no tensor {name!r}: not an EfficientNet-Lite0")
        return self.unused.pop(name)
