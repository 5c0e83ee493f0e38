"""Negatives chosen from the pool of all devices, and the transfers of their gradient."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.distributed import mesh as meshes
from vidembed.tasks.metric_learning import choose, gather_pool


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (4, 2)])
def test_chosen_vectors_and_their_gradients_equal_indexing(shape):
    """Vectors are chosen by several anchors, on their own device and on others."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, 16, 3)).astype(np.float32)
    slots = rng.integers(0, 32, 16).astype(np.int32)
    slots[:5], slots[5:8] = 31, [0, 15, 16]
    weights = rng.normal(size=(16, 3)).astype(np.float32)

    def weighted(part, slots, weights):
        chosen = choose(part, gather_pool(part), slots)
        return meshes.total(jnp.sum(weights * chosen))

    devices = jax.devices()[: shape[0] * shape[1]]
    mesh = meshes.make_mesh(meshes.MeshShape(model=shape[1]), devices)
    with jax.set_mesh(mesh):
        differentiate = jax.jit(jax.value_and_grad(meshes.on_all_devices(weighted, (1, 0, 0))))
        value, gradient = differentiate(vectors, slots, weights)
        text = differentiate.lower(vectors, slots, weights).compile().as_text()
    flat = vectors.reshape(32, 3)
    assert value == pytest.approx(np.sum(weights * flat[slots]), rel=1e-5)
    expected = np.zeros_like(flat)
    np.add.at(expected, slots, weights)
    np.testing.assert_allclose(gradient, expected.reshape(vectors.shape), rtol=1e-5, atol=1e-6)
    # Nothing is summed over all slots of the pool.
    assert not re.search(r"= \S*f32\[2,\S* (reduce-scatter|all-reduce)\(", text)
