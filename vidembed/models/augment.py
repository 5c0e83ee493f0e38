"""Random changes of clips on the device: crop, flip, colours, grey and blur.

Each is drawn once per clip and is the same for all of its frames, so that motion stays. The draws
of all clips come from one key and one call, so that they do not depend on how clips are spread over
devices. Each change is a function of its draws.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

MEAN, DEVIATION = 0.45, 0.225
"""What pixels in [0, 1] are standardised by, of all colours."""
LUMA = (0.299, 0.587, 0.114)
_TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
_EXACT = jax.lax.Precision.HIGHEST


class Draws(NamedTuple):
    """What was drawn for M clips.

    box: f32[M, 4], top, left, height and width of the crop in pixels. flip, grey: bool[M].
    colours: f32[M, 4], factors of brightness, contrast and saturation, and the turn of the hue in
    radians; 1, 1, 1, 0 changes nothing. sigma: f32[M], of the blur in pixels; 0 for none.
    """

    box: jax.Array
    flip: jax.Array
    colours: jax.Array
    grey: jax.Array
    sigma: jax.Array


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of each clip, equal for its frames, in this order."""

    size: int = 112
    """Height and width of the result, in pixels."""
    area: tuple[float, float] = (0.3, 1.0)
    """Share of the picture's area that is cropped, from a to b; 1 1: the whole picture."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width by height of the crop, in source pixels."""
    flip: float = 0.5
    """Chance of a mirrored clip."""
    jitter: float = 0.8
    """Chance of changed colours."""
    brightness: float = 0.4
    """The factor of brightness is in 1 - this to 1 + this."""
    contrast: float = 0.4
    """The factor of contrast is in 1 - this to 1 + this."""
    saturation: float = 0.4
    """The factor of saturation is in 1 - this to 1 + this."""
    hue: float = 0.1
    """Share of a whole turn of the hue, in either direction."""
    grey: float = 0.2
    """Chance of a clip in grey."""
    blur: float = 0.5
    """Chance of a blurred clip."""
    sigma: tuple[float, float] = (0.1, 2.0)
    """Deviation of the blur in pixels of the result, from a to b."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, found {self.size}")
        for name in ("flip", "jitter", "grey", "blur", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0 to 1, found {getattr(self, name)}")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue must lie in 0 to 0.5, found {self.hue}")
        for name in ("area", "ratio", "sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf or (name == "area" and high > 1):
                most = "1" if name == "area" else "any number"
                raise ValueError(f"{name} must rise from above 0 to {most}, found {low}, {high}")

    def drawn(self, key: jax.Array, clips: int, height: int, width: int) -> Draws:
        """Draw the changes of `clips` clips of this size."""
        chances = jax.random.uniform(key, (13, clips), jnp.float32)
        area = _between(chances[0], *self.area) * height * width
        ratio = jnp.exp(_between(chances[1], math.log(self.ratio[0]), math.log(self.ratio[1])))
        # A crop that would not fit loses what is too much of one side.
        tall = jnp.minimum(jnp.sqrt(area / ratio), height)
        wide = jnp.minimum(jnp.sqrt(area * ratio), width)
        top, left = chances[2] * (height - tall), chances[3] * (width - wide)
        changed = chances[4] < self.jitter
        sides = (self.brightness, self.contrast, self.saturation)
        factors = [
            jnp.where(changed, _between(chances[5 + number], 1 - side, 1 + side), 1.0)
            for number, side in enumerate(sides)
        ]
        turn = 2 * math.pi * self.hue
        factors.append(jnp.where(changed, _between(chances[8], -turn, turn), 0.0))
        sigma = jnp.where(chances[9] < self.blur, _between(chances[10], *self.sigma), 0.0)
        return Draws(
            box=jnp.stack([top, left, tall, wide], axis=1),
            flip=chances[11] < self.flip,
            colours=jnp.stack(factors, axis=1),
            grey=chances[12] < self.grey,
            sigma=sigma,
        )

    def __call__(self, key: jax.Array, clips: jax.Array) -> jax.Array:
        """Clips u8[..., T, H, W, 3] changed and standardised: f32[..., T, size, size, 3]."""
        flat = clips.reshape(-1, *clips.shape[-4:])
        drawn = self.drawn(key, len(flat), *flat.shape[2:4])
        values = cropped(flat.astype(jnp.float32) / 255, drawn.box, self.size)
        values = mirrored(values, drawn.flip)
        values = greyed(recoloured(values, drawn.colours), drawn.grey)
        values = blurred(values, drawn.sigma, math.ceil(2 * self.sigma[1]) if self.blur else 0)
        return standardised(values).reshape(*clips.shape[:-4], *values.shape[1:])


def plain(clips: jax.Array, size: int) -> jax.Array:
    """Clips u8[..., T, H, W, 3] unchanged but for their size, standardised: what is embedded."""
    flat = clips.reshape(-1, *clips.shape[-4:])
    whole = jnp.array([[0, 0, *flat.shape[2:4]]], jnp.float32)
    boxes = jnp.broadcast_to(whole, (flat.shape[0], 4))
    values = standardised(cropped(flat.astype(jnp.float32) / 255, boxes, size))
    return values.reshape(*clips.shape[:-4], *values.shape[1:])


def standardised(values: jax.Array) -> jax.Array:
    """Pixels in [0, 1] as an encoder reads them."""
    return (values - MEAN) / DEVIATION


def cropped(clips: jax.Array, box: jax.Array, size: int) -> jax.Array:
    """The boxes f32[M, 4] of clips f32[M, T, H, W, C], resized to f32[M, T, size, size, C].

    Linear between pixels; where the result is smaller, over as many pixels as one of it covers.
    """

    def one(clip: jax.Array, box: jax.Array) -> jax.Array:
        scale = size / box[2:]
        shape = (clip.shape[0], size, size, clip.shape[3])
        return jax.image.scale_and_translate(
            clip, shape, (1, 2), scale, -box[:2] * scale, "linear", antialias=True
        )

    return jax.vmap(one)(clips, box)


def mirrored(clips: jax.Array, flip: jax.Array) -> jax.Array:
    """The clips f32[M, T, H, W, C], mirrored left to right where bool[M] says so."""
    return jnp.where(_per_clip(flip), clips[:, :, :, ::-1], clips)


def recoloured(clips: jax.Array, colours: jax.Array) -> jax.Array:
    """Brightness, contrast, saturation and hue of clips in [0, 1], by f32[M, 4]; see `Draws`.

    Contrast is about the mean grey of the whole clip, so that frames keep their differences. The
    hue turns in the plane of YIQ's two colours, at the same luma. After each the values are cut to
    [0, 1].
    """
    brightness, contrast, saturation, turn = (_per_clip(column) for column in colours.T)
    clips = jnp.clip(clips * brightness, 0, 1)
    mean = jnp.mean(_luma(clips), axis=(1, 2, 3, 4), keepdims=True)
    clips = jnp.clip(mean + (clips - mean) * contrast, 0, 1)
    grey = _luma(clips)
    clips = jnp.clip(grey + (clips - grey) * saturation, 0, 1)
    to_yiq = jnp.array(_TO_YIQ, jnp.float32)
    luma, in_phase, quadrature = jnp.split(_mixed(clips, to_yiq), 3, axis=-1)
    cosine, sine = jnp.cos(turn), jnp.sin(turn)
    turned = [luma, cosine * in_phase - sine * quadrature, sine * in_phase + cosine * quadrature]
    back = _mixed(jnp.concatenate(turned, axis=-1), jnp.linalg.inv(to_yiq))
    return jnp.where(turn == 0, clips, jnp.clip(back, 0, 1))


def greyed(clips: jax.Array, grey: jax.Array) -> jax.Array:
    """The clips, in their luma where bool[M] says so."""
    return jnp.where(_per_clip(grey), _luma(clips), clips)


def blurred(clips: jax.Array, sigma: jax.Array, radius: int) -> jax.Array:
    """The clips under a Gaussian of deviation f32[M] pixels, cut after `radius`; 0: as they are.

    Beyond its edges a picture continues with its last pixels.
    """
    steps = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    safe = jnp.where(sigma > 0, sigma, 1.0)[:, None]
    weights = jnp.exp(-0.5 * jnp.square(steps[None] / safe))
    weights = weights / jnp.sum(weights, axis=1, keepdims=True)
    values = clips
    for axis in (2, 3):
        around = [(radius, radius) if place == axis else (0, 0) for place in range(5)]
        padded, length = jnp.pad(values, around, mode="edge"), values.shape[axis]
        parts = [
            _per_clip(weights[:, step])
            * jax.lax.slice_in_dim(padded, step, step + length, axis=axis)
            for step in range(2 * radius + 1)
        ]
        values = sum(parts[1:], parts[0])
    return jnp.where(_per_clip(sigma) > 0, values, clips)


def _per_clip(values: jax.Array) -> jax.Array:
    return values.reshape(-1, 1, 1, 1, 1)


def _luma(clips: jax.Array) -> jax.Array:
    """f32[..., 1]"""
    red, green, blue = jnp.split(clips, 3, axis=-1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _mixed(clips: jax.Array, matrix: jax.Array) -> jax.Array:
    return jnp.einsum("mthwc,dc->mthwd", clips, matrix, precision=_EXACT)


def _between(chance: jax.Array, low: float, high: float) -> jax.Array:
    return low + chance * (high - low)
