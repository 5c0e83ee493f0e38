"""An encoder with batch statistics: against numpy, under a gradient, sharded, with absent clips."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.distributed import mesh as meshes
from vidembed.models.clip_encoder import EPSILON, MOMENTUM, MeanOfFrames, Normaliser, new_norm
from vidembed.models.clip_encoder import vector_size as size_of

M, T, C, F = 16, 3, 4, 5


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """The smallest encoder with batch statistics."""

    def init(self, key, shape):
        parameters, statistics = {}, {}
        new_norm("norm", F, "batch", parameters, statistics)
        parameters["dense/kernel"] = jax.random.normal(key, (shape[-1], F)) / 2
        return parameters, statistics

    def apply(self, parameters, statistics, clips, train, present=None):
        normalised = Normaliser("batch", parameters, statistics, train, present)
        hidden = clips.mean(axis=1) @ parameters["dense/kernel"]
        return jnp.tanh(normalised("norm", hidden)), normalised.statistics


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    clips = rng.normal(3, 2, (M, T, C)).astype(np.float32)
    return clips, rng.random(M) < 0.8


def run(parameters, statistics, clips, present):
    vectors, after = Tiny().apply(parameters, statistics, clips, True, present)
    return (vectors**2).sum(), after


def test_statistics_are_of_the_clips_that_are_present_on_any_devices(clips):
    parameters, statistics = Tiny().init(jax.random.key(0), (T, C))
    compiled = jax.jit(jax.value_and_grad(run, has_aux=True))
    results = []
    for devices in (1, 8):
        mesh = meshes.make_mesh(meshes.MeshShape(), jax.devices()[:devices])
        with jax.set_mesh(mesh):
            placed = meshes.place_batch(mesh, dict(zip("cp", clips)), {"c": 0, "p": 0})
            results.append(compiled(parameters, statistics, placed["c"], placed["p"]))
    (one, eight), names = results, ("norm/mean", "norm/variance")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), one, eight)
    array, present = clips
    hidden = array.astype(np.float64).mean(axis=1) @ np.asarray(parameters["dense/kernel"])
    seen = hidden[present]
    expected = (1 - MOMENTUM) * seen.mean(0), MOMENTUM + (1 - MOMENTUM) * seen.var(0)
    for name, values in zip(names, expected):
        np.testing.assert_allclose(one[0][1][name], values, rtol=1e-4, atol=1e-5)
    # Afterwards the running statistics are used, and stay.
    vectors, after = Tiny().apply(parameters, one[0][1], array, False, present)
    scaled = (hidden - expected[0]) / np.sqrt(expected[1] + EPSILON)
    np.testing.assert_allclose(vectors, np.tanh(scaled), rtol=1e-4, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, after, one[0][1])


def test_without_a_clip_nothing_is_undefined(clips):
    parameters, statistics = Tiny().init(jax.random.key(0), (T, C))
    (_, after), slopes = jax.value_and_grad(run, has_aux=True)(
        parameters, statistics, clips[0], np.zeros(M, bool)
    )
    assert all(np.isfinite(array).all() for array in (*after.values(), *slopes.values()))


def test_the_mean_has_neither_parameters_nor_statistics(clips):
    encoder = MeanOfFrames()
    assert encoder.init(jax.random.key(0), (T, C)) == ({}, {})
    assert (size_of(encoder, (T, C)), size_of(Tiny(), (T, C))) == (C, F)
    vectors, after = encoder.apply({}, {}, clips[0], True, clips[1])
    np.testing.assert_allclose(vectors, clips[0].mean(axis=1), rtol=1e-6)
    assert after == {}
    with pytest.raises(ValueError, match=r"windows .* expected, found clips \[4, 8, 8, 3\]"):
        encoder.init(jax.random.key(0), (4, 8, 8, 3))
