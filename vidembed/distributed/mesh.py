"""The layout of arrays over devices; the only file that names mesh axes.

There are always two axes, either may have size 1: `data` splits the batch, `model` splits wide
layers (and class tables). Work without parameters, such as mining and search, is split over both.
The engine runs under `jax.set_mesh(mesh)`; the functions below use the current mesh.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vidembed.distributed.exchange import Exchange

ALL = DATA, MODEL = "data", "model"


@dataclass(frozen=True, kw_only=True)
class MeshShape:
    """Devices along each axis; data = -1 uses all devices that `model` leaves."""

    data: int = -1
    """Devices that the batch is split over; -1 is all devices divided by `model`."""
    model: int = 1
    """Devices that wide layers and class tables are split over."""

    def __post_init__(self) -> None:
        if self.model < 1 or (self.data < 1 and self.data != -1):
            raise ValueError(
                f"data {self.data} and model {self.model} must be 1 or more, or data -1"
            )


def make_mesh(shape: MeshShape, devices: list[Any] | None = None) -> jax.sharding.Mesh:
    """A `data` × `model` mesh over all devices (or those given), in their order."""
    devices = jax.devices() if devices is None else devices
    grid = np.array(devices).reshape(_sizes(shape, len(devices)))
    if jax.process_count() > 1 and jax.local_device_count() % shape.model:
        raise ValueError(
            f"mesh model={shape.model} does not divide the {jax.local_device_count()} devices of a "
            "host: the model axis lies within hosts; choose a divisor"
        )
    return jax.sharding.Mesh(grid, ALL, axis_types=(AxisType.Auto,) * 2)


def imagined_mesh(shape: MeshShape, devices: int) -> jax.sharding.AbstractMesh:
    """The mesh of `devices` devices that need not exist: for shapes and shardings, not arrays."""
    return jax.sharding.AbstractMesh(_sizes(shape, devices), ALL, axis_types=(AxisType.Auto,) * 2)


def _sizes(shape: MeshShape, devices: int) -> tuple[int, int]:
    data = devices // shape.model if shape.data == -1 else shape.data
    if data * shape.model != devices:
        raise ValueError(
            f"mesh data={shape.data} × model={shape.model} does not cover {devices} devices; "
            f"choose sizes whose product is {devices}"
        )
    return data, shape.model


def batch_spec(axis: int | None) -> PartitionSpec:
    """Split over the data axis at array axis `axis`, the layout of batches; None is whole."""
    return PartitionSpec() if axis is None else PartitionSpec(*(None,) * axis, DATA)


def everywhere_spec(axis: int) -> PartitionSpec:
    """Split over all devices at array axis `axis`, the layout of mining, search and the table."""
    return PartitionSpec(*(None,) * axis, ALL)


def model_spec(axis: int | None) -> PartitionSpec:
    """Split over the model axis at array axis `axis`; None is a copy on every device."""
    return PartitionSpec() if axis is None else PartitionSpec(*(None,) * axis, MODEL)


def batch_by_class_spec() -> PartitionSpec:
    """Rows split over the data axis and columns over the model axis: scores of all classes."""
    return PartitionSpec(DATA, MODEL)


def shardings(mesh: Any, specs: Any) -> Any:
    """Turn a pytree of partition specs into shardings of `mesh`."""
    return jax.tree.map(
        lambda spec: NamedSharding(mesh, spec),
        specs,
        is_leaf=lambda spec: isinstance(spec, PartitionSpec),
    )


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def place_rows(mesh: jax.sharding.Mesh, array: np.ndarray) -> jax.Array:
    """A host array [N, ...], the same on every host, with its rows split over all devices.

    Rows are padded with zeros to divide; each device receives only its own rows.
    """
    padded = -(-len(array) // mesh.size) * mesh.size

    def part(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(padded)
        rows = array[start:stop]
        absent = (stop - start - len(rows), *array.shape[1:])
        return np.concatenate([rows, np.zeros(absent, array.dtype)])

    sharding = NamedSharding(mesh, everywhere_spec(0))
    return jax.make_array_from_callback((padded, *array.shape[1:]), sharding, part)


def place_batch(
    mesh: jax.sharding.Mesh, batch: Mapping[str, Any], axes: Mapping[str, int | None]
) -> Any:
    """This host's slice of a batch as global arrays.

    `axes`: entry of the batch → the array axis that is split over the data axis; None for entries
    that are whole on every host and device.
    """
    layout = batch_shardings(mesh, batch, axes)
    if jax.process_count() == 1:
        return jax.device_put(batch, layout)
    return jax.tree.map(jax.make_array_from_process_local_data, layout, batch)


def batch_shardings(
    mesh: jax.sharding.Mesh, batch: Mapping[str, Any], axes: Mapping[str, int | None]
) -> Any:
    """The layout of the entries of a batch; `axes` as in `place_batch`."""
    specs = {n: jax.tree.map(lambda _, axis=axes[n]: batch_spec(axis), v) for n, v in batch.items()}
    return shardings(mesh, specs)


def exchange_specs(rank: int) -> Exchange:
    """The layout of an exchange for rows with `rank` axes: each device has its own part."""
    return Exchange(everywhere_spec(0), everywhere_spec(rank - 1))


def place_exchange(mesh: jax.sharding.Mesh, plan: Exchange) -> Exchange:
    """Turn a plan in numpy, the same on every host, into global arrays."""
    specs = shardings(mesh, exchange_specs(plan.take.ndim))
    place = jax.make_array_from_callback
    return jax.tree.map(lambda a, spec: place(a.shape, spec, a.__getitem__), plan, specs)


def gather_rows(table: jax.Array, rows: jax.Array, plan: Exchange | None = None) -> jax.Array:
    """Rows of a table that is split over all devices: [N, ...] at i32[..., B] → [..., B, ...].

    With a plan, each device sends the others the rows that they need. Without one, every device
    takes the rows it owns and zeros for the others; a reduce-scatter in the stored dtype (exactly
    one term of each sum is not zero, so nothing overflows or is rounded) leaves each device with
    its part of the batch. On TPU this sends the whole batch to every device. The table is never
    sent. `rows` must be in range, and the plan must be made for them.
    """
    axis = rows.ndim - 1

    def exchanged(part: jax.Array, send: jax.Array, take: jax.Array) -> jax.Array:
        sent = jnp.take(part, send.reshape(-1), axis=0, mode="clip")
        received = jax.lax.all_to_all(sent, ALL, split_axis=0, concat_axis=0, tiled=True)
        # The barrier makes the code after it compile, and so round, alike with or without a plan.
        return jax.lax.optimization_barrier(jnp.take(received, take, axis=0, mode="clip"))

    def own_rows(part: jax.Array, numbers: jax.Array) -> jax.Array:
        taken = _own_rows(part, numbers - jax.lax.axis_index(ALL) * len(part))
        return jax.lax.psum_scatter(taken, ALL, scatter_dimension=axis, tiled=True)

    if jax.sharding.get_abstract_mesh().size == 1:
        return jnp.take(table, rows, axis=0, mode="clip")
    parts, split = everywhere_spec(0), everywhere_spec(axis)
    if plan is not None:
        return jax.shard_map(exchanged, in_specs=(parts, parts, split), out_specs=split)(
            table, *plan
        )
    return jax.shard_map(own_rows, in_specs=(parts, PartitionSpec()), out_specs=split)(table, rows)


def _own_rows(part: jax.Array, local: jax.Array) -> jax.Array:
    """The rows of `part` at `local`; zeros for rows of another part."""
    mine = (local >= 0) & (local < len(part))
    mine = mine.reshape(mine.shape + (1,) * (part.ndim - 1))
    return jnp.where(mine, jnp.take(part, local, axis=0, mode="clip"), jnp.zeros((), part.dtype))


def on_all_devices(function: Callable[..., Any], in_axes: tuple[int | None, ...]) -> Any:
    """`function` on each device's part of its arguments; its results must be equal everywhere.

    `in_axes` names the array axis of each argument (a pytree) that is split over all devices,
    None for arguments that every device sees whole. Inside, `gather` and `total` communicate.
    """
    specs = tuple(PartitionSpec() if axis is None else everywhere_spec(axis) for axis in in_axes)
    return jax.shard_map(function, in_specs=specs, out_specs=PartitionSpec())


def gather(part: jax.Array, axis: int) -> jax.Array:
    """All devices' parts joined along `axis`, in batch order; its gradient is a reduce-scatter."""
    return jax.lax.all_gather(part, ALL, axis=axis, tiled=True)


def total(part: Any) -> Any:
    """The sum over all devices."""
    return jax.lax.psum(part, ALL)


def device_number() -> jax.Array:
    """i32[]: the number of this device in batch order."""
    return jax.lax.axis_index(ALL)


def on_devices(function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Any:
    """`function` on each device's part of its arguments, laid out by the specs of this file.

    Inside, the functions below work on a table of classes with `model_spec(0)`. A result must be
    equal on all devices along an axis that its spec does not split; tracing checks it.
    """
    return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs)


def take_class_rows(part: jax.Array, classes: jax.Array) -> jax.Array:
    """Rows of a table that is split over the model axis: own part f32[C/m, D] at i32[S], the same
    on every device → f32[S, D] on every device.

    Every device takes the rows it owns and zeros for the others, and a sum along the model axis
    completes them. In the backward pass the gradients of the S rows are summed over all devices,
    and each device adds those it owns to its part: the gradient of the table is never sent.
    """
    return jax.lax.psum(_own_rows(part, classes - class_numbers(part)[0]), MODEL)


def class_numbers(part: jax.Array) -> jax.Array:
    """i32[C/m]: the classes of this device's part of a table that is split over the model axis."""
    return jax.lax.axis_index(MODEL) * len(part) + jnp.arange(len(part), dtype=jnp.int32)


def over_classes(part: jax.Array) -> jax.Array:
    """The sum along the model axis, element by element."""
    return jax.lax.psum(part, MODEL)


def over_batch(part: Any) -> Any:
    """The sum along the data axis, element by element."""
    return jax.lax.psum(part, DATA)


def largest_over_classes(part: jax.Array) -> jax.Array:
    """The maximum along the model axis, element by element; it has no gradient."""
    return jax.lax.pmax(jax.lax.stop_gradient(part), MODEL)
