"""One layer: its gradient against NumPy, and its communication between devices."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from vidembed.distributed import mesh as meshes
from vidembed.models.fusion import LateFusion, Layers, product_bfloat16
from vidembed.models.parameters import apply, initialise

pytestmark = pytest.mark.optimised

WIDTHS = {"visual": 6, "audio": 3}


def rounded(x):
    return np.asarray(x).astype(ml_dtypes.bfloat16).astype(np.float32)


def test_the_bfloat16_product_and_its_gradient_are_those_of_rounded_operands():
    rng = np.random.default_rng(0)
    x, kernel = rounded(rng.normal(size=(3, 5, 4))), rng.normal(size=(4, 2)).astype(np.float32)
    cotangent = rng.normal(size=(3, 5, 2)).astype(np.float32)
    product, pull = jax.vjp(product_bfloat16, jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel))
    along_x, along_kernel = pull(jnp.asarray(cotangent))
    np.testing.assert_allclose(product, x @ rounded(kernel), rtol=1e-5, atol=1e-6)
    expected = rounded(cotangent) @ rounded(kernel).T
    np.testing.assert_allclose(along_x.astype(jnp.float32), rounded(expected), rtol=0.01, atol=1e-3)
    expected = np.einsum("sbf,sbd->fd", x, rounded(cotangent))
    np.testing.assert_allclose(along_kernel, expected, rtol=1e-5, atol=1e-5)
    assert (along_x.dtype, along_kernel.dtype) == (jnp.bfloat16, jnp.float32)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_a_gradient_sends_no_activations(compute):
    """Rows stay on their devices: only sums over rows are sent, as large as the parameters."""
    network = LateFusion(layers=Layers(hidden=(16,), size=4, compute=compute))
    mesh = meshes.make_mesh(meshes.MeshShape())
    rows = jax.sharding.NamedSharding(mesh, meshes.batch_spec(1))
    features = {
        name: jax.ShapeDtypeStruct((3, 32, width), jnp.float32, sharding=rows)
        for name, width in WIDTHS.items()
    }
    parameters = jax.eval_shape(lambda: initialise(network, WIDTHS, jax.random.key(0)))
    parameters = jax.tree.map(
        lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=meshes.replicated(mesh)),
        parameters,
    )
    with jax.set_mesh(mesh):
        gradient = jax.jit(jax.grad(lambda p, x: jnp.sum(apply(network, p, x) ** 3)))
        text = gradient.lower(parameters, features).compile().as_text()
    assert "all-reduce" in text
    assert "all-gather" not in text
