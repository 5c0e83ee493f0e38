"""Changes of clips against slow forms in float64; the same on any devices and for all frames."""

import colorsys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.distributed import mesh as meshes
from vidembed.models.augment import (
    DEVIATION,
    MEAN,
    Augmentation,
    blurred,
    cropped,
    greyed,
    mirrored,
    plain,
    recoloured,
)

SMALL = Augmentation(size=6)
APPLY = jax.jit(SMALL.__call__)


@pytest.fixture(scope="module")
def clips():
    """u8[4, 2, 9, 12, 3]"""
    return np.random.default_rng(0).integers(0, 256, (4, 2, 9, 12, 3), np.uint8)


@pytest.fixture(scope="module")
def pixels(clips):
    return (clips / 255).astype(np.float32)


def slow_axis(values, begin, extent, size):
    """values f64[L, ...] from `begin` over `extent`, as `size` linear samples."""
    scale = extent / size
    wide = max(scale, 1.0)
    out = np.zeros((size, *values.shape[1:]))
    for place in range(size):
        centre = begin + (place + 0.5) * scale - 0.5
        weights = [max(0.0, 1 - abs(at - centre) / wide) for at in range(len(values))]
        for at, weight in enumerate(weights):
            out[place] += weight / sum(weights) * values[at]
    return out


def slow_crop(clip, box, size):
    top, left, height, width = box
    rows = slow_axis(np.moveaxis(clip, 1, 0), top, height, size)
    columns = slow_axis(np.moveaxis(rows, 2, 0), left, width, size)
    return np.moveaxis(columns, (1, 0, 2, 3), (1, 2, 0, 3))


def slow_colours(clip, factors):
    brightness, contrast, saturation, turn = map(float, factors)
    clip = np.clip(clip.astype(np.float64) * brightness, 0, 1)
    mean = np.mean([colorsys_luma(pixel) for pixel in clip.reshape(-1, 3)])
    clip = np.clip(mean + (clip - mean) * contrast, 0, 1)
    out = np.empty_like(clip)
    for place in np.ndindex(*clip.shape[:-1]):
        pixel = clip[place]
        grey = colorsys_luma(pixel)
        pixel = np.clip(grey + (pixel - grey) * saturation, 0, 1)
        y, i, q = YIQ @ pixel
        chroma = (i + 1j * q) * np.exp(1j * turn)
        out[place] = np.clip(np.linalg.solve(YIQ, [y, chroma.real, chroma.imag]), 0, 1)
    return out


YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def colorsys_luma(pixel):
    return 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]


def slow_blur(clip, sigma, radius):
    if not sigma:
        return clip
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights, out = weights / weights.sum(), clip.astype(np.float64)
    for axis in (1, 2):
        last, source = clip.shape[axis] - 1, np.moveaxis(out, axis, 0)
        out = np.zeros_like(source)
        for place in range(last + 1):
            for step, weight in enumerate(weights):
                out[place] += weight * source[min(max(place + step - radius, 0), last)]
        out = np.moveaxis(out, 0, axis)
    return out


@pytest.mark.long
def test_crops_equal_the_slow_ones(pixels):
    box = np.float32([[0, 0, 9, 12], [1.5, 2.25, 6, 5], [3.2, 0.1, 4.4, 11.9], [2, 3, 2.5, 2]])
    made = jax.jit(cropped, static_argnums=2)(pixels, box, 6)
    for clip, each, of in zip(pixels, box, made):
        np.testing.assert_allclose(of, slow_crop(clip, each.astype(float), 6), atol=1e-5)
    same = cropped(pixels[..., :9, :], np.float32([[0, 0, 9, 9]] * 4), 9)
    np.testing.assert_allclose(same, pixels[..., :9, :], atol=1e-6)


def test_flips_and_greys_are_of_the_chosen_clips(pixels):
    chosen = np.array([True, False, True, False])
    for clip, flip, flipped, grey in zip(
        pixels, chosen, mirrored(pixels, chosen), greyed(pixels, chosen)
    ):
        np.testing.assert_array_equal(flipped, np.flip(clip, 2) if flip else clip)
        luma = clip @ np.float32([0.299, 0.587, 0.114])
        expected = np.stack([luma] * 3, -1) if flip else clip
        np.testing.assert_allclose(grey, expected, atol=1e-6)


def test_colours_equal_the_slow_ones(pixels):
    colours = np.float32([[1, 1, 1, 0], [1.3, 0.7, 1.4, 0.5], [0.6, 1.4, 0.6, -0.6], [1, 1, 0, 0]])
    made = jax.jit(recoloured)(pixels, colours)
    np.testing.assert_allclose(made[0], pixels[0], atol=1e-6)
    for clip, factors, of in zip(pixels, colours, made):
        np.testing.assert_allclose(of, slow_colours(clip, factors), atol=2e-5)
    hue = colorsys.rgb_to_hsv(*np.asarray(made[3])[0, 0, 0])
    assert hue[1] < 1e-5  # no saturation is grey


def test_blurs_equal_the_slow_ones(pixels):
    sigma = np.float32([0, 0.4, 1.3, 2.0])
    made = jax.jit(blurred, static_argnums=2)(pixels, sigma, 4)
    for clip, each, of in zip(pixels, sigma, made):
        np.testing.assert_allclose(of, slow_blur(clip, float(each), 4), atol=1e-5)


@pytest.mark.long
def test_draws_are_within_their_bounds_and_as_frequent_as_asked():
    drawn = SMALL.drawn(jax.random.key(0), 20_000, 90, 120)
    top, left, tall, wide = np.asarray(drawn.box, np.float64).T
    assert min(top.min(), left.min()) >= 0
    assert (top + tall).max() <= 90.001
    assert (left + wide).max() <= 120.001
    share = tall * wide / (90 * 120)
    assert share.max() <= 1.0001
    assert share.min() > 0.29
    inside = (tall < 90) & (wide < 120)
    assert (wide / tall)[inside].min() > 0.749
    assert (wide / tall)[inside].max() < 1.334
    for flags, chance in (
        (drawn.flip, 0.5),
        (drawn.grey, 0.2),
        (drawn.sigma > 0, 0.5),
        (drawn.colours[:, 3] != 0, 0.8),
    ):
        assert abs(np.mean(flags) - chance) < 0.02
    blurs = np.asarray(drawn.sigma)[np.asarray(drawn.sigma) > 0]
    assert 0.1 <= blurs.min() < blurs.max() <= 2
    together = np.corrcoef(np.stack([drawn.flip, drawn.grey, drawn.sigma, top]))
    assert np.abs(together[~np.eye(4, dtype=bool)]).max() < 0.03


def test_frames_of_a_clip_are_changed_alike_and_clips_differ(clips):
    still = np.repeat(np.repeat(clips[:1, :1], 4, 0), 2, 1)
    made = np.asarray(APPLY(jax.random.key(1), still))
    assert made.shape == (4, 2, 6, 6, 3)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, np.repeat(made[:, :1], 2, 1))
    assert len({clip.tobytes() for clip in made}) == 4
    np.testing.assert_array_equal(made, APPLY(jax.random.key(1), still))
    assert (made != APPLY(jax.random.key(2), still)).any()


@pytest.mark.long
def test_clips_may_come_by_video(clips):
    made = SMALL(jax.random.key(1), clips)
    by_video = SMALL(jax.random.key(1), clips.reshape(2, 2, *clips.shape[1:]))
    np.testing.assert_array_equal(np.reshape(made, by_video.shape), by_video)


def test_the_whole_is_its_parts(clips):
    key = jax.random.key(4)
    drawn = jax.tree.map(np.asarray, SMALL.drawn(key, 4, 9, 12))
    made = np.asarray(APPLY(key, clips))
    for number, clip in enumerate(clips / 255):
        of = slow_crop(clip, drawn.box[number].astype(float), 6)
        of = np.flip(of, 2) if drawn.flip[number] else of
        of = slow_colours(of, drawn.colours[number])
        if drawn.grey[number]:
            of = np.stack([of @ np.array([0.299, 0.587, 0.114])] * 3, -1)
        of = slow_blur(of, float(drawn.sigma[number]), 4)
        np.testing.assert_allclose(made[number], (of - MEAN) / DEVIATION, atol=3e-4)


@pytest.mark.long
def test_without_changes_only_the_size_differs(clips, pixels):
    none = replace(SMALL, area=(1, 1), ratio=(4 / 3, 4 / 3), flip=0, jitter=0, grey=0, blur=0)
    expected = plain(clips, 6)
    np.testing.assert_allclose(none(jax.random.key(0), clips), expected, atol=1e-5)
    slow = slow_crop(pixels[2].astype(np.float64), (0, 0, 9, 12), 6)
    np.testing.assert_allclose(expected[2], (slow - MEAN) / DEVIATION, atol=3e-5)


@pytest.mark.long
def test_eight_devices_equal_one(clips):
    many = jnp.asarray(np.concatenate([clips, clips[:, ::-1]] * 2))
    key = jax.random.key(7)
    alone = APPLY(key, many)
    mesh = meshes.make_mesh(meshes.MeshShape(data=8))
    spread = jax.device_put(many, jax.sharding.NamedSharding(mesh, meshes.batch_spec(0)))
    np.testing.assert_allclose(APPLY(key, spread), alone, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size must be at least 1 pixel"),
        ({"flip": 1.5}, r"flip must lie in 0 to 1, found 1\.5"),
        ({"hue": 0.7}, r"hue must lie in 0 to 0\.5"),
        ({"area": (0.0, 1.0)}, "area must rise from above 0 to 1"),
        ({"area": (0.5, 1.5)}, "area must rise from above 0 to 1"),
        ({"sigma": (2.0, 1.0)}, "sigma must rise from above 0 to any number"),
    ],
)
def test_impossible_options_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
