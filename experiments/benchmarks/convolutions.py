"""3-D convolutions on this machine, direct against sums of 2-D ones: `python -m
experiments.benchmarks.convolutions`.

A step is the loss's value and gradient of R3D-18 at a quarter of its width on clips of 8 x 32 x 32.
The layers are the 3 x 3 x 3 ones of its stages, with their gradients. The limit of a case is its
multiplications and additions at the rate of a 1024³ product in the same rounds; both ways of a case
have the same. Two minutes on two cores.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from experiments.benchmarks.annotation import temporaries
from experiments.benchmarks.bench import (
    against_products,
    in_rounds,
    report,
    square_products,
)
from vidembed.models.convolutions import Convolution, convolve
from vidembed.models.r3d import ResidualClips

SQUARE = 1024
WAYS: tuple[Convolution, ...] = ("direct", "shifted")


def main(
    *,
    clips: int = 8,
    shape: tuple[int, int, int] = (8, 32, 32),
    width: float = 0.25,
    factorised: bool = False,
    rounds: int = 5,
) -> None:
    """Measure all cases and report them."""
    works: dict[str, Callable[[], Any]] = dict(square_products(SQUARE))
    needs: dict[str, tuple[float, int]] = {}
    for how in WAYS:
        network = ResidualClips(width=width, factorised=factorised, convolution=how)
        batch = jax.random.normal(jax.random.key(0), (clips, *shape, 3))
        work, program = step(network, batch)
        name = f"step, {how}"
        works[name], needs[name] = work, (operations(network, batch.shape), temporaries(program))
        frames, height, side = shape[0], shape[1] // 2, shape[2] // 2
        for stage, channels in enumerate(int(c * width) for c in (64, 128, 256, 512)):
            sizes = [max(1, size >> stage) for size in (frames, height, side)]
            work, program = layer(how, (clips, *sizes, channels))
            name = f"{channels} channels at {'x'.join(map(str, sizes))}, {how}"
            places = clips * sizes[0] * sizes[1] * sizes[2]
            works[name] = work
            needs[name] = 3 * 2 * places * 27 * channels**2, temporaries(program)
    seconds = in_rounds(works, rounds=rounds)
    rows = [
        against_products(name, seconds, of / (2 * SQUARE**3), peak_bytes=memory)
        for name, (of, memory) in needs.items()
    ]
    report("convolutions", rows)


def step(network: ResidualClips, batch: jax.Array) -> tuple[Callable[[], Any], Any]:
    """The gradient of a network's loss on a batch, and the program."""
    parameters, statistics = network.init(jax.random.key(1), batch.shape[1:])

    def loss(parameters: Any, batch: jax.Array) -> Any:
        vectors, new = network.apply(parameters, statistics, batch, True)
        return jnp.mean(jnp.square(vectors)), new

    program = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(parameters, batch).compile()
    return partial(program, parameters, batch), program


def layer(how: Convolution, shape: tuple[int, ...]) -> tuple[Callable[[], Any], Any]:
    """The gradients of one layer's loss in its input and kernel, and the program."""
    values = jax.random.normal(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, shape[-1], shape[-1]))

    def loss(values: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(convolve(values, kernel, how=how)))

    program = jax.jit(jax.grad(loss, (0, 1))).lower(values, kernel).compile()
    return partial(program, values, kernel), program


def operations(network: ResidualClips, shape: tuple[int, ...]) -> float:
    """Multiplications and additions of a step: three times those of all convolutions."""
    total = 0
    stem, blocks = network.layout(shape[-1])
    size = shape[1:4]

    def after(size: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(-(-length // stride) for length, stride in zip(size, strides))

    def add(size: tuple[int, ...], of: Any) -> tuple[int, ...]:
        nonlocal total
        size = after(size, of.strides)
        taps = of.kernel[0] * of.kernel[1] * of.kernel[2]
        total += 2 * shape[0] * size[0] * size[1] * size[2] * taps * of.inputs * of.outputs
        return size

    for of in stem:
        size = add(size, of)
    for block in blocks:
        if block.shortcut:
            add(size, block.shortcut)
        for of in block.layers:
            size = add(size, of)
    return 3.0 * total


if __name__ == "__main__":
    tyro.cli(main)
