"""One update at paper scale: `python -m experiments.benchmarks.step [--triplets 7200]`.

7,200 triplets: 21,600 rows of 1,024 + 128 uint8 features through late fusion 4000-256, semi-hard
mining over all of them with 48 forbidden members an anchor, gradient, Adam, norms. The limit is
the arithmetic of its products (forward, kernels' gradient, gradient of the hidden layer; inputs
have none), 664 GFLOP, and of mining, 80 GFLOP, at the rate of a 4096³ float32 product in the same
rounds; also for bfloat16, whose ratio can be below 1. The notes have the share of a 4096³ bfloat16
product's rate, which is what counts on an accelerator. Memory is what the compiled program
allocates beside its arguments and results; for PyTorch, which takes the same step where it is
installed (`pip install -e '.[bench]'`), what the process grows by. Three minutes on two cores.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import tyro

from experiments import cdml
from experiments.benchmarks.bench import (
    against_products,
    in_rounds,
    measure,
    report,
    square_products,
)
from vidembed.distributed import mesh as meshes
from vidembed.engine.recipe import Recipe
from vidembed.engine.step import compile_update, new_state, state_shape
from vidembed.feeds.triplets import TripletFeed, Triplets
from vidembed.feeds.videos import Placement
from vidembed.mining import SemiHard
from vidembed.models.fusion import LateFusion, Layers
from vidembed.records.statistics import Statistics
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.tasks.spec import Spec

SQUARE = 4096
WIDTHS = {"visual": 1024, "audio": 128}
VIDEOS = 50_000
FORBIDDEN = 48


def main(
    *,
    triplets: int = 7200,
    hidden: int = 4000,
    size: int = 256,
    input_dropout: float = 0.0,
    rounds: int = 5,
    only: str = "",
) -> None:
    """Measure the cases whose names contain `only`, by default all, and report them."""
    plain = Layers(hidden=(hidden,), size=size, input_dropout=input_dropout)
    narrow = replace(plain, compute="bfloat16")
    cases: dict[str, tuple[MetricLearning, Placement]] = {
        "float32": (_task(plain), "device"),
        "float32, features from the host": (_task(plain), "host"),
        "bfloat16 layers, float32 mining": (_task(narrow), "device"),
        "bfloat16 layers and mining": (_task(narrow, SemiHard(operands="bfloat16")), "device"),
    }
    videos = max(VIDEOS, 3 * triplets)
    features, drawn = synthetic_features(videos), draw(triplets, videos)
    products = square_products(SQUARE)
    works, memory = dict(products), dict.fromkeys(products, 0)
    for name, (task, placement) in cases.items():
        if only not in name:
            continue
        feed = Triplets(batch_triplets=triplets, placement=placement)
        recipe = replace(cdml.recipe, task=task, feed=feed)
        works[name], memory[name] = updates(recipe, features, drawn)
    if importlib.util.find_spec("torch"):
        from experiments.benchmarks import step_peer

        name = "peer: PyTorch, product, float32"
        works[name] = products[name] = step_peer.square_product(SQUARE)
        memory[name] = 0
        for compute in ("float32", "bfloat16"):
            name = f"peer: PyTorch, {compute}"
            if only not in name:
                continue
            model = step_peer.LateFusion(WIDTHS, plain)
            works[name] = step_peer.updates(cdml.recipe, model, features, drawn, compute=compute)
            _, memory[name] = measure(works[name], repeats=2)
    seconds = in_rounds(works, rounds=rounds)

    arithmetic = operations(triplets, hidden, size) / (2 * SQUARE**3)
    amounts = {name: 1.0 if name in products else arithmetic for name in memory}
    rows = [against_products(n, seconds, amounts[n], peak_bytes=memory[n]) for n in memory]
    report("step" if triplets == 7200 else f"step-{triplets}", rows)


def operations(triplets: int, hidden: int, size: int) -> int:
    """Multiplications and additions of a step that nothing can leave out."""
    first = 2 * 3 * triplets * sum(WIDTHS.values()) * hidden
    second = 2 * 3 * triplets * len(WIDTHS) * hidden * size
    mining = 2 * triplets * 3 * triplets * size
    return 2 * first + 3 * second + mining


def synthetic_features(videos: int) -> dict[str, np.ndarray]:
    """Random uint8 features of YouTube-8M's widths."""
    random = np.random.default_rng(0)
    return {name: random.integers(0, 256, (videos, w), np.uint8) for name, w in WIDTHS.items()}


def draw(triplets: int, videos: int) -> dict[str, np.ndarray]:
    """A batch of different videos: every anchor's list holds itself, its positive and others."""
    random = np.random.default_rng(1)
    numbers = np.arange(triplets, dtype=np.int32)
    others = random.integers(0, 3 * triplets, (triplets, FORBIDDEN - 2), np.int32)
    own = np.stack([numbers + triplets, numbers + 2 * triplets], axis=1)
    slots = np.concatenate([own, others], axis=1)
    return {
        "rows": random.permutation(videos)[: 3 * triplets].astype(np.int32).reshape(3, triplets),
        "first": np.ones((3, triplets), bool),
        "negative_slot": numbers,
        "negative_allowed": ~np.any(slots == numbers[:, None], axis=1),
        "forbidden": np.stack([np.repeat(numbers, FORBIDDEN), slots.reshape(-1)]),
    }


def updates(
    recipe: Recipe, features: dict[str, np.ndarray], drawn: dict[str, np.ndarray]
) -> tuple[Callable[[], Any], int]:
    """A function that takes one more step of a run, and the bytes its program allocates."""
    mesh = meshes.make_mesh(recipe.mesh, jax.devices()[:1])
    batch: dict[str, Any] = dict(drawn)
    axes = TripletFeed.split_axes
    constants: Any = {}
    feed: Any = recipe.feed
    if feed.placement == "host":
        batch["features"] = {name: table[drawn["rows"]] for name, table in features.items()}
    with jax.set_mesh(mesh):
        if feed.placement == "device":
            placed = jax.tree.map(lambda table: meshes.place_rows(mesh, table), features)
            constants = {"features": placed, "present": {}}
        shape = state_shape(recipe, Spec(widths=WIDTHS), mesh)
        state = jax.jit(
            lambda: new_state(recipe, Spec(widths=WIDTHS), no_statistics(WIDTHS)),
            out_shardings=jax.tree.map(lambda leaf: leaf.sharding, shape),
        )()
        placed_batch = meshes.place_batch(mesh, batch, axes)
        program: Any = compile_update(recipe, shape, mesh)
        program = program.lower(state, constants, placed_batch).compile()

    def step() -> Any:
        nonlocal state
        state, measures = program(state, constants, meshes.place_batch(mesh, batch, axes))
        return measures

    return step, program.memory_analysis().temp_size_in_bytes


def no_statistics(widths: Mapping[str, int]) -> Statistics:
    """Means of zero and deviations of one: the work of standardising without its effect."""
    return {
        name: {"mean": np.zeros(width, np.float32), "deviation": np.ones(width, np.float32)}
        for name, width in widths.items()
    }


def _task(layers: Layers, miner: SemiHard | None = None) -> MetricLearning:
    return MetricLearning(model=LateFusion(layers=layers), miner=miner or SemiHard())


if __name__ == "__main__":
    tyro.cli(main)
