"""A step of joint video-text embedding, its GRU, and embedding: `python -m
experiments.benchmarks.joint_step`.

The paper's shape: 128 pairs, spaces object and activity with audio (2,048 + 1,024 + 1,024 features)
of 1,024 dimensions, each with a GRU over 300-dimensional embeddings of 11,750 words. Captions have
6 to 16 words, mean 11, padded to 16; for the GRU by itself all have 16. A limit is the products
that nothing can leave out (of real words, not padding; three of each kernel for a gradient), at the
rate of a 2048³ product in the same rounds. "bare products" are those of the GRU alone, in their
real shapes and order; "plain scan" has JAX's own gradient. With torch, the same step in PyTorch
with packed sequences. Memory is what the compiled program allocates. Two minutes on two cores.
"""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from experiments.benchmarks.annotation import temporaries
from experiments.benchmarks.bench import (
    FULL,
    against_products,
    in_rounds,
    report,
    square_products,
)
from vidembed.distributed import mesh as meshes
from vidembed.engine.model import SORTED_ROWS
from vidembed.models.gru import _forward, last_state
from vidembed.recipes.jemc import recipe
from vidembed.tasks.spec import Spec
from vidembed.tasks.video_text import VideoText

SQUARE = 2048
WIDTHS = {"object": 2048, "activity": 1024, "audio": 1024}
WORDS, LENGTH = 11_750, 16
UNITS, EMBEDDING = 1024, 300
PEER = "step, peer: PyTorch"


def main(*, pairs: int = 128, embedded: int = 4096, rounds: int = 5) -> None:
    """Measure all cases and report them; smaller numbers are for trying the benchmark itself."""
    task = VideoText()
    batch = made_batch(pairs, np.random.default_rng(0))
    many = made_batch(embedded, np.random.default_rng(1))
    steps = int(batch["words"].sum())
    works: dict[str, Callable[[], Any]] = {FULL: square_products(SQUARE)[FULL]}
    needs: dict[str, tuple[float, int]] = {}

    def add(name: str, made: tuple[Callable[[], Any], int], operations: float) -> None:
        works[name], needs[name] = made[0], (operations, made[1])

    text, video = of_gru(steps), 2 * pairs * (sum(WIDTHS.values())) * UNITS
    scores = 2 * 2 * pairs * pairs * UNITS
    mapped = 2 * video  # features have no gradient
    add("step", step(task, batch), 2 * 3 * text + mapped + 3 * scores)
    if importlib.util.find_spec("torch"):
        from experiments.benchmarks import joint_step_peer

        made = joint_step_peer.updates(batch, WIDTHS, WORDS, UNITS, EMBEDDING, recipe)
        add(PEER, (made, 0), needs["step"][0])
    else:
        print("no peer: PyTorch is not installed (pip install -e '.[bench]')")
    inputs = gru_inputs(pairs)
    recurrent = of_recurrence(pairs * LENGTH)
    add("GRU and gradient", gradient(last_state, inputs), 3 * recurrent)
    add("GRU and gradient, plain scan", gradient(plain, inputs), 3 * recurrent)
    add("GRU and gradient, bare products", bare(inputs), 3 * recurrent)
    state = task.init(jax.random.key(0), SPEC, None)
    words = int(many["words"].sum())
    add("embedding captions", embedding_by_length(task, state, many), 2 * of_gru(words))
    of_videos = 2 * embedded * sum(WIDTHS.values()) * UNITS
    add("embedding videos", embedding(task, "video", state, many), of_videos)
    seconds = in_rounds({**works, **narrow()}, rounds=rounds)
    rows = [
        against_products(name, seconds, operations / (2 * SQUARE**3), peak_bytes=memory)
        for name, (operations, memory) in needs.items()
    ]
    report("joint_step", rows)


SPEC = Spec(widths=WIDTHS, words=WORDS)


def of_gru(words: int) -> float:
    """Multiplications and additions of a GRU over so many words."""
    return 2 * words * EMBEDDING * 3 * UNITS + of_recurrence(words)


def of_recurrence(words: int) -> float:
    """Those of its recurrent part."""
    return 2 * words * UNITS * 3 * UNITS


def narrow() -> dict[str, Callable[[], Any]]:
    """The bfloat16 product, for the notes."""
    products = square_products(SQUARE)
    return {name: work for name, work in products.items() if name != FULL}


def made_batch(pairs: int, random: np.random.Generator) -> dict[str, Any]:
    """A batch of different videos with random features and words."""
    words = random.integers(6, LENGTH + 1, pairs).astype(np.int32)
    tokens = random.integers(0, WORDS, (pairs, LENGTH)).astype(np.int32)
    tokens[np.arange(LENGTH) >= words[:, None]] = 0
    features = {m: random.normal(size=(pairs, w)).astype(np.float32) for m, w in WIDTHS.items()}
    rows = np.arange(pairs, dtype=np.int32)
    return {"rows": rows, "tokens": tokens, "words": words, "features": features, "present": {}}


def step(task: VideoText, batch: dict[str, Any]) -> tuple[Callable[[], Any], int]:
    """A function that takes one more step, and the bytes its program allocates."""
    rule = recipe.optimiser.transformation()

    def update(parameters: Any, state: Any, moments: Any, batch: Any) -> Any:
        (loss, _), slope = jax.value_and_grad(task.loss_and_measures, has_aux=True)(
            parameters, state, {}, batch, jax.random.key(0)
        )
        direction, moments = rule.update(slope, moments, parameters)
        return optax.apply_updates(parameters, direction), moments, loss

    parameters, state = task.init(jax.random.key(0), SPEC, None)
    moments, placed = rule.init(parameters), jax.device_put(batch)
    mesh = meshes.make_mesh(meshes.MeshShape(), jax.devices()[:1])
    with jax.set_mesh(mesh):
        lowered = jax.jit(update, donate_argnums=(0, 2)).lower(parameters, state, moments, placed)
        program = lowered.compile()

    def work() -> Any:
        nonlocal parameters, moments
        parameters, moments, loss = program(parameters, state, moments, placed)
        return loss

    return work, temporaries(program)


def gru_inputs(pairs: int) -> tuple[jax.Array, ...]:
    """What `last_state` takes, with random numbers; every caption has 16 words."""
    keys = jax.random.split(jax.random.key(3), 3)
    inputs = jax.random.normal(keys[0], (LENGTH, pairs, 3 * UNITS))
    kernel = UNITS**-0.5 * jax.random.normal(keys[1], (UNITS, 3 * UNITS))
    return inputs, kernel, jax.random.normal(keys[2], (UNITS,)), jnp.full(pairs, LENGTH)


def gradient(
    function: Callable[..., jax.Array], inputs: tuple[jax.Array, ...]
) -> tuple[Callable[[], Any], int]:
    """The gradient of the sum of the states, by inputs, kernel and bias."""

    def total(*arrays: jax.Array) -> jax.Array:
        return jnp.sum(function(*arrays, inputs[3]))

    program = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2))).lower(*inputs[:3]).compile()
    return partial(program, *inputs[:3]), temporaries(program)


def plain(*arrays: jax.Array) -> jax.Array:
    """The same scan with JAX's own gradient."""
    return _forward(*arrays)[0]


def bare(inputs: tuple[jax.Array, ...]) -> tuple[Callable[[], Any], int]:
    """The products of a GRU and its gradient one after another, and nothing else."""
    product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

    def run(states: jax.Array, kernel: jax.Array) -> Any:
        def forward(state: jax.Array, _: Any) -> tuple[jax.Array, None]:
            return 1e-3 * product(state, kernel)[:, :UNITS], None

        def backward(along: jax.Array, _: Any) -> tuple[jax.Array, None]:
            return 1e-3 * product(jnp.concatenate([along] * 3, axis=1), kernel.T), None

        last, _ = jax.lax.scan(forward, states[0], length=LENGTH)
        along, _ = jax.lax.scan(backward, last, length=LENGTH)
        rows = states.reshape(-1, UNITS)
        return along, product(rows.T, jnp.concatenate([rows] * 3, axis=1))

    states = jnp.ones((LENGTH, inputs[0].shape[1], UNITS))
    program = jax.jit(run).lower(states, inputs[1]).compile()
    return partial(program, states, inputs[1]), temporaries(program)


def embedding_by_length(
    task: VideoText, start: tuple[Any, Any], batch: dict[str, Any]
) -> tuple[Callable[[], Any], int]:
    """The vectors of many captions in the order and blocks of a trained model."""
    order = np.argsort(-batch["words"], kind="stable")
    blocks = [
        {name: batch[name][order[first : first + SORTED_ROWS]] for name in ("tokens", "words")}
        for first in range(0, len(order), SORTED_ROWS)
    ]
    made = [embedding(task, "text", start, block) for block in blocks]
    return lambda: [work() for work, _ in made], made[0][1]


def embedding(
    task: VideoText, output: str, start: tuple[Any, Any], batch: dict[str, Any]
) -> tuple[Callable[[], Any], int]:
    """The vectors of many captions or videos."""
    placed = jax.device_put(batch)
    program = jax.jit(task.outputs[output].apply).lower(*start, placed).compile()
    return partial(program, *start, placed), temporaries(program)


if __name__ == "__main__":
    tyro.cli(main)
