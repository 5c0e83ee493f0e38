"""Moments against float64 and against samples; samples, halves and masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.distributed import mesh as meshes
from vidembed.losses.mixtures import Clips, halves, moments, sample

B, N, D = 8, 4, 3
PRESENT = np.ones((B, N), bool)
PRESENT[1, 2:], PRESENT[2], PRESENT[3] = False, False, [False, True, False, False]


def drawn(seed=0, spread=1.0, mean=0.0):
    rng = np.random.default_rng(seed)
    means = mean + spread * rng.normal(size=(B, N, D))
    return Clips(
        mean=means.astype(np.float32),
        log_variance=rng.normal(-1, 1, (B, N, D)).astype(np.float32),
        present=PRESENT,
    )


def by_loops(clips):
    """(mean, variance) f64[B, D], as the paper writes them: mean(σ² + μ²) − mean(μ)²."""
    means, variances = np.zeros((B, D)), np.ones((B, D))
    for video in range(B):
        some = [n for n in range(N) if clips.present[video, n]]
        if some:
            mu = [np.float64(clips.mean[video, n]) for n in some]
            var = [np.exp(np.float64(clips.log_variance[video, n])) for n in some]
            means[video] = sum(mu) / len(some)
            squares = sum(m * m + v for m, v in zip(mu, var)) / len(some)
            variances[video] = squares - means[video] ** 2
    return means, variances


@pytest.mark.parametrize(("spread", "mean"), [(1.0, 0.0), (1e-3, 100.0)])
def test_moments_are_those_of_the_paper_also_where_it_cancels(spread, mean):
    clips = drawn(spread=spread, mean=mean)
    if mean:  # the clips' variances are as small as the spread of their means
        clips = clips._replace(log_variance=clips.log_variance - 13)
    found = jax.jit(moments)(clips)
    means, variances = by_loops(clips)
    np.testing.assert_allclose(found.mean, means, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.variance, variances, rtol=1e-3 if mean else 1e-5)
    if mean:  # the paper's form in float32 has no digit left
        squares = np.exp(clips.log_variance[0]) + np.square(clips.mean[0])
        plain = squares.mean(axis=0) - np.square(clips.mean[0].mean(axis=0))
        assert np.abs(plain / variances[0] - 1).max() > 1
    # What a missing clip holds does not matter, not even to gradients.
    absent = ~PRESENT[..., None]
    broken = clips._replace(
        mean=np.where(absent, np.nan, clips.mean),
        log_variance=np.where(absent, 1e4, clips.log_variance),
    )
    gradient = jax.jit(jax.grad(lambda c: sum(map(jnp.sum, moments(c))), allow_int=True))(broken)
    assert np.isfinite(gradient.mean).all()
    assert np.isfinite(gradient.log_variance).all()
    jax.tree.map(np.testing.assert_array_equal, jax.jit(moments)(broken), found)


@pytest.mark.parametrize("draw", ["moments", "components"])
def test_samples_have_the_moments_of_the_mixture(draw):
    clips, count = drawn(), 20_000
    found = moments(clips)
    z = np.asarray(
        jax.jit(lambda key: sample(clips, found, count, key=key, draw=draw))(jax.random.key(0)),
        np.float64,
    )
    scale = np.sqrt(np.asarray(found.variance))
    assert np.abs((z.mean(axis=1) - found.mean) / scale).max() < 0.04
    assert np.abs(z.var(axis=1) / found.variance - 1).max() < 0.06


def test_components_are_clips_that_are_present():
    clips = drawn()
    points = clips._replace(log_variance=np.full((B, N, D), -40, np.float32))
    points = points._replace(mean=np.where(PRESENT[..., None], clips.mean, np.nan))
    run = jax.jit(lambda key: sample(points, moments(points), 64, key=key, draw="components"))
    z = np.asarray(run(jax.random.key(1)))
    for video in (v for v in range(B) if PRESENT[v].any()):
        apart = np.abs(z[video][:, None] - points.mean[video][None, PRESENT[video]]).max(-1)
        nearest = apart.argmin(axis=1)
        assert apart.min(axis=1).max() < 1e-6
        assert set(nearest) == set(range(PRESENT[video].sum()))


@pytest.mark.parametrize("draw", ["moments", pytest.param("components", marks=pytest.mark.long)])
def test_a_draw_depends_on_the_place_alone(draw):
    """Not on the devices, nor on how many videos follow."""
    clips = drawn()
    run = jax.jit(lambda c: sample(c, moments(c), 3, key=jax.random.key(2), draw=draw))
    one = run(clips)
    mesh = meshes.make_mesh(meshes.MeshShape())
    with jax.set_mesh(mesh):
        placed = meshes.place_batch(mesh, clips._asdict(), dict.fromkeys(clips._fields, 0))
        np.testing.assert_allclose(run(Clips(**placed)), one, rtol=1e-6, atol=1e-6)
    fewer = run(jax.tree.map(lambda x: x[:3], clips))
    np.testing.assert_allclose(fewer, one[:3], rtol=1e-6, atol=1e-6)


def test_halves_share_no_clip_and_are_drawn_anew():
    run = jax.jit(lambda key: halves(jnp.asarray(PRESENT), key=key))
    splits = set()
    for seed in range(20):
        first, second = map(np.asarray, run(jax.random.key(seed)))
        np.testing.assert_array_equal(first | second, PRESENT)
        several = PRESENT.sum(axis=1) > 1
        assert not (first & second)[several].any()
        np.testing.assert_array_equal(first[several].sum(1), -(-PRESENT[several].sum(1) // 2))
        np.testing.assert_array_equal((first & second)[3], PRESENT[3])
        splits.add(tuple(first[0]))
    assert len(splits) == 6
