"""musicnn as an ONNX graph (Pons and Serra 2019): a network that tags music, from log-mel windows.

Windows of 187 frames x 96 bands (3 s) → `mean` and `max`, 753 values each, over the window's time;
`penultimate`, 200; and `tags`, 50 probabilities. The 753: 2 x 204 filters over time and frequency
(timbre), 3 x 51 over time alone (tempo), and 3 x 64 of the layers above them.
"""

from collections.abc import Mapping
from itertools import count

import numpy as np

from vidembed.media.backbones.graph import Graph

FRAMES, BANDS = 187, 96
EPSILON = 1e-3
LOG_MEL, MEAN, MAX, PENULTIMATE, TAGS = "log_mel", "mean", "max", "penultimate", "tags"
WIDTH = 753
TIMBRE, TEMPO, ABOVE = 2, 3, 3
"""Layers of each kind."""


def to_onnx(
    tensors: Mapping[str, np.ndarray], *, frames: int = FRAMES, bands: int = BANDS
) -> bytes:
    """The graph with these weights: log_mel f32[N, frames, bands] → mean, max, penultimate, tags.

    tensors: as in the checkpoint. Raises ValueError if one is missing.
    """
    return _Network(tensors, frames, bands).whole()


class _Network:
    def __init__(self, tensors: Mapping[str, np.ndarray], frames: int, bands: int) -> None:
        self.tensors = tensors
        self.graph = Graph("musicnn", {LOG_MEL: (frames, bands)})
        # Layers are numbered by kind, in the order in which the network applies them.
        self.convolutions, self.norms = count(), count()

    def whole(self) -> bytes:
        graph = self.graph
        image = self.normalised(graph.add("Unsqueeze", LOG_MEL, np.array([1])))
        filtered = [self.filtered(image) for _ in range(TIMBRE + TEMPO)]
        layers = [graph.add("Concat", *filtered, axis=1)]
        for _ in range(ABOVE):
            made = self.above(layers[-1])
            layers.append(graph.add("Add", made, layers[-1]) if len(layers) > 1 else made)
        joined = graph.add("Concat", *layers, axis=1)
        largest = graph.add("ReduceMax", joined, to=MAX, axes=[2], keepdims=0)
        mean = graph.add("ReduceMean", joined, to=MEAN, axes=[2], keepdims=0)
        # The largest value and the mean of a feature stand next to each other.
        pair = [graph.add("Unsqueeze", value, np.array([2])) for value in (largest, mean)]
        pooled = self.normalised(graph.add("Flatten", graph.add("Concat", *pair, axis=2)))
        dense = graph.add("Relu", self.dense(pooled, "dense"))
        penultimate = self.normalised(dense, to=PENULTIMATE)
        graph.add("Sigmoid", self.dense(penultimate, "dense_1"), to=TAGS)
        width = len(self.take("batch_normalization_9/beta")) // 2
        sizes = (len(self.take(f"{name}/bias")) for name in ("dense", "dense_1"))
        return graph.to_bytes(dict(zip((MEAN, MAX, PENULTIMATE, TAGS), (width, width, *sizes))))

    def filtered(self, image: str) -> str:
        """Filters over [N, 1, T, B], then the largest value over the bands: [N, filters, T]."""
        weight, bias = self.convolution()
        before, after = _around(weight.shape[0])
        pads = [before, 0, after, 0]
        value = self.graph.add("Conv", image, weight.transpose(3, 2, 0, 1), bias, pads=pads)
        value = self.normalised(self.graph.add("Relu", value))
        return self.graph.add("ReduceMax", value, axes=[3], keepdims=0)

    def above(self, value: str) -> str:
        """Filters over all features [N, F, T] and 7 frames: [N, filters, T]."""
        weight, bias = self.convolution()
        pads = list(_around(weight.shape[0]))
        value = self.graph.add("Conv", value, weight[:, :, 0].transpose(2, 1, 0), bias, pads=pads)
        return self.normalised(self.graph.add("Relu", value))

    def dense(self, value: str, name: str) -> str:
        return self.graph.add("Gemm", value, self.take(f"{name}/kernel"), self.take(f"{name}/bias"))

    def normalised(self, value: str, to: str = "") -> str:
        name = _numbered("batch_normalization", next(self.norms))
        parts = {
            "scale": "gamma", "bias": "beta", "mean": "moving_mean", "variance": "moving_variance",
        }  # fmt: skip
        statistics = {part: self.take(f"{name}/{stored}") for part, stored in parts.items()}
        return self.graph.batch_norm(value, statistics, EPSILON, to=to)

    def convolution(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight f32[time, frequency, in, out] and bias of the next convolution."""
        name = _numbered("conv2d", next(self.convolutions))
        return self.take(f"{name}/kernel"), self.take(f"{name}/bias")

    def take(self, name: str) -> np.ndarray:
        if name not in self.tensors:
            raise ValueError(f"there is no tensor {name!r}: not a checkpoint of musicnn")
        return self.tensors[name]


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def _around(kernel: int) -> tuple[int, int]:
    """Zeros before and after the frames, so that as many come out. The odd one is after."""
    return (kernel - 1) // 2, kernel // 2
