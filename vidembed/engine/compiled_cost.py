"""What a step costs one device, asked of the compiler; nothing is run.

The update of a recipe is compiled for a mesh, of the devices here or of a slice that is not there,
from the shapes of what it would be called with.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any, NamedTuple

import jax

from vidembed.distributed import mesh as meshes
from vidembed.engine.chips import Chip, chip_of
from vidembed.engine.compiled_text import Collective, read_program
from vidembed.engine.imagined import Data
from vidembed.engine.recipe import Recipe
from vidembed.engine.step import Placer, State, compile_update, refuse_uneven_batch, state_shape
from vidembed.records.rows import resident_rows


class Arguments(NamedTuple):
    """The arguments of the compiled update, as shapes with shardings."""

    state: State
    constants: dict[str, Any]
    batch: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """One update on one device. Bytes and operations are the compiler's, but where it says so."""

    mesh: Mapping[str, int]
    """Axis → devices along it."""
    device_kind: str
    """As JAX names it."""
    examples: int
    """Of the whole batch."""
    arguments: Mapping[str, int]
    """Bytes of the state, of the constants (the table) and of the batch."""
    temporaries: int
    """Bytes at the peak, on top of the arguments. Results take the place of arguments."""
    operations: float
    """Of all kinds; the products in loops are counted as often as they run."""
    products: Mapping[str, float]
    """Operand dtype → operations of matrix products, as often as they run."""
    traffic: float
    """Bytes that operations read and write. The body of a loop is counted once, and arrays that
    stay on the chip count as well as those in its memory, of which it is therefore the most."""
    collectives: tuple[Collective, ...]
    unknown_loops: int
    """Loops of unknown length, whose bodies are counted once."""
    library_products: int = 0
    """Products that are calls of a library, as on GPUs: they are not counted."""
    compile_seconds: float
    """Of processor time, which other work on the machine does not change."""

    @property
    def devices(self) -> int:
        """Of the mesh."""
        return prod(self.mesh.values())

    @property
    def memory(self) -> int:
        """Bytes of device memory in all."""
        return sum(self.arguments.values()) + self.temporaries

    @property
    def sent(self) -> float:
        """Bytes that the device sends, around rings."""
        return sum(collective.sent for collective in self.collectives)

    @property
    def chip(self) -> Chip | None:
        """The data sheet; None if there is none, as for CPUs."""
        return chip_of(self.device_kind)

    def seconds(self) -> dict[str, float]:
        """Seconds by the data sheet, at its full rates; {} without one. Not measured."""
        if self.chip is None:
            return {}
        rates = {"float32": self.chip.float32, "bfloat16": self.chip.bfloat16}
        products = sum(flop / rates[dtype] for dtype, flop in self.products.items())
        return ({} if self.library_products else {"products": products}) | {
            "memory": self.traffic / self.chip.memory_rate,
            "links": self.sent / self.chip.sending_rate(self.devices),
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `from_json` takes them."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "StepCost":
        """The cost that `to_json` gave, after JSON has made lists of tuples."""
        collectives = tuple(Collective(**each) for each in data["collectives"])
        return StepCost(**{**data, "collectives": collectives})


def step_cost(recipe: Recipe, arguments: Arguments, mesh: jax.sharding.Mesh) -> StepCost:
    """Compiles the update for `step_arguments` on the same mesh, and reads what it costs.

    Raises ValueError if the step does not fit into the memory of its devices.
    """
    began = time.process_time()
    try:
        compiled = compiled_update(recipe, arguments, mesh)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).partition("RESOURCE_EXHAUSTED: ")[2].splitlines()[0]
        raise ValueError(
            f"the step does not fit on {mesh.size} devices: {reason} Choose a smaller "
            f"--feed.batch-{recipe.feed.unit}, --feed.placement host, or more devices"
        ) from error
    return read_cost(recipe, arguments, mesh, compiled, time.process_time() - began)


def read_cost(
    recipe: Recipe,
    arguments: Arguments,
    mesh: jax.sharding.Mesh,
    compiled: Any,
    compile_seconds: float,
) -> StepCost:
    """What a `compiled_update` costs."""
    memory, counts = compiled.memory_analysis(), compiled.cost_analysis()
    program = read_program(compiled.as_text())
    repeated = sum(program.products.values()) - program.products_once
    return StepCost(
        mesh=dict(mesh.shape),
        device_kind=mesh.devices.flat[0].device_kind,
        examples=recipe.feed.examples,
        arguments={name: device_bytes(part) for name, part in arguments._asdict().items()},
        temporaries=memory.temp_size_in_bytes,
        operations=counts["flops"] + repeated,
        products=program.products,
        traffic=counts["bytes accessed"],
        collectives=program.collectives,
        unknown_loops=program.unknown_loops,
        library_products=program.library_products,
        compile_seconds=compile_seconds,
    )


def compiled_update(recipe: Recipe, arguments: Arguments, mesh: jax.sharding.Mesh) -> Any:
    """The update as an executable of the mesh."""
    # Where the devices are not there, nothing may run while the mesh is set.
    with jax.set_mesh(mesh):
        update: Any = compile_update(recipe, arguments.state, mesh)
        return update.lower(*arguments).compile()


def step_arguments(recipe: Recipe, data: Data, mesh: Any) -> Arguments:
    """What the update is called with on this mesh, as training would place it."""
    refuse_uneven_batch(recipe, mesh.size)
    return Arguments(
        state=state_shape(recipe, data.spec, mesh),
        constants=_constants(recipe, data, mesh),
        batch=_batch(recipe, data, mesh),
    )


def _constants(recipe: Recipe, data: Data, mesh: Any) -> dict[str, Any]:
    """As `step.place_constants` lays them out: rows padded to divide over all devices."""
    if recipe.feed.placement == "host":
        return {}
    sharding = meshes.shardings(mesh, meshes.everywhere_spec(0))

    def placed(array: Any) -> jax.ShapeDtypeStruct:
        rows = -(-len(array) // mesh.size) * mesh.size
        return jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype, sharding=sharding)

    whole: dict[str, Any] = jax.tree.map(placed, resident_rows(data.rows, recipe.task.reads))
    return whole


def _batch(recipe: Recipe, data: Data, mesh: Any) -> dict[str, Any]:
    """The first batch, as the training loop places it."""
    feed = recipe.feed.open(data.corpus, seed=recipe.seed)
    batch = feed.at(0)
    layout = meshes.batch_shardings(mesh, batch, feed.split_axes)
    exchanger = Placer.of(recipe, feed, len(data.corpus.table), mesh).exchanger
    # Never None for batch 0: the exchange is sized to hold it.
    if exchanger and (plan := exchanger.plan(batch["rows"])):
        batch["exchange"] = plan
        layout["exchange"] = meshes.shardings(mesh, meshes.exchange_specs(plan.take.ndim))
    shaped: dict[str, Any] = jax.tree.map(
        lambda array, sharding: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding),
        batch,
        layout,
    )
    return shaped


def device_bytes(shapes: Any) -> int:
    """Bytes of a pytree of shapes that one device holds."""

    def bytes_of(leaf: Any) -> int:
        itemsize: int = leaf.dtype.itemsize
        return itemsize * prod(leaf.sharding.shard_shape(leaf.shape))

    return sum(map(bytes_of, jax.tree.leaves(shapes)))


def dividing(recipe: Recipe, devices: int) -> Recipe:
    """The recipe with the nearest batch that divides over so many devices; of two the smaller."""
    examples = recipe.feed.examples
    nearest = max(1, -((devices - 2 * examples) // (2 * devices))) * devices
    field = f"batch_{recipe.feed.unit}"
    feed: Any = replace(recipe.feed, **{field: nearest})  # type: ignore[arg-type]
    return replace(recipe, feed=feed)
