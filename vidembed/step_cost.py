"""What a step costs a device: memory, messages, traffic; from shapes alone, without running it.

Shapes and shardings are those of what is compiled, and the sums are compared with what the compiler
makes of them in tests/test_step_cost.py.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from vidembed import mesh as meshes
from vidembed.recipe import Recipe
from vidembed.step import State, refuse_uneven_batch, state_shape
from vidembed.tasks.arithmetic import Arithmetic, Message
from vidembed.tasks.spec import Spec

UPDATE = "parameters and update"
"""What each step moves however small its batch is."""


class Rows(NamedTuple):
    """The arrays of a feature table as shapes: what a task's `resident` looks at."""

    features: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]

    @property
    def row_bytes(self) -> int:
        """Bytes of a video's features."""
        return sum(a.shape[1] * a.dtype.itemsize for a in self.features.values())

    @property
    def videos(self) -> int:
        """N."""
        return len(next(iter(self.features.values())))


def imagined_rows(widths: Mapping[str, int], videos: int) -> Rows:
    """uint8 features of these widths without content or memory."""
    return Rows({m: np.broadcast_to(np.uint8(0), (videos, w)) for m, w in widths.items()}, {})


class StepShapes(NamedTuple):
    """The arguments of the compiled update, as shapes with shardings."""

    state: State
    constants: dict[str, Any]
    batch: dict[str, Any]


def step_shapes(
    recipe: Recipe, rows: Rows, mesh: Any, *, forbidden: int, classes: int = 0
) -> StepShapes:
    """What `compile_update` is called with on this mesh (which may be an imagined one)."""
    refuse_uneven_batch(recipe, mesh.size)

    def placed(spec: Any, array: np.ndarray, padded: int = 1) -> jax.ShapeDtypeStruct:
        shape = array.shape
        if padded > 1:
            shape = (-(-shape[0] // padded) * padded, *shape[1:])
        sharding = meshes.shardings(mesh, spec)
        return jax.ShapeDtypeStruct(shape, array.dtype, sharding=sharding)

    whole, axes = recipe.feed.shapes(rows.features, forbidden=forbidden)
    batch = {
        name: jax.tree.map(partial(placed, meshes.batch_spec(axes[name])), value)
        for name, value in whole.items()
    }
    constants: dict[str, Any] = {}
    if recipe.feed.placement == "device":
        split = partial(placed, meshes.everywhere_spec(0), padded=mesh.size)
        constants = jax.tree.map(split, recipe.task.resident(rows))
    widths = {name: array.shape[1] for name, array in rows.features.items()}
    return StepShapes(state_shape(recipe, Spec(widths, classes), mesh), constants, batch)


def device_bytes(shapes: Any) -> int:
    """Bytes of a pytree of shapes that one device holds."""
    return sum(_shard(leaf) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def memory(shapes: StepShapes, arithmetic: Arithmetic) -> dict[str, int]:
    """Bytes of one device by what they are for; their sum is the most that is alive at once.

    The gradient is counted throughout, and of what passes only the largest.
    """
    state, parameters = shapes.state, shapes.state["parameters"]
    optimiser = device_bytes(state["optimiser"])
    return {
        "parameters": device_bytes(parameters),
        "optimiser, other state": optimiser
        + device_bytes({k: v for k, v in state.items() if k not in ("parameters", "optimiser")}),
        "table's share": device_bytes(shapes.constants),
        "batch": device_bytes(shapes.batch),
        "gradient": device_bytes(parameters),
        **arithmetic.kept,
        "passing": max(arithmetic.passing.values()),
    }


def messages(shapes: StepShapes, arithmetic: Arithmetic) -> dict[str, Message]:
    """The collectives of a step: the task's, and the sum of the gradient.

    Where a model axis splits parameters, XLA gathers them along it for the step and splits the
    batch over all devices, instead of splitting the products (seen in compiled steps on CPU);
    but for those that the task says stay split, whose messages are the task's own.
    """
    devices = shapes.batch["rows"].sharding.mesh.size
    whole, shard, model = 0, 0, 1
    alike = 0
    for name, leaf in shapes.state["parameters"].items():
        part = _shard(leaf)
        if name in arithmetic.stays_split:
            continue
        if part == leaf.size:
            alike += leaf.size * leaf.dtype.itemsize
        else:
            model = leaf.size // part
            whole += leaf.size * leaf.dtype.itemsize
            shard += part * leaf.dtype.itemsize
    found = dict(arithmetic.messages)
    found["gradient, summed"] = Message(kind="all-reduce", bytes=alike, devices=devices)
    if whole:
        found["split parameters"] = Message(kind="all-gather", bytes=whole, devices=model)
        found["their gradient, along model"] = Message(
            kind="all-reduce", bytes=whole, devices=model
        )
        found["their gradient, along data"] = Message(
            kind="all-reduce", bytes=shard, devices=devices // model
        )
    return found


def traffic(shapes: StepShapes, arithmetic: Arithmetic) -> dict[str, float]:
    """Bytes between one device and its memory: the task's, and the update's."""
    parameters = device_bytes(shapes.state["parameters"])
    update = 2.0 * device_bytes(shapes.state) + 2.0 * parameters + 3.0 * parameters
    return dict(arithmetic.traffic) | {UPDATE: update}


def _shard(leaf: Any) -> int:
    return int(np.prod(leaf.sharding.shard_shape(leaf.shape), dtype=np.int64))
