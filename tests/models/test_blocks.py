"""Modalities in blocks against NumPy, and options that do not fit together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.models.blocks import Blocks
from vidembed.models.parameters import apply, initialise, parts

WIDTHS = {"visual": 6, "audio": 3}


@pytest.mark.parametrize("norm", ["joint", "per_block", "none"])
@pytest.mark.parametrize("components", [0, 4])
def test_blocks_are_those_of_numpy(norm, components):
    rng = np.random.default_rng(0)
    network = Blocks(components=components, norm=norm)
    parameters = initialise(network, WIDTHS, jax.random.key(0))
    parameters = {
        n: jnp.asarray(rng.normal(size=p.shape), jnp.float32) for n, p in parameters.items()
    }
    inputs = {m: rng.normal(size=(5, width)) for m, width in WIDTHS.items()}
    inputs["audio"][2] = 0  # a missing modality
    expected = []
    for modality in ("visual", "audio"):
        block = inputs[modality]
        if components:
            block = block @ np.asarray(parameters[f"blocks/{modality}"], np.float64)
        if norm == "per_block":
            length = np.linalg.norm(block, axis=1, keepdims=True)
            block = block / np.where(length > 0, length, 1)
        expected.append(block)
    expected = np.concatenate(expected, axis=1)
    if norm == "joint":
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    rows = {m: jnp.asarray(array, jnp.float32) for m, array in inputs.items()}
    np.testing.assert_allclose(apply(network, parameters, rows), expected, atol=2e-6)
    assert parts(network) == (("blocks",) if components else ())


@pytest.mark.fault(
    "Annotation: blocks without modalities, repeated ones, a projection of standardised features",
    "refused when the recipe is built",
)
def test_options_that_do_not_fit_are_refused():
    for options, words in (
        ({"modalities": ()}, "distinct names"),
        ({"modalities": ("visual", "visual")}, "distinct names"),
        ({"components": -1}, "or more"),
        ({"norm": "all"}, "joint, per_block or none"),
        ({"standardise": True}, "--task.model.components 0"),
    ):
        with pytest.raises(ValueError, match=words):
            Blocks(**options)
