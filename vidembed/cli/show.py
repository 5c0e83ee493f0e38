"""Show a resolved recipe: its fields, and the cost of a step, here or on TPU slices."""

import json
from collections.abc import Iterable, Mapping, Sequence

import jax
from rich.console import Console
from rich.table import Table

from vidembed.cli.imagined import Imagined, Known, known_data
from vidembed.distributed import mesh as meshes
from vidembed.engine.compiled_cost import StepCost, dividing, step_arguments, step_cost
from vidembed.engine.pace import Pace
from vidembed.engine.passes import Lengths
from vidembed.engine.phases import open_feeds
from vidembed.engine.recipe import Recipe
from vidembed.engine.slices import slice_devices
from vidembed.engine.step import state_shape
from vidembed.progress import Progress, as_bytes

WIDTH = 160
"""Columns of the output, also without a terminal: the tables do not fit 80."""
SMALL_BYTES = 1e5
"""Collectives that send less are summarised in one line."""
DATA_SHEET = "from the data sheet, at peak rates; not measured"
NO_DATA_SHEET = "no times are given: vidembed has no data sheet for this device"


def show(
    recipe: Recipe,
    slices: Sequence[str] = (),
    imagined: Imagined | None = None,
    lengths: Lengths | None = None,
) -> None:
    """Prints the recipe as JSON, and the cost of a step on each named TPU slice, or else here.

    Raises ValueError before printing anything if a slice is unknown or the recipe is invalid.
    """
    places = {name: slice_devices(name) for name in slices} or _here(recipe)
    known = known_data(recipe, imagined or Imagined())
    recipe, words = _in_steps(recipe, lengths or Lengths(), known)
    data, feeds = known.data, open_feeds(recipe, known.data.corpus)
    console, progress = Console(width=WIDTH, highlight=False), Progress()
    fitted = {
        name: dividing(recipe, len(devices)) if slices else recipe
        for name, devices in places.items()
    }
    grids = {name: meshes.make_mesh(recipe.mesh, devices) for name, devices in places.items()}
    arguments = {name: step_arguments(fitted[name], data, mesh) for name, mesh in grids.items()}
    console.print_json(json.dumps(recipe.to_json()))
    console.print(f"data: {known.source}", markup=False)
    if words:
        console.print(words, markup=False)
    single = meshes.imagined_mesh(meshes.MeshShape(), 1)
    parameters = state_shape(recipe, data.spec or feeds[0].spec, single)["parameters"].values()
    console.print(f"parameters: {sum(leaf.size for leaf in parameters):,}")
    if not known.imagined:
        console.print("\n".join(Pace(recipe, feeds).describe()))
    for name, compiled in fitted.items():
        if compiled != recipe:
            unit, examples = recipe.feed.unit, compiled.feed.examples
            console.print(
                f"{name}: {recipe.feed.examples:,} {unit} cannot be divided evenly over "
                f"{grids[name].size} chips; compiled with {examples:,} "
                f"(--feed.batch-{unit} {examples})"
            )
    costs: dict[str, StepCost] = {}
    for name, mesh in grids.items():
        with progress.stage(f"compiling a step for {name}"):
            costs[name] = step_cost(fitted[name], arguments[name], mesh)
    if costs:
        console.print(_table(cost_lines(recipe, costs)))
    else:
        shape = recipe.mesh
        console.print(
            f"not compiled: mesh data {shape.data} × model {shape.model} does not match the "
            f"{jax.device_count()} devices here; name TPU slices to compile for with --compile"
        )
    for name, cost in costs.items():
        for line in collective_lines(cost):
            console.print(f"{name}: {line}", markup=False)
    if known.host:
        console.print(_table(_host_lines(known.host, costs)))


def _in_steps(recipe: Recipe, lengths: Lengths, known: Known) -> tuple[Recipe, str]:
    """The recipe with lengths in steps, as far as the data is known, and what to say of them."""
    if not lengths.given:
        return recipe, ""
    if known.imagined and not known.whole:
        unknown = ", ".join(f"{name} {value:g}" for name, value in lengths.given.items())
        return recipe, f"how many steps these are is known only with the data: {unknown}"
    recipe, words = lengths.in_steps(recipe, known.data.corpus)
    return recipe, f"{words} (IMAGINED: with your data, other steps)" if known.imagined else words


def _here(recipe: Recipe) -> dict[str, list[jax.Device]]:
    """The devices of this machine; {} if their number does not match the recipe's mesh."""
    devices, shape = jax.devices(), recipe.mesh
    fits = len(devices) % shape.model == 0 if shape.data == -1 else False
    if fits or shape.data * shape.model == len(devices):
        return {f"{len(devices)} × {devices[0].device_kind}": devices}
    return {}


def cost_lines(recipe: Recipe, costs: dict[str, StepCost]) -> list[tuple[str, ...]]:
    """Rows of the cost table: a name, then one text per slice."""
    each = list(costs.values())
    dtypes = dict.fromkeys(dtype for cost in each for dtype in cost.products)
    chips = (f" of {as_bytes(cost.chip.memory)}" if cost.chip else "" for cost in each)
    lines: list[tuple[str, ...]] = [
        ("one step, per device", *costs),
        (recipe.feed.unit, *(f"{cost.examples:,}" for cost in each)),
        ("mesh", *(" × ".join(f"{axis} {n}" for axis, n in cost.mesh.items()) for cost in each)),
        ("memory", *("" for _ in each)),
    ]
    names = {"state": "parameters, optimiser", "constants": "share of the table", "batch": "batch"}
    for part, name in names.items():
        lines.append((f"  {name}", *(as_bytes(cost.arguments[part]) for cost in each)))
    lines += [
        ("  temporaries", *(as_bytes(cost.temporaries) for cost in each)),
        ("  in all", *(as_bytes(cost.memory) + of for cost, of in zip(each, chips))),
        ("operations", *(_giga(cost.operations) for cost in each)),
        *((f"  products of {d}", *(_giga(c.products.get(d, 0)) for c in each)) for d in dtypes),
        ("read and written, on-chip included", *(as_bytes(cost.traffic) for cost in each)),
        ("sent to other devices", *(as_bytes(cost.sent) for cost in each)),
    ]
    if any(cost.chip for cost in each):
        lines.append((DATA_SHEET, *("" for _ in each)))
        bounds = {"products": "products", "memory": "memory, at most", "links": "links"}
        for name, bound in bounds.items():
            texts = (_milliseconds(cost.seconds().get(name)) for cost in each)
            lines.append((f"  {bound}", *texts))
    else:
        lines.append((NO_DATA_SHEET, *("" for _ in each)))
    return lines


def collective_lines(cost: StepCost) -> list[str]:
    """One line per collective, largest first, and what the counts leave out."""
    lines = []
    for each in cost.collectives:
        if each.sent < SMALL_BYTES:
            continue
        rate = cost.chip.sending_rate(each.devices) if cost.chip else 0
        time = f", {_milliseconds(each.sent / rate)} by the data sheet" if rate else ""
        loops = f", {each.times} times" if each.times > 1 else ""
        overlap = "asynchronous" if each.asynchronous else "synchronous"
        lines.append(
            f"{each.kind} of {each.operands} among {each.devices} devices: "
            f"{as_bytes(each.bytes)}{loops}, sends {as_bytes(each.sent)}{time}, {overlap}"
        )
    small = [each for each in cost.collectives if each.sent < SMALL_BYTES]
    if small:
        sent = as_bytes(sum(each.sent for each in small))
        lines.append(f"smaller collectives: {len(small)}, sending {sent} in total")
    if not cost.collectives:
        lines.append("nothing is sent between devices")
    if cost.library_products:
        lines.append(f"{cost.library_products} products are library calls and are not counted")
    if cost.unknown_loops:
        lines.append(f"loops of unknown length, counted as one iteration: {cost.unknown_loops}")
    return lines


def _host_lines(parts: Mapping[str, float], costs: Mapping[str, StepCost]) -> list[tuple[str, ...]]:
    chips = {cost.chip.host_memory for cost in costs.values() if cost.chip}
    of = ", ".join(as_bytes(memory) for memory in sorted(chips))
    return [
        ("memory per host", ""),
        *((f"  {name}", as_bytes(count)) for name, count in parts.items()),
        ("  in all", as_bytes(sum(parts.values())) + (f" of {of}" if of else "")),
    ]


def _table(lines: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=None, show_header=False)
    for line in lines:
        table.add_row(*line)
    return table


def _giga(operations: float) -> str:
    return f"{operations / 1e9:,.1f} GFLOP"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:,.3f} ms"
