"""The default networks, and small ones of their kind, written out in numpy as TensorFlow has them.

Another way than the graphs: channels last, SAME padding as TensorFlow documents it, normalisation
by its formula.
"""

import numpy as np
from scipy.special import expit

from vidembed.media.backbones.efficientnet import STAGES


def norm(x, scale, bias, mean, variance):
    return (x - mean) / np.sqrt(variance + np.float32(1e-3)) * scale + bias


def convolution(x, weight, *, stride=1, same=True, depthwise=False):
    """x [N, H, W, in], weight [height, width, in, out] (depthwise: [height, width, 1, in])."""
    pads = [(0, 0)]
    for size, kernel in zip(x.shape[1:3], weight.shape):
        total = max(kernel - (size % stride or stride), 0) if same else 0
        pads.append((total // 2, total - total // 2))
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, [*pads, (0, 0)]), weight.shape[:2], (1, 2)
    )[:, ::stride, ::stride]
    if depthwise:
        return np.einsum("nhwcij,ijc->nhwc", windows, weight[:, :, 0])
    return np.tensordot(windows, weight, ([4, 5, 3], [0, 1, 2]))


def efficientnet(tensors, images, stages=STAGES):
    """images f32[N, H, W, 3] → (features f32[N, D], logits f32[N, classes])."""

    def convolved(x, name, normal, bounded=True, **options):
        x = convolution(x, tensors[f"{name}.weight"].transpose(2, 3, 1, 0), **options)
        parts = ("weight", "bias", "running_mean", "running_var")
        x = norm(x, *(tensors[f"{normal}.{part}"] for part in parts))
        return np.clip(x, 0, 6) if bounded else x

    x, number = convolved(images, "_conv_stem", "_bn0", stride=2), 0
    for blocks, _, first_stride, expand in stages:
        for place in range(blocks):
            prefix, before, stride = f"_blocks.{number}.", x, 1 if place else first_stride
            if expand > 1:
                x = convolved(x, f"{prefix}_expand_conv", f"{prefix}_bn0")
            x = convolved(
                x, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride, depthwise=True
            )
            x = convolved(x, f"{prefix}_project_conv", f"{prefix}_bn2", bounded=False)
            x, number = (x + before if place else x), number + 1
    pooled = convolved(x, "_conv_head", "_bn1").mean((1, 2))
    return pooled, pooled @ tensors["_fc.weight"].T + tensors["_fc.bias"]


def musicnn(tensors, windows):
    """windows f32[N, T, B] → mean, max, penultimate, tags."""

    def normal(x, number):
        name = f"batch_normalization_{number}" if number else "batch_normalization"
        parts = ("gamma", "beta", "moving_mean", "moving_variance")
        return norm(x, *(tensors[f"{name}/{part}"] for part in parts))

    def convolved(x, number, same=True):
        name = f"conv2d_{number}" if number else "conv2d"
        made = convolution(x, tensors[f"{name}/kernel"], same=same) + tensors[f"{name}/bias"]
        return normal(np.maximum(made, 0), number + 1)

    around = [(0, 0), (3, 3), (0, 0), (0, 0)]
    x = normal(windows[..., None], 0)
    front = [convolved(np.pad(x, around), k, same=False).max(2) for k in (0, 1)]
    front += [convolved(x, k).max(2) for k in (2, 3, 4)]
    layers = [np.concatenate(front, axis=2)]
    for k in (5, 6, 7):
        made = convolved(np.pad(layers[-1][..., None], around), k, same=False)[:, :, 0]
        layers.append(made + layers[-1] if len(layers) > 1 else made)
    over_time = np.concatenate(layers, axis=2)
    largest, mean = over_time.max(1), over_time.mean(1)
    pooled = normal(np.stack([largest, mean], 2).reshape(len(windows), -1), 9)
    dense = pooled @ tensors["dense/kernel"] + tensors["dense/bias"]
    penultimate = normal(np.maximum(dense, 0), 10)
    logits = penultimate @ tensors["dense_1/kernel"] + tensors["dense_1/bias"]
    return mean, largest, penultimate, expit(logits)


def small_efficientnet(rng, stages, widths=(4, 6, 8), head=10, classes=5):
    """Tensors of a small network with these stages."""
    tensors = {}

    def weights(name, *shape):
        deviation = np.prod(shape[1:]) ** -0.5
        tensors[f"{name}.weight"] = rng.normal(scale=deviation, size=shape).astype(np.float32)

    def normal(name, width):
        for part, low, high in (
            ("weight", 0.5, 2), ("bias", -1, 1), ("running_mean", -1, 1), ("running_var", 0.1, 2),
        ):  # fmt: skip
            tensors[f"{name}.{part}"] = rng.uniform(low, high, width).astype(np.float32)
        tensors[f"{name}.num_batches_tracked"] = np.array(7)

    width, number = 4, 0
    weights("_conv_stem", width, 3, 3, 3), normal("_bn0", width)
    for (blocks, kernel, _, expand), out in zip(stages, widths):
        for _ in range(blocks):
            prefix, inner = f"_blocks.{number}.", width * expand
            if expand > 1:
                weights(f"{prefix}_expand_conv", inner, width, 1, 1)
                normal(f"{prefix}_bn0", inner)
            weights(f"{prefix}_depthwise_conv", inner, 1, kernel, kernel)
            normal(f"{prefix}_bn1", inner)
            weights(f"{prefix}_project_conv", out, inner, 1, 1), normal(f"{prefix}_bn2", out)
            width, number = out, number + 1
    weights("_conv_head", head, width, 1, 1), normal("_bn1", head)
    tensors["_fc.weight"] = rng.normal(size=(classes, head)).astype(np.float32)
    tensors["_fc.bias"] = rng.normal(size=classes).astype(np.float32)
    return tensors


def small_musicnn(rng):
    """Tensors of a small network for windows of 20 frames x 10 bands."""
    kernels = [(7, 4, 1, 3), (7, 8, 1, 3), (8, 1, 1, 2), (5, 1, 1, 2), (4, 1, 1, 2)]
    kernels += [(7, 12, 1, 4), (7, 4, 1, 4), (7, 4, 1, 4)]
    shapes = {
        (f"conv2d_{number}" if number else "conv2d"): shape for number, shape in enumerate(kernels)
    } | {"dense": (48, 9), "dense_1": (9, 5)}
    tensors = {}
    for name, shape in shapes.items():
        tensors[f"{name}/kernel"] = rng.normal(scale=0.2, size=shape).astype(np.float32)
        tensors[f"{name}/bias"] = rng.normal(size=shape[-1]).astype(np.float32)
    for number, width in enumerate((1, 3, 3, 2, 2, 2, 4, 4, 4, 48, 9)):
        name = f"batch_normalization_{number}" if number else "batch_normalization"
        for part, low in (
            ("gamma", 0.5),
            ("beta", -1),
            ("moving_mean", -1),
            ("moving_variance", 0.1),
        ):
            tensors[f"{name}/{part}"] = rng.uniform(low, 2, width).astype(np.float32)
    return tensors
