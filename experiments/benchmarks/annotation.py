"""Mixtures of experts, updates and scores: `python -m experiments.benchmarks.annotation`.

512 videos with 384 inputs and about three labels each; two experts for 3,862 classes, thirty for
1,024. An update is loss, gradient (by the inputs, too) and Adam. Its limit is its products (three
with every kernel, of the real classes) at the rate of a square float32 product, and its bytes
(logits written and read once; parameters, gradient and Adam's two averages read, and all but the
gradient written) at the rate of a copy, both of the same round. The limit of scores is one product
with every kernel. "plain" is the formula by logsumexp with JAX's own gradient, logits whole. Memory
is what the compiled program allocates beside its arguments and results. Ratios are medians over
rounds; the notes have that of the best times, too, for machines with other work. With torch, the
same update in PyTorch, from whole logits; its memory is not measured. Three minutes on two cores.
"""

import importlib.util
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from experiments.benchmarks.bench import FULL, Row, in_rounds, report, square_products
from vidembed.distributed import mesh as meshes
from vidembed.engine.optimiser import Optimiser
from vidembed.models.mixture_blocks import BIASES, EXPERTS, GATES
from vidembed.models.mixture_of_experts import MixtureOfExperts

SQUARE = 2048
COPIED = 64 * 2**20
"""Numbers in the array that is copied."""
COPY = "copy in place"
RATE = 0.008
LABELS = 20
"""Places for the labels of a video."""


def main(
    *,
    videos: int = 512,
    size: int = 384,
    mixtures: tuple[int, ...] = (2, 30),
    classes: tuple[int, ...] = (3862, 1024),
    rounds: int = 7,
) -> None:
    """Measure each number of experts with its number of classes."""
    works: dict[str, Callable[[], Any]] = {FULL: square_products(SQUARE)[FULL], COPY: copies()}
    if not (has_torch := importlib.util.find_spec("torch") is not None):
        print("no peer: PyTorch is not installed (pip install -e '.[bench]')")
    needs: dict[str, tuple[float, float]] = {}
    memory = {}
    for experts, count in zip(mixtures, classes, strict=True):
        model, logits = MixtureOfExperts(mixtures=experts), count * (2 * experts + (experts > 1))
        product, name = 2 * videos * logits * size, f"H = {experts}, {count:,} classes"
        moved = 4 * (2 * videos * logits + 7 * logits * size)
        cases = {
            f"{name}: update": (update(model, weighted(model), count, size, videos), 3, moved),
            f"{name}: update, plain": (update(model, plain, count, size, videos), 3, moved),
            f"{name}: scores": (scores(model, count, size, videos), 1, 0),
            f"{name}: scores, the product alone": (bare(logits, size, videos), 1, 0),
        }
        if has_torch:
            cases[f"{name}: update, peer: PyTorch"] = (peer(model, count, size, videos), 3, moved)
        for case, (measured, products, case_bytes) in cases.items():
            works[case], memory[case] = measured
            needs[case] = products * product, case_bytes
    seconds = in_rounds(works, rounds=rounds)
    report("annotation", [row(case, seconds, *needs[case], memory[case]) for case in needs])


def row(
    case: str, seconds: dict[str, list[float]], operations: float, moved: float, memory: int
) -> Row:
    """A case against operations at the product's rate, and bytes at the copy's, round by round."""

    def limit_of(product: float, copy: float) -> float:
        return product * operations / (2 * SQUARE**3) + copy * moved / (8 * COPIED)

    limits = list(map(limit_of, seconds[FULL], seconds[COPY]))
    best = min(seconds[case]) / limit_of(min(seconds[FULL]), min(seconds[COPY]))
    ratios = sorted(a / b for a, b in zip(seconds[case], limits, strict=True))
    took = statistics.median(seconds[case])
    note = f"ratio {ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} rounds, best {best:.2f}"
    limit = took / statistics.median(ratios)
    return Row(case=case, seconds=took, limit_seconds=limit, peak_bytes=memory, note=note)


def copies() -> Callable[[], Any]:
    """Reads and writes an array in its place, so that no new memory is asked for."""
    run = jax.jit(lambda numbers: numbers + 1, donate_argnums=0)
    numbers = jnp.zeros(COPIED)

    def copy() -> Any:
        nonlocal numbers
        numbers = run(numbers)
        return numbers

    return copy


def weighted(model: MixtureOfExperts) -> Callable[..., jax.Array]:
    """The loss of the model as a task uses it."""

    def mean(parameters: Any, z: jax.Array, labels: jax.Array, count: int) -> jax.Array:
        weights = jnp.full(len(z), 1 / len(z))
        return model.weighted_loss(parameters, z, labels, count, weights)[0]

    return mean


def plain(parameters: Any, z: jax.Array, labels: jax.Array, count: int) -> jax.Array:
    """The same from whole logits, with JAX's own gradient."""
    product = partial(jnp.einsum, "bd,chd->bch", precision=jax.lax.Precision.HIGHEST)
    e = product(z, parameters[EXPERTS]) + parameters[BIASES][None]
    g = product(z, parameters[GATES])
    right = g[..., 1:] - jax.nn.softplus(-e)
    wrong = jnp.concatenate([g[..., :1], g[..., 1:] - jax.nn.softplus(e)], axis=2)
    every = jax.nn.logsumexp(g, axis=2)
    log_p, log_rest = (jax.nn.logsumexp(joint, axis=2) - every for joint in (right, wrong))
    own = jnp.take_along_axis(log_rest - log_p, jnp.maximum(labels, 0), axis=1)
    losses = jnp.sum(jnp.where(labels >= 0, own, 0.0), axis=1) - jnp.sum(log_rest[:, :count], 1)
    return jnp.mean(losses)


def batch(count: int, size: int, videos: int) -> tuple[jax.Array, jax.Array]:
    """Unit vectors f32[B, D], and different labels i32[B, 20], on average 3, padded with −1."""
    random = np.random.default_rng(0)
    z = random.normal(size=(videos, size)).astype(np.float32)
    labels = np.stack([random.permutation(count)[:LABELS] for _ in range(videos)])
    labels[random.random(labels.shape) > 3 / LABELS] = -1
    return jnp.asarray(z / np.linalg.norm(z, axis=1, keepdims=True)), jnp.asarray(labels, jnp.int32)


def update(
    model: MixtureOfExperts, loss: Callable[..., jax.Array], count: int, size: int, videos: int
) -> tuple[Callable[[], Any], int]:
    """A function that takes one more step, and the bytes its program allocates."""
    rule = Optimiser(learning_rate=RATE).transformation()
    z, labels = batch(count, size, videos)

    def step(parameters: Any, state: Any) -> Any:
        total, (gradient, by_z) = jax.value_and_grad(loss, argnums=(0, 1))(
            parameters, z, labels, count
        )
        direction, state = rule.update(gradient, state, parameters)
        return optax.apply_updates(parameters, direction), state, total, by_z

    biases = jnp.full(count, -6.0)
    parameters = model.initialise(jax.random.key(0), size=size, biases=biases)
    state = rule.init(parameters)
    mesh = meshes.make_mesh(meshes.MeshShape(), jax.devices()[:1])
    with jax.set_mesh(mesh):
        program = jax.jit(step, donate_argnums=(0, 1)).lower(parameters, state).compile()

    def work() -> Any:
        nonlocal parameters, state
        parameters, state, total, by_z = program(parameters, state)
        return total, by_z

    return work, temporaries(program)


def peer(
    model: MixtureOfExperts, count: int, size: int, videos: int
) -> tuple[Callable[[], Any], int]:
    """A function that takes one more step in PyTorch; 0 for its memory."""
    from experiments.benchmarks import annotation_peer

    z, labels = map(np.array, batch(count, size, videos))
    parameters = model.initialise(jax.random.key(0), size=size, biases=jnp.full(count, -6.0))
    return annotation_peer.updates(parameters, z, labels, count, RATE), 0


def scores(
    model: MixtureOfExperts, count: int, size: int, videos: int
) -> tuple[Callable[[], Any], int]:
    """A function that scores the batch, and the bytes its program allocates."""
    parameters = model.initialise(jax.random.key(0), size=size, biases=jnp.full(count, -6.0))
    z, _ = batch(count, size, videos)
    program = jax.jit(partial(model.scores, count=count)).lower(parameters, z).compile()
    return partial(program, parameters, z), temporaries(program)


def bare(logits: int, size: int, videos: int) -> tuple[Callable[[], Any], int]:
    """The product with every kernel at once, all of its logits written."""
    z, _ = batch(logits, size, videos)
    kernels = jax.random.normal(jax.random.key(1), (size, logits))
    multiply = jax.jit(partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST))
    program = multiply.lower(z, kernels).compile()
    return partial(program, z, kernels), temporaries(program)


def temporaries(program: Any) -> int:
    """Bytes that a compiled program allocates beside its arguments and results."""
    size: int = program.memory_analysis().temp_size_in_bytes
    return size


if __name__ == "__main__":
    tyro.cli(main)
