"""The closed form's pass: `python -m experiments.benchmarks.closed_form [--videos 1000000]`.

1,000,000 videos of 1,152 uint8 features with 10,000,000 random relations, in 1,024 steps, of which
a few are timed: all are alike. The limit is their arithmetic, one product a video and one a
relation, at the rate of a bare float32 product in the same rounds. The solve that follows, once a
run, is timed beside it. Two minutes on two cores, and 4 GB.

`--compile v5e:8x8 --parts 32` asks the TPU compiler instead what a step costs a chip of that slice;
it needs no TPU.
"""

import time
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import tyro

from experiments.benchmarks.bench import (
    Row,
    against_products,
    in_rounds,
    measure,
    report,
    square_products,
)
from experiments.benchmarks.clustering import drawn
from vidembed.corpora.watched import Corpus
from vidembed.distributed import mesh as meshes
from vidembed.engine.compiled_cost import Data, step_arguments, step_cost
from vidembed.engine.phases import open_feeds
from vidembed.engine.placing import Placer, place_constants
from vidembed.engine.recipe import Recipe
from vidembed.engine.slices import slice_devices
from vidembed.engine.step import compile_update, new_state, state_shape
from vidembed.feeds.whole_pass import WholePass
from vidembed.models.fusion import Layers, SingleModality
from vidembed.models.linear import projection
from vidembed.recipes.linear import recipe
from vidembed.records.table import FeatureTable
from vidembed.tasks.closed_form import ClosedForm

CASE, SOLVE = "a step of the pass", "the solve"


def main(
    *,
    videos: int = 1_000_000,
    relations: int = 10_000_000,
    features: int = 1_152,
    size: int = 256,
    parts: int = 1_024,
    rounds: int = 7,
    side: int = 2_048,
    compile: str = "",
) -> None:
    """Measure and report; smaller numbers are for trying the benchmark itself."""
    devices = slice_devices(compile) if compile else None
    corpus = imagined(videos, relations, features)
    model = SingleModality(layers=Layers(hidden=(), size=size))
    of = replace(recipe, task=ClosedForm(model=model), feed=WholePass(parts=parts), steps=parts)
    if devices:
        mesh = meshes.make_mesh(of.mesh, devices)
        cost = step_cost(of, step_arguments(of, Data(corpus), mesh), mesh)
        parts_of = (f"{name} {1e3 * s:.2f} ms" for name, s in cost.seconds().items() if s)
        print(f"{compile}, {parts:,} steps: {', '.join(parts_of)} a step, by the data sheet")
        return
    edges = corpus.train_graph.edges
    arithmetic = (videos + edges) / parts * features**2 / side**3
    step, state = stepping(of, corpus)
    seconds = in_rounds({CASE: step} | square_products(side), rounds=rounds)
    peak = measure(step, repeats=1)[1]
    row = against_products(CASE, seconds, arithmetic, peak_bytes=peak)
    row = replace(row, note=f"{videos:,} videos, {edges:,} relations, {parts:,} steps; {row.note}")
    sums = state()["sums"]
    rows, between = (np.asarray(sums[name], np.float64) for name in ("rows", "edges"))
    began = time.perf_counter()
    projection(rows, between + between.T, size=size)
    took = time.perf_counter() - began
    limit = row.limit_seconds * parts
    whole = f"once a run, whose whole pass has a limit of {limit:.1f} s"
    report("closed_form", [row, Row(case=SOLVE, seconds=took, limit_seconds=limit, note=whole)])


def imagined(videos: int, relations: int, features: int) -> Corpus:
    """Random features and relations, all of them to train on."""
    random = np.random.default_rng(0)
    table = FeatureTable(
        ids=np.arange(videos).astype("S9"),
        features={"visual": random.integers(0, 256, (videos, features), np.uint8)},
        label_offsets=np.zeros(videos + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )
    graph = drawn(videos, relations, 1.0)
    everybody = np.ones(videos, np.bool_)
    return Corpus(
        table=table, is_train=everybody, relations=graph, train_graph=graph, simulated=True
    )


def stepping(of: Recipe, corpus: Corpus) -> tuple[Any, Any]:
    """(a function that takes the next step and gives the sums, one that gives the state)."""
    [feed] = open_feeds(of, corpus)
    mesh = meshes.make_mesh(of.mesh)
    shape = state_shape(of, feed.spec, mesh)
    with jax.set_mesh(mesh):
        update = compile_update(of, shape, mesh)
        placer, constants = Placer.of(feed, mesh, steps=of.steps), place_constants(feed, mesh)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, shape)
        make = jax.jit(lambda given: new_state(of, feed.spec, given), out_shardings=shardings)
        whole = [make(feed.statistics()), 0]

    def step() -> Any:
        state, number = whole
        with jax.set_mesh(mesh):
            placed, _ = placer.place(feed.at(number % of.steps))
            whole[:] = update(state, constants, placed)[0], number + 1
        return whole[0]["state"]["sums"]

    return step, lambda: whole[0]["state"]


if __name__ == "__main__":
    tyro.cli(main)
