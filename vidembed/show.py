"""What a recipe comes to: parameters, bytes on each device, bytes and operations of a step."""

import json
from collections.abc import Iterable, Mapping, Sequence

import jax
from rich.console import Console
from rich.table import Table

from vidembed import mesh as meshes
from vidembed.chips import CHIPS
from vidembed.passes import Passes
from vidembed.recipe import Recipe
from vidembed.records.table import FeatureTable
from vidembed.scale import Estimate, Scale
from vidembed.step_cost import Rows, device_bytes, imagined_rows, step_shapes

YOUTUBE_8M_WIDTHS = {"visual": 1024, "audio": 128}
Line = tuple[str, ...]
WIDTH = 160
"""Columns of the output, in a terminal or not: a table that is cut to 80 says nothing."""
ESTIMATE = (
    "Memory and network follow from shapes; times are estimates from data-sheet rates at "
    "{utilisation:.0%} of the products' peak, not measurements, and leave out latency."
)


def show(recipe: Recipe, scale: Scale = Scale()) -> None:  # noqa: B008 - a frozen value
    """Prints the recipe as JSON and a table of what it costs, here or on `scale.chips`."""
    console = Console(width=WIDTH, highlight=False)
    # What is refused is refused before anything is shown.
    if not scale.chips:
        lines = costs(recipe, scale)
        console.print_json(json.dumps(recipe.to_json()))
        console.print(_table(lines.items()))
        return
    rows, source = _rows(recipe, scale)
    estimates = [Estimate.of(recipe, rows, scale, chips) for chips in scale.chips]
    console.print_json(json.dumps(recipe.to_json()))
    console.print(f"corpus: {source}\n{ESTIMATE.format(utilisation=scale.utilisation)}")
    console.print(_table(_lines(estimates, scale)))
    for estimate in estimates:
        for limit in estimate.limits():
            console.print(f"{estimate.chips:,} × {scale.chip}: {limit}")


def costs(recipe: Recipe, scale: Scale = Scale()) -> dict[str, str]:  # noqa: B008
    """Line → text, on the mesh that the recipe names, here or not; on the devices here where it
    leaves their number open. Sizes are those of the corpus where it names one, else YouTube-8M's.
    """
    shape = recipe.mesh
    devices = jax.device_count() if shape.data == -1 else shape.data * shape.model
    mesh = meshes.imagined_mesh(shape, devices)
    rows, source = _rows(recipe, scale)
    shapes = step_shapes(recipe, rows, mesh, forbidden=scale.forbidden, classes=scale.classes)
    arithmetic = recipe.task.arithmetic(shapes.state["parameters"], shapes.constants, shapes.batch)
    lines = {
        "corpus": source,
        "mesh": f"data {mesh.shape[meshes.DATA]} × model {mesh.shape[meshes.MODEL]}",
        "parameters": f"{sum(leaf.size for leaf in shapes.state['parameters'].values()):,}",
        "state a device": _bytes(device_bytes(shapes.state)),
    }
    for name, leaf in shapes.batch.items():
        lines[f"batch: {name}"] = _bytes(
            sum(part.size * part.dtype.itemsize for part in jax.tree.leaves(leaf))
        )
    for name, product in arithmetic.products.items():
        lines[f"{name} a step"] = f"{product.flop / 1e9:,.1f} GFLOP ({product.note})"
    if recipe.corpus.table and recipe.corpus.edges:
        lines["passes"] = Passes.of(recipe, recipe.corpus.open()).describe(recipe.steps)
    if shapes.constants:
        lines["table a device"] = _bytes(device_bytes(shapes.constants))
    return lines


def _rows(recipe: Recipe, scale: Scale) -> tuple[Rows, str]:
    if recipe.corpus.table:
        opened = FeatureTable.open(recipe.corpus.table, verify=False)
        return Rows(
            opened.features, opened.present
        ), f"{recipe.corpus.table}, {len(opened):,} videos"
    videos = int(scale.videos)
    source = f"none given: {videos:,} videos of YouTube-8M's widths, uint8"
    return imagined_rows(YOUTUBE_8M_WIDTHS, videos), source


def _lines(estimates: list[Estimate], scale: Scale) -> list[Line]:
    """A name and a text for each estimate."""
    chip = CHIPS[scale.chip]
    lines: list[Line] = [("", *(f"{e.chips:,} × {scale.chip}" for e in estimates))]

    def add(title: str, parts: Sequence[Mapping[str, float]], total: str, of: str = "") -> None:
        lines.append((title, *("" for _ in parts)))
        for name in parts[0]:
            lines.append((f"  {name}", *(_bytes(part[name]) for part in parts)))
        lines.append((f"  {total}", *(_bytes(sum(part.values())) + of for part in parts)))

    add("memory of a chip", [e.memory for e in estimates], "in all", f" of {_bytes(chip.memory)}")
    lines.append(("  the largest that passes is", *(e.passing for e in estimates)))
    sent = [{n: m.sent for n, m in e.messages.items()} for e in estimates]
    add("sent by a chip in a step", sent, "in all")
    lines.append(("products of a chip in a step", *("" for _ in estimates)))
    lines += [
        (f"  {name}", *(f"{e.products[name] / 1e9:,.1f} GFLOP" for e in estimates))
        for name in estimates[0].products
    ]
    lines.append(("time of a step (estimate)", *("" for _ in estimates)))
    lines += [
        (f"  {name}", *(_milliseconds(e.seconds[name]) for e in estimates))
        for name in estimates[0].seconds
    ]
    together = (_milliseconds(max(e.seconds.values())) for e in estimates)
    in_turn = (_milliseconds(sum(e.seconds.values())) for e in estimates)
    lines += [("  if all overlap", *together), ("  if one after another", *in_turn)]
    of_host = f" of {_bytes(chip.host_memory)}"
    add("memory of every host", [e.host for e in estimates], "in all", of_host)
    return lines


def _table(lines: Iterable[Line]) -> Table:
    table = Table(box=None, show_header=False)
    for line in lines:
        table.add_row(*line)
    return table


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.3f} ms"


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f} bytes"
