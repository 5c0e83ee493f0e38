"""Estimate the cost of a step per device with the compiler, without running it.

The update of a recipe is compiled from the shapes of its arguments, for a mesh of the local devices
or of a slice that need not exist.
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
from vidembed.engine.phases import open_feeds
from vidembed.engine.placing import Placer
from vidembed.engine.recipe import Recipe
from vidembed.engine.step import State, compile_update, refuse_uneven_batch, state_shape


class Data(NamedTuple):
    """The data that, with the recipe, determine the shapes of a step."""

    corpus: Any
    """The corpus to open feeds on."""
    spec: Any = None
    """Sizes of the full data if the corpus is only a stand-in; None: the feed's."""
    resident: Any = None
    """Arrays without content that replace the feed's resident ones; None: the feed's."""


class Arguments(NamedTuple):
    """The arguments of the compiled update, as shapes with shardings."""

    state: State
    constants: dict[str, Any]
    batch: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """The cost of one update on one device. Bytes and operations come from the compiler, except
    where noted."""

    mesh: Mapping[str, int]
    """Axis → devices along it."""
    device_kind: str
    """JAX's name of the device."""
    examples: int
    """Examples in the whole batch."""
    arguments: Mapping[str, int]
    """Bytes of the state, of the constants (the table) and of the batch."""
    temporaries: int
    """Peak bytes besides the arguments. Results reuse the memory of arguments."""
    operations: float
    """Operations of all kinds; products in loops are counted once per iteration."""
    products: Mapping[str, float]
    """Operand dtype → operations of matrix products, counted once per iteration."""
    traffic: float
    """Bytes that operations read and write: an upper bound of memory traffic, because it includes
    arrays that stay on the chip. The body of a loop is counted once."""
    collectives: tuple[Collective, ...]
    unknown_loops: int
    """Loops of unknown length, whose bodies are counted once."""
    library_products: int = 0
    """Products that are library calls, as on GPUs: they are not counted."""
    compile_seconds: float
    """Processor time, so that other work on the machine does not affect it."""

    @property
    def devices(self) -> int:
        """Devices of the mesh."""
        return prod(self.mesh.values())

    @property
    def memory(self) -> int:
        """Total bytes of device memory."""
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
        """Seconds at the peak rates of the data sheet; {} without one. Not measured."""
        if self.chip is None:
            return {}
        rates = {"float32": self.chip.float32, "bfloat16": self.chip.bfloat16}
        products = sum(flop / rates[dtype] for dtype, flop in self.products.items())
        return ({} if self.library_products else {"products": products}) | {
            "memory": self.traffic / self.chip.memory_rate,
            "links": self.sent / self.chip.sending_rate(self.devices),
        }

    def to_json(self) -> dict[str, Any]:
        """The cost as plain values for `from_json`."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "StepCost":
        """The inverse of `to_json`, also after JSON has turned tuples into lists."""
        collectives = tuple(Collective(**each) for each in data["collectives"])
        return StepCost(**{**data, "collectives": collectives})


def step_cost(recipe: Recipe, arguments: Arguments, mesh: jax.sharding.Mesh) -> StepCost:
    """Compiles the update for `step_arguments` on the same mesh, and reads its cost.

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
    """The cost of a `compiled_update`."""
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
    """The update as an executable for the mesh."""
    # If the devices do not exist, nothing may run while the mesh is set.
    with jax.set_mesh(mesh):
        update: Any = compile_update(recipe, arguments.state, mesh)
        return update.lower(*arguments).compile()


def step_arguments(recipe: Recipe, data: Data, mesh: Any) -> Arguments:
    """The arguments of the update on this mesh, placed as in training."""
    refuse_uneven_batch(recipe, mesh.size)
    feed = open_feeds(recipe, data.corpus)[0]
    resident = feed.resident()
    return Arguments(
        state=state_shape(recipe, data.spec or feed.spec, mesh),
        constants=_constants(data.resident if data.resident and resident else resident, mesh),
        batch=_batch(recipe, feed, mesh),
    )


def _constants(resident: Any, mesh: Any) -> dict[str, Any]:
    """The layout of `placing.place_constants`: rows padded to divide over all devices."""
    sharding = meshes.shardings(mesh, meshes.everywhere_spec(0))

    def placed(array: Any) -> jax.ShapeDtypeStruct:
        rows = -(-len(array) // mesh.size) * mesh.size
        return jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype, sharding=sharding)

    whole: dict[str, Any] = jax.tree.map(placed, resident)
    return whole


def _batch(recipe: Recipe, feed: Any, mesh: Any) -> dict[str, Any]:
    """The first batch, as the training loop places it."""
    batch = feed.at(0)
    layout = meshes.batch_shardings(mesh, batch, feed.split_axes)
    exchanger = Placer.of(feed, mesh, steps=recipe.steps).exchanger
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
    """The recipe with the nearest batch size that divides over `devices`; of two the smaller."""
    examples = recipe.feed.examples
    nearest = max(1, -((devices - 2 * examples) // (2 * devices))) * devices
    field = f"batch_{recipe.feed.unit}"
    feed: Any = recipe.feed
    return replace(recipe, feed=replace(feed, **{field: nearest}))
