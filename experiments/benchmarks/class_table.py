"""A table of a million classes over the model axis: `python -m experiments.benchmarks.class_table`.

One update of ClusterLabels (gradient, Adam, norms), 512 videos against 1,024 of a million classes
of 256 numbers, on 1, 2, 4 and 8 devices along the model axis. Bytes are those of the compiled
program for one device: its arguments (parameters, Adam's two averages, a table of 10,000 videos,
batch), and the temporaries on top, which are the gradient and, on CPUs, its squares for the norm.
"Largest sent" is the largest array that is summed over devices, gathered or scattered: the vectors
of the classes at hand, never the table or its gradient. Devices are simulated and share one
machine's cores, so that seconds show that it runs, and not how it scales. 7 GB of memory, two
minutes on two cores; `--rounds 0` compiles only.
"""

import sys
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments.benchmarks.step import WIDTHS, no_statistics
from vidembed.distributed import mesh as meshes
from vidembed.distributed.exchange import Exchanger
from vidembed.engine.compiled_cost import compiled_update, step_arguments
from vidembed.engine.compiled_text import array_bytes, read_program
from vidembed.engine.imagined import Imagined, Rows, imagined_data
from vidembed.engine.recipe import Recipe
from vidembed.engine.step import new_state
from vidembed.feeds.labelled import LabelledFeed, LabelledVideos
from vidembed.losses.softmax import SampledSoftmax
from vidembed.models.fusion import LateFusion, Layers
from vidembed.tasks.cluster_labels import ClusterLabels
from vidembed.tasks.spec import Spec

TABLE_VIDEOS = 10_000


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """What a compiled update says of one device."""

    arguments: int
    temporaries: int
    largest_sent: int
    """The largest array that is summed over devices, gathered or scattered."""


def sizes(program: Any) -> Bytes:
    """Bytes of one device, from the compiler's analysis and its program's text."""
    analysis, text = program.memory_analysis(), program.as_text()
    sent = (
        array_bytes(each.operands) * each.bytes // each.put
        for each in read_program(text).collectives
    )
    return Bytes(
        arguments=analysis.argument_size_in_bytes,
        temporaries=analysis.temp_size_in_bytes,
        largest_sent=max(sent, default=0),
    )


def compiled(recipe: Any, classes: int, mesh: Any, widths: dict[str, int] = WIDTHS) -> Any:
    """(arguments, compiled update) of a recipe whose feed would label with so many classes."""
    shapes = {name: (TABLE_VIDEOS, width) for name, width in widths.items()}
    features = {name: np.broadcast_to(np.uint8(0), shape) for name, shape in shapes.items()}
    data = imagined_data(recipe, Rows(features, {}), Imagined(classes=classes))
    arguments = step_arguments(recipe, data, mesh)
    return arguments, compiled_update(recipe, arguments, mesh)


def seconds_a_step(
    recipe: Any, classes: int, mesh: Any, shapes: Any, program: Any, rounds: int
) -> tuple[float, list[float]]:
    """(best time of `rounds` updates after a first, losses), from random features and labels."""
    random = np.random.default_rng(0)
    widths = {name: part.shape[1] for name, part in shapes.constants["features"].items()}
    batch = {
        "rows": random.integers(0, TABLE_VIDEOS, recipe.feed.examples, np.int32),
        "labels": random.integers(0, classes, recipe.feed.examples, np.int32),
    }
    with jax.set_mesh(mesh):
        features = {
            name: meshes.place_rows(mesh, random.integers(0, 256, (TABLE_VIDEOS, width), np.uint8))
            for name, width in widths.items()
        }
        constants = {"features": features, "present": {}}
        state = jax.jit(
            lambda: new_state(recipe, Spec(widths=widths, classes=classes), no_statistics(widths)),
            out_shardings=jax.tree.map(lambda leaf: leaf.sharding, shapes.state),
        )()
        placed = meshes.place_batch(mesh, batch, LabelledFeed.split_axes)
        if exchange := shapes.batch.get("exchange"):
            devices, _, capacity = exchange.send.shape
            part = -(-TABLE_VIDEOS // devices)
            plan = Exchanger(devices=devices, part=part, capacity=capacity).plan(batch["rows"])
            assert plan is not None, f"random rows exceed the capacity of {capacity}"
            placed["exchange"] = meshes.place_exchange(mesh, plan)
        seconds, losses = [], []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            state, measures = program(state, constants, placed)
            losses.append(float(measures["loss"]))
            jax.block_until_ready(state)
            seconds.append(time.perf_counter() - began)
    return min(seconds[1:]), losses


def main(
    *,
    classes: int = 1_000_000,
    size: int = 256,
    hidden: int = 512,
    videos: int = 512,
    samples: int = 1024,
    models: tuple[int, ...] = (1, 2, 4, 8),
    rounds: int = 3,
) -> None:
    """Print bytes a device and seconds a step for each size of the model axis."""
    task = ClusterLabels(
        model=LateFusion(layers=Layers(hidden=(hidden,), size=size)),
        loss=SampledSoftmax(samples=samples),
    )
    recipe = Recipe(task=task, feed=LabelledVideos(batch_videos=videos))
    title = f"{classes:,} classes × {size}, {videos} videos, {samples} samples"
    headings = ("model axis", "arguments", "temporaries", "together", "largest sent", "s a step")
    table = Table(*headings, title=title, box=None)
    for model in models:
        mesh = meshes.make_mesh(meshes.MeshShape(model=model), jax.devices()[:model])
        shapes, program = compiled(recipe, classes, mesh)
        found = sizes(program)
        took = "not run"
        if rounds:
            seconds, losses = seconds_a_step(recipe, classes, mesh, shapes, program, rounds)
            took = f"{seconds:.2f}, loss {losses[0]:.3f} to {losses[-1]:.3f}"
        together = found.arguments + found.temporaries
        parts = (found.arguments, found.temporaries, together, found.largest_sent)
        table.add_row(str(model), *(f"{part / 1e6:,.1f} MB" for part in parts), took)
    Console(width=120).print(table)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    sys.exit(tyro.cli(main))
