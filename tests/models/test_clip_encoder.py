"""A network with batch statistics as plain functions: against numpy, under a gradient, sharded."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest
from flax import nnx

from vidembed.distributed import mesh as meshes
from vidembed.models.clip_encoder import StoredFeatures, encode, initialise

M, T, C, F, MOMENTUM = 16, 3, 4, 5, 0.8


class Module(nnx.Module):
    def __init__(self, channels, rngs):
        self.dense = nnx.Linear(channels, F, rngs=rngs)
        self.norm = nnx.BatchNorm(F, momentum=MOMENTUM, use_fast_variance=False, rngs=rngs)

    def __call__(self, clips, present, training):
        hidden = self.dense(clips.mean(axis=1))
        mask = present[:, None]
        return nnx.tanh(self.norm(hidden, use_running_average=not training, mask=mask))


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """The smallest encoder with batch statistics."""

    def width(self, channels):
        return F

    def module(self, channels, rngs):
        return Module(channels, rngs)


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    clips = rng.normal(3, 2, (M, T, C)).astype(np.float32)
    return clips, rng.random(M) < 0.8


def run(parameters, statistics, clips, present):
    vectors, after = encode(Tiny(), parameters, statistics, clips, present, training=True)
    return (vectors**2).sum(), after


def test_statistics_are_of_the_clips_that_are_present_on_any_devices(clips):
    parameters, statistics = initialise(Tiny(), C, jax.random.key(0))
    assert set(parameters) == {"dense/kernel", "dense/bias", "norm/scale", "norm/bias"}
    assert set(statistics) == {"norm/mean", "norm/var"}
    compiled = jax.jit(jax.value_and_grad(run, has_aux=True))
    results = []
    for devices in (1, 8):
        mesh = meshes.make_mesh(meshes.MeshShape(), jax.devices()[:devices])
        with jax.set_mesh(mesh):
            placed = meshes.place_batch(mesh, dict(zip("cp", clips)), {"c": 0, "p": 0})
            results.append(compiled(parameters, statistics, placed["c"], placed["p"]))
    (one, eight), names = results, ("norm/mean", "norm/var")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), one, eight)
    array, present = clips
    hidden = array.astype(np.float64).mean(axis=1)[present] @ np.asarray(parameters["dense/kernel"])
    expected = (1 - MOMENTUM) * hidden.mean(0), MOMENTUM + (1 - MOMENTUM) * hidden.var(0)
    for name, values in zip(names, expected):
        np.testing.assert_allclose(one[0][1][name], values, rtol=1e-4, atol=1e-5)
    # Afterwards the running statistics are used, and stay.
    vectors, after = encode(Tiny(), parameters, one[0][1], *clips, training=False)
    hidden = array.astype(np.float64).mean(axis=1) @ np.asarray(parameters["dense/kernel"])
    scaled = (hidden - expected[0]) / np.sqrt(expected[1] + 1e-5)
    np.testing.assert_allclose(vectors, np.tanh(scaled), rtol=1e-4, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, after, one[0][1])


def test_stored_features_have_neither_parameters_nor_statistics(clips):
    assert initialise(StoredFeatures(), F, jax.random.key(0)) == ({}, {})
    features, present = clips[0][:, 0], clips[1]
    vectors, after = encode(StoredFeatures(), {}, {}, features, present, training=True)
    np.testing.assert_array_equal(vectors, features)
    assert after == {}
