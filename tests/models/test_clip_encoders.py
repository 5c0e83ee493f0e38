"""Encoders of clips: published sizes, slow forms in float64, and equal numbers on any devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.distributed import mesh as meshes
from vidembed.models.clip_encoder import EPSILON, MOMENTUM, groups_of
from vidembed.models.convolutions import convolve
from vidembed.models.r3d import Block, Layer, ResidualClips
from vidembed.models.temporal import TemporalConvolution

TINY = ResidualClips(width=1 / 32)
SHAPE = (3, 9, 8, 3)


def slow_convolution(values, kernel, strides):
    """In float64, one output place at a time."""
    half = [size // 2 for size in kernel.shape[:3]]
    padded = np.pad(values, [(0, 0), *((h, h) for h in half), (0, 0)])
    sizes = [-(-size // stride) for size, stride in zip(values.shape[1:4], strides)]
    out = np.zeros((len(values), *sizes, kernel.shape[-1]))
    for place in np.ndindex(*sizes):
        begin = [at * stride for at, stride in zip(place, strides)]
        box = tuple(slice(b, b + k) for b, k in zip(begin, kernel.shape[:3]))
        seen = padded[(slice(None), *box)]
        out[(slice(None), *place)] = np.einsum("mthwc,thwcd->md", seen, kernel)
    return out


def slow_norm(values, scale, bias, moments=None):
    axes = tuple(range(values.ndim - 1))
    mean, variance = (values.mean(axes), values.var(axes)) if moments is None else moments
    return (values - mean) / np.sqrt(variance + EPSILON) * scale + bias


def slow_group_norm(values, scale, bias):
    groups, out = groups_of(values.shape[-1]), np.empty_like(values)
    size = values.shape[-1] // groups
    for clip, group in np.ndindex(len(values), groups):
        part = values[clip, ..., group * size : (group + 1) * size]
        scaled = (part - part.mean()) / np.sqrt(part.var() + EPSILON)
        out[clip, ..., group * size : (group + 1) * size] = scaled
    return out * scale + bias


def doubles(arrays):
    return {name: np.asarray(array, np.float64) for name, array in arrays.items()}


def perturbed(encoder, shape, seed=0):
    """Parameters and statistics in which no scale is one and no bias zero."""
    parameters, statistics = encoder.init(jax.random.key(seed), shape)
    rng = np.random.default_rng(seed)
    moved = {
        name: array + np.float32(0.3 * rng.uniform(size=array.shape)) * (array.ndim == 1)
        for name, array in parameters.items()
    }
    known = {n: a + np.float32(rng.uniform(size=a.shape)) for n, a in statistics.items()}
    return moved, known


KERNELS = [(3, 3, 3), (1, 3, 3), (3, 1, 1), (1, 1, 1), (3, 7, 7)]
STRIDES = [(1, 1, 1), (2, 2, 2), (1, 2, 2), (2, 1, 1)]


@pytest.mark.parametrize(
    ("kernel", "strides"),
    [
        pytest.param(k, s, marks=() if k == (3, 3, 3) and s == (2, 2, 2) else pytest.mark.long)
        for k in KERNELS
        for s in STRIDES
    ],
)
def test_both_ways_of_convolving_equal_the_slow_one(kernel, strides):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 5, 6, 7, 2)).astype(np.float32)
    weights = rng.normal(size=(*kernel, 2, 3)).astype(np.float32)
    expected = slow_convolution(values, weights.astype(np.float64), strides)
    for how in ("direct", "shifted", "automatic"):
        made = convolve(values, weights, strides=strides, how=how)
        np.testing.assert_allclose(made, expected, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("frames", [1, 2, 4])
def test_gradients_of_both_ways_are_equal(frames):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, frames, 3, 3, 2)).astype(np.float32)
    weights = rng.normal(size=(3, 3, 3, 2, 2)).astype(np.float32)

    def slopes(how):
        loss = lambda v, w: jnp.sum(jnp.sin(convolve(v, w, strides=(2, 1, 1), how=how)))  # noqa: E731
        return jax.grad(loss, (0, 1))(values, weights)

    for how in ("shifted", "automatic"):
        for one, other in zip(slopes("direct"), slopes(how)):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    ("encoder", "count", "size"),
    [
        # Published with a last layer for 400 classes, which has 513 x 400 parameters more.
        (ResidualClips(), 33_371_472 - 513 * 400, 512),
        pytest.param(
            ResidualClips(factorised=True), 31_505_325 - 513 * 400, 512, marks=pytest.mark.long
        ),
        pytest.param(ResidualClips(depth=50), 46_161_344, 2048, marks=pytest.mark.long),
        pytest.param(
            ResidualClips(depth=50, factorised=True, width=0.5, norm="group"),
            None,
            1024,
            marks=pytest.mark.long,
        ),
    ],
    ids=["R3D-18", "R(2+1)D-18", "R3D-50", "R(2+1)D-50, half"],
)
def test_sizes_are_the_published_ones(encoder, count, size):
    shapes, statistics = jax.eval_shape(
        lambda key: encoder.init(key, (8, 32, 32, 3)), jax.random.key(0)
    )
    total = sum(int(np.prod(shape.shape)) for shape in shapes.values())
    assert count in (total, None)
    clips = jax.ShapeDtypeStruct((2, 8, 32, 32, 3), np.float32)
    out, new = jax.eval_shape(partial(encoder.apply, train=True), shapes, statistics, clips)
    assert out.shape == (2, size) == (2, encoder.size)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), new) == jax.tree.map(
        lambda a: (a.shape, a.dtype), statistics
    )


def slow_r3d(encoder, parameters, statistics, clips, train):
    p, known = doubles(parameters), doubles(statistics)

    def run(layer: Layer, values):
        made = slow_convolution(values, p[f"{layer.name}/kernel"], layer.strides)
        name = f"{layer.name}/norm"
        scale, bias = p[f"{name}/scale"], p[f"{name}/bias"]
        if encoder.norm == "group":
            return slow_group_norm(made, scale, bias)
        moments = None if train else (known[f"{name}/mean"], known[f"{name}/variance"])
        return slow_norm(made, scale, bias, moments)

    stem, blocks = encoder.layout(3)
    values = clips.astype(np.float64)
    for layer in stem:
        values = np.maximum(run(layer, values), 0)
    for block in blocks:
        assert isinstance(block, Block)
        inner = values
        for layer in block.layers[:-1]:
            inner = np.maximum(run(layer, inner), 0)
        inner = run(block.layers[-1], inner)
        values = np.maximum(inner + (run(block.shortcut, values) if block.shortcut else values), 0)
    return values.mean((1, 2, 3))


@pytest.mark.parametrize(
    ("changes", "train"),
    [
        pytest.param({}, True, marks=pytest.mark.long),
        pytest.param({}, False, marks=pytest.mark.long),
        pytest.param({"norm": "group"}, True, marks=pytest.mark.long),
        pytest.param({"factorised": True}, False, marks=pytest.mark.long),
        pytest.param({"depth": 50}, False, marks=pytest.mark.long),
    ],
    ids=["batch", "statistics", "group", "factorised", "bottlenecks"],
)
def test_the_network_equals_a_slow_one(changes, train):
    encoder = ResidualClips(width=1 / 32, convolution="shifted", **changes)
    parameters, statistics = perturbed(encoder, SHAPE)
    clips = np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)
    vectors, new = jax.jit(encoder.apply, static_argnums=3)(parameters, statistics, clips, train)
    expected = slow_r3d(encoder, parameters, statistics, clips, train)
    np.testing.assert_allclose(vectors, expected, rtol=2e-3, atol=2e-4)
    if not train or encoder.norm == "group":
        assert all((new[name] == statistics[name]).all() for name in statistics)
        return
    stem = encoder.layout(3)[0][0]
    first = slow_convolution(clips, doubles(parameters)["stem/kernel"], stem.strides)
    for part, value in (("mean", first.mean((0, 1, 2, 3))), ("variance", first.var((0, 1, 2, 3)))):
        old = doubles(statistics)[f"stem/norm/{part}"]
        moved = MOMENTUM * old + (1 - MOMENTUM) * value
        np.testing.assert_allclose(new[f"stem/norm/{part}"], moved, rtol=1e-4)


@pytest.mark.parametrize("norm", ["batch", pytest.param("group", marks=pytest.mark.long)])
def test_the_convolution_over_time_equals_a_slow_one(norm):
    encoder = TemporalConvolution(width=6, blocks=2, norm=norm)
    parameters, statistics = perturbed(encoder, (5, 4))
    windows = np.random.default_rng(1).normal(size=(3, 5, 4)).astype(np.float32)
    p, known = doubles(parameters), doubles(statistics)
    for train in (True, False):
        apply = jax.jit(encoder.apply, static_argnums=3)
        vectors, new = apply(parameters, statistics, windows, train)

        def normalised(name, values, train=train):
            scale, bias = p[f"{name}/scale"], p[f"{name}/bias"]
            if norm == "group":
                return slow_group_norm(values, scale, bias)
            moments = None if train else (known[f"{name}/mean"], known[f"{name}/variance"])
            return slow_norm(values, scale, bias, moments)

        values = np.maximum(normalised("project/norm", windows @ p["project/kernel"]), 0)
        for block in range(2):
            kernel, step = p[f"blocks/{block}/kernel"], np.zeros_like(values)
            for time in range(5):
                for tap in range(3):
                    if 0 <= time + tap - 1 < 5:
                        step[:, time] += values[:, time + tap - 1] @ kernel[tap]
            values = values + np.maximum(normalised(f"blocks/{block}/norm", step), 0)
        np.testing.assert_allclose(vectors, values.mean(1), rtol=1e-4, atol=1e-5)
        assert new.keys() == statistics.keys()
        assert (norm == "group") == (not new)


def parts_of(encoder, shape):
    """loss, gradient and statistics on 16 clips: on one device, and spread over eight."""
    parameters, statistics = perturbed(encoder, shape)
    clips = np.random.default_rng(2).normal(size=(16, *shape)).astype(np.float32)
    clips += np.linspace(-1, 1, 16, dtype=np.float32).reshape(-1, *[1] * len(shape))

    @partial(jax.value_and_grad, has_aux=True)
    def loss(parameters, clips):
        vectors, new = encoder.apply(parameters, statistics, clips, True)
        return jnp.mean(jnp.sin(3 * vectors)), new

    alone = jax.jit(loss)(parameters, clips)
    mesh = meshes.make_mesh(meshes.MeshShape(data=8))
    spread = jax.device_put(clips, jax.sharding.NamedSharding(mesh, meshes.batch_spec(0)))
    return alone, jax.jit(loss)(parameters, spread)


@pytest.mark.parametrize(
    ("encoder", "shape"),
    [
        (TemporalConvolution(width=8), (5, 4)),
        pytest.param(TINY, SHAPE, marks=pytest.mark.long),
        pytest.param(ResidualClips(width=1 / 32, norm="group"), SHAPE, marks=pytest.mark.long),
    ],
    ids=["temporal", "R3D", "R3D, groups"],
)
def test_eight_devices_equal_one(encoder, shape):
    """Batch statistics are those of the whole batch, however it is spread."""
    alone, spread = parts_of(encoder, shape)
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(spread), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResidualClips(depth=20), "depth must be one of 18, 34, 50: 20"),
        (lambda: ResidualClips(width=0.01), "must be a whole number from 1 on"),
        (lambda: ResidualClips(norm="layer"), "norm must be batch or group, found 'layer'"),
        (lambda: ResidualClips(convolution="fft"), "convolution must be one of .* found 'fft'"),
        (lambda: TemporalConvolution(kernel=2), "and kernel 2 odd"),
        (lambda: TINY.init(jax.random.key(0), (4, 8)), r"\(T, H, W, 3\) expected, found .*4, 8"),
        (
            lambda: TemporalConvolution().init(jax.random.key(0), SHAPE),
            r"\(T, F\) expected, found clips",
        ),
    ],
)
def test_impossible_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
