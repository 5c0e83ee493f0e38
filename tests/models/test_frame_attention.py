"""Attention over frames: values and gradients against float64, on any devices."""

import jax
import jax.numpy as jnp
import numpy as np

from vidembed.models.frame_attention import attend
from vidembed.records.bytecode import dequantise
from vidembed.records.frame_rows import FrameRows

LENGTHS = np.array([0, 1, 4, 9, 9, 3, 8, 2], np.int32)


def made():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (8, 9, 5), np.uint8)
    weights = rng.normal(size=5).astype(np.float32)
    return values, weights, rng.normal(size=(8, 5))


def by_loops(values, weights):
    """In float64, video by video."""
    vectors = np.zeros((len(values), values.shape[2]))
    for row, length in enumerate(LENGTHS):
        frames = dequantise(values[row, :length]).astype(np.float64)
        if length:
            powers = np.exp(frames @ weights - (frames @ weights).max())
            vectors[row] = powers / powers.sum() @ frames
    return vectors


def test_vectors_and_gradients_are_those_of_loops():
    values, weights, direction = made()
    frames = FrameRows(jnp.asarray(values), jnp.asarray(LENGTHS))
    np.testing.assert_allclose(attend(frames, weights), by_loops(values, weights), atol=2e-6)

    def along(weights):
        return jnp.sum(attend(frames, weights) * direction)

    slopes = jax.grad(along)(jnp.asarray(weights))
    for place in range(5):
        step = 1e-5 * np.eye(5)[place]
        ends = [(by_loops(values, weights + side * step) * direction).sum() for side in (1, -1)]
        np.testing.assert_allclose(slopes[place], (ends[0] - ends[1]) / 2e-5, rtol=1e-4)


def test_equal_weights_are_the_mean_and_zeros_without_frames():
    values, _, _ = made()
    pooled = np.asarray(attend(FrameRows(values, LENGTHS), jnp.zeros(5)))
    assert not pooled[0].any()
    for row in range(1, 8):
        mean = dequantise(values[row, : LENGTHS[row]]).astype(np.float64).mean(0)
        np.testing.assert_allclose(pooled[row], mean, atol=1e-6)


def test_large_scores_stay_finite_and_eight_devices_give_the_same():
    values, weights, direction = made()
    mesh = jax.make_mesh((8,), ("data",))
    split = jax.NamedSharding(mesh, jax.P("data"))
    placed = FrameRows(jax.device_put(values, split), jax.device_put(LENGTHS, split))

    def both(frames, weights):
        value, slope = jax.value_and_grad(lambda w: jnp.sum(attend(frames, w) * direction))(weights)
        return attend(frames, weights), value, slope

    for scale in (1, 1e4):
        ours = jax.jit(both)(placed, scale * jnp.asarray(weights))
        expected = both(FrameRows(jnp.asarray(values), LENGTHS), scale * jnp.asarray(weights))
        for mine, other in zip(ours, expected):
            assert np.isfinite(other).all()
            np.testing.assert_allclose(mine, other, rtol=1e-4, atol=2e-5)
