"""What a step of a task costs, from shapes alone: products, memory, traffic and messages.

A task's `arithmetic(parameters, constants, batch)` takes what its loss takes, as shapes with
shardings, and names what it does with them. The engine adds what is its own: the state, the
gradient's sum, the update. So a new task is in `show` without a change there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax

Shapes = Mapping[str, Any]
"""Names to `jax.ShapeDtypeStruct`s that carry their sharding."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """Matrix products of a whole step, over all devices."""

    flop: float
    operands: Literal["float32", "bfloat16"]
    note: str
    operands_field: str = ""
    """The task's field that sets the operands."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A collective over `devices`; bytes of the whole array that is gathered, scattered or summed.

    Ring formulas: a gather or reduce-scatter sends (n − 1)/n of the bytes from every device, an
    all-reduce is the two in turn and sends twice that.
    """

    kind: Literal["all-gather", "reduce-scatter", "all-reduce"]
    bytes: int
    devices: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends."""
        times = 2 if self.kind == "all-reduce" else 1
        return times * self.bytes * (self.devices - 1) / self.devices


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """A step of a task. Bytes are those of one device."""

    products: Mapping[str, Product]
    kept: Mapping[str, int]
    """Alive from the forward pass to the backward pass."""
    passing: Mapping[str, int]
    """Alive at different times: only the largest counts."""
    traffic: Mapping[str, float]
    """Read from and written to device memory; an estimate, since compilers join operations."""
    messages: Mapping[str, Message]
    stays_split: frozenset[str] = frozenset()
    """Parameters whose products are split as they are: they are never gathered, and what their
    gradients send is among `messages`."""


def gathered_rows(constants: Shapes, slots: int, devices: int) -> tuple[int, dict[str, Message]]:
    """Bytes of `slots` rows out of a table on the devices, and the messages that bring them."""
    stored = constants["features"], constants["present"]
    rows = slots * sum(x.dtype.itemsize * x.size // x.shape[0] for x in jax.tree.leaves(stored))
    return rows, {"features": Message(kind="reduce-scatter", bytes=rows, devices=devices)}


def layers(
    parameters: Shapes, rows: int, compute: Literal["float32", "bfloat16"]
) -> tuple[float, dict[str, int], int]:
    """Towers of dense layers on `rows` f32[F] rows of a device: (operations of forward and backward
    for these rows, bytes kept, bytes of the widest layer's gradient).

    Products: three times the kernels' entries, but for the first layers, whose inputs need no
    gradient. Hidden units are kept before and after their activation (as operand of the next
    product), which is what XLA does; bfloat16 halves the operands only.
    """
    kernels = {n.removesuffix("/kernel"): s for n, s in parameters.items() if n.endswith("/kernel")}
    entries = sum(kernel.size for kernel in kernels.values())
    first = {n: k for n, k in kernels.items() if n.endswith("layers/0")}
    last = {n: k for n, k in kernels.items() if _after(n) not in kernels}
    hidden = [k.shape[1] for n, k in kernels.items() if n not in last]
    operand = 2 if compute == "bfloat16" else 4
    outputs = [k.shape[1] for k in last.values()]
    kept = {
        "inputs, standardised": rows * operand * sum(k.shape[0] for k in first.values()),
        "hidden units": rows * (4 + operand) * sum(hidden),
        "embeddings": rows * 4 * (sum(outputs) + outputs[0]),
    }
    widest = max(hidden, default=outputs[0])
    flop = 2.0 * rows * (3 * entries - sum(k.size for k in first.values()))
    return flop, kept, rows * widest * (4 if operand == 4 else 6)


def _after(name: str) -> str:
    tower, number = name.rsplit("/", 1)
    return f"{tower}/{int(number) + 1}"
