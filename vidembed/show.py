"""What a recipe comes to: parameters, bytes on each device, bytes and operations of a step."""

import json

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from vidembed import mesh as meshes
from vidembed.recipe import Recipe
from vidembed.records.table import FeatureTable
from vidembed.step import State, state_shape
from vidembed.tasks.metric_learning import GROUPS

YOUTUBE_8M_WIDTHS = {"visual": 1024, "audio": 128}


def show(recipe: Recipe) -> None:
    """Prints the recipe as JSON and a table of what it costs."""
    console = Console(soft_wrap=True, highlight=False)
    console.print_json(json.dumps(recipe.to_json()))
    table = Table(box=None, show_header=False)
    for name, value in costs(recipe).items():
        table.add_row(name, value)
    console.print(table)


def costs(recipe: Recipe) -> dict[str, str]:
    """Line → text. Sizes are those of the corpus where the recipe names one, else YouTube-8M's."""
    mesh = meshes.make_mesh(recipe.mesh)
    if recipe.corpus.table:
        opened = FeatureTable.open(recipe.corpus.table, verify=False)
        widths, videos, source = opened.widths, len(opened), recipe.corpus.table
        row_bytes = sum(a.shape[1] * a.dtype.itemsize for a in opened.features.values())
    else:
        widths, videos, source = YOUTUBE_8M_WIDTHS, 0, "none given: YouTube-8M's widths, uint8"
        row_bytes = sum(widths.values())
    shape = state_shape(recipe, widths, mesh)
    triplets = recipe.feed.batch_triplets
    products = 2 * 3 * triplets * kernel_entries(shape)
    first = 2 * 3 * triplets * first_kernel_entries(shape)
    size = recipe.task.model.layers.size
    pool = GROUPS[recipe.task.pool] * triplets
    mining = 2 * triplets * pool * size
    lines = {
        "corpus": source,
        "mesh": f"data {mesh.shape[meshes.DATA]} × model {mesh.shape[meshes.MODEL]}",
        "parameters": f"{sum(leaf.size for leaf in shape['parameters'].values()):,}",
        "state a device": _bytes(state_bytes(shape)),
        "videos a batch": f"{3 * triplets:,} (anchors, positives, negatives)",
        "batch as row numbers": _bytes(3 * triplets * 4),
        "batch as stored features": _bytes(3 * triplets * row_bytes),
        "products a step": f"{(3 * products - first) / 1e9:,.1f} GFLOP (no gradient of the inputs)",
        "mining a step": f"{mining / 1e9:,.1f} GFLOP ({triplets:,} × {pool:,} × {size})",
    }
    if videos:
        lines["table"] = f"{videos:,} videos, {_bytes(videos * row_bytes)}"
        if recipe.feed.placement == "device":
            lines["table a device"] = _bytes(-(-videos // mesh.size) * row_bytes)
    return lines


def state_bytes(shape: State) -> int:
    """Bytes of parameters, optimiser and state that one device holds."""
    return sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape), dtype=np.int64)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(shape)
    )


def kernel_entries(shape: State) -> int:
    """Entries of all kernels: multiplications for one video."""
    return sum(s.size for name, s in shape["parameters"].items() if name.endswith("/kernel"))


def first_kernel_entries(shape: State) -> int:
    """Entries of the kernels that read features, whose inputs need no gradient."""
    return sum(
        s.size for name, s in shape["parameters"].items() if name.endswith("layers/0/kernel")
    )


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"
