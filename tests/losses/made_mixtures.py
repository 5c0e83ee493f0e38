"""Mixtures with means of length 1, for the tests of losses of pairs."""

import jax
import jax.numpy as jnp
import numpy as np

from vidembed.distributed import mesh as meshes
from vidembed.losses.mixtures import Mixtures

B, K, D = 8, 3, 4


def made(count=B, width=D, samples=K, seed=0, variance=(0.01, 0.3)):
    """Mixtures of which two are of one video."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(count, width))
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    variances = np.exp(rng.uniform(*np.log(variance), (count, width)))
    noise = rng.normal(size=(count, samples, width))
    z = mean[:, None] + np.sqrt(variances)[:, None] * noise
    video = np.arange(count, dtype=np.int32)
    video[-1] = video[0]
    return Mixtures(
        number=jnp.arange(count, dtype=jnp.int32),
        video=jnp.asarray(video),
        valid=jnp.ones(count, bool),
        mean=jnp.asarray(mean, jnp.float32),
        variance=jnp.asarray(variances, jnp.float32),
        samples=jnp.asarray(z, jnp.float32),
    )


def on(devices):
    """The mesh of so many devices, set; eight are 4 × 2."""
    shape = meshes.MeshShape(model=2 if devices == 8 else 1)
    return jax.set_mesh(meshes.make_mesh(shape, jax.devices()[:devices]))
