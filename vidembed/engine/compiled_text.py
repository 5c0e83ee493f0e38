"""Parse the text of a compiled program: collectives, matrix products, and trip counts of loops.

The text is XLA's (`compiled.as_text()`), after the compiler has partitioned the program over
devices and fused operations, so shapes are those of one device.
"""

import re
from dataclasses import dataclass, field
from math import prod

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
ITEM_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2}
ITEM_BYTES |= {"s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
LIBRARY_PRODUCT = re.compile(r'custom_call_target="[^"]*(?:gemm|matmul|cublas)[^"]*"', re.I)
SHAPE = re.compile(r"\b(\w+)\[([\d,]*)\]")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([\w-]+)\((.*)$")
CALLED = re.compile(r"\b(calls|to_apply|body|branch_computations)=\{?(%[\w.%, -]+)")


@dataclass(frozen=True, kw_only=True)
class Collective:
    """One collective operation. Bytes are those of one device."""

    kind: str
    """One of KINDS."""
    operands: str
    """Input of each device: the largest array, and how many others."""
    put: int
    """Input bytes of each device."""
    devices: int
    """Devices in one group."""
    times: int
    """Runs per step: the trip count of the loops around it, 1 if that is unknown."""
    asynchronous: bool
    """Whether the device computes in the meantime."""

    @property
    def bytes(self) -> int:
        """Bytes of the whole array that is gathered, summed or exchanged, for one run."""
        return self.put * (self.devices if self.kind == "all-gather" else 1)

    @property
    def sent(self) -> float:
        """Bytes that each device sends per step, around a ring."""
        hops = {"all-gather": self.devices - 1.0, "collective-permute": 1.0}
        share = (self.devices - 1) / self.devices
        each = hops.get(self.kind, 2 * share if self.kind == "all-reduce" else share)
        return each * self.put * self.times


@dataclass(frozen=True, kw_only=True)
class Program:
    """The contents of a step's program. Operations are those of one device, times trip counts."""

    collectives: tuple[Collective, ...]
    """Largest first, without those in groups of one device."""
    products: dict[str, float]
    """Operand dtype (float32 or bfloat16) → operations of the matrix products."""
    products_once: float
    """The same if the body of every loop ran once, as the compiler's analysis counts."""
    unknown_loops: int
    """Loops whose trip count is not in the text: their bodies are counted once."""
    library_products: int
    """Products that are library calls (on GPUs), which are not counted."""


@dataclass(kw_only=True)
class _Computation:
    """A named list of instructions."""

    lines: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Name → (type, operation, the rest of the line)."""
    callers: list[tuple[str, int, bool]] = field(default_factory=list)
    """(calling computation, calls per run of it, whether the call is asynchronous)."""


def read_program(text: str) -> Program:
    """Parse the text of a compiled program."""
    computations, entry, unknown = _computations(text)
    times = {entry: 1}

    def runs(name: str) -> int:
        if name not in times:
            times[name] = sum(runs(caller) * n for caller, n, _ in computations[name].callers)
        return times[name]

    collectives, products, once = [], {"float32": 0.0, "bfloat16": 0.0}, 0.0
    library = len(LIBRARY_PRODUCT.findall(text))
    for name, computation in computations.items():
        overlaps = any(asynchronous for _, _, asynchronous in computation.callers)
        for of, operation, rest in computation.lines.values():
            if operation in ("dot", "convolution"):
                flop, dtype = _product(computation, of, operation, rest)
                once += flop if runs(name) else 0
                products[dtype] += flop * runs(name)
            kind = operation.removesuffix("-start")
            if kind in KINDS:
                types = [computation.lines[operand][0] for operand in _operands(rest)]
                shapes = [shape for array_type in types for shape in SHAPE.findall(array_type)]
                collectives.append(
                    Collective(
                        kind=kind,
                        operands=_named(shapes),
                        put=sum(map(_bytes, shapes)),
                        devices=_group(rest, kind),
                        times=max(runs(name), 1),
                        asynchronous=operation != kind or overlaps,
                    )
                )
    sent = [c for c in collectives if c.devices > 1]
    return Program(
        collectives=tuple(sorted(sent, key=lambda c: -c.sent)),
        products={dtype: flop for dtype, flop in products.items() if flop},
        products_once=once,
        unknown_loops=unknown,
        library_products=library,
    )


def array_bytes(text: str) -> int:
    """Bytes of the first array that a text names: "f32[3,4] and 2 more" is 48."""
    shape = SHAPE.search(text)
    return _bytes((shape[1], shape[2])) if shape else 0


def _computations(text: str) -> tuple[dict[str, _Computation], str, int]:
    """(computations by name with their callers, the entry's name, loops of unknown length)."""
    computations: dict[str, _Computation] = {}
    current, entry = _Computation(), ""
    for line in text.splitlines():
        if header := COMPUTATION.match(line):
            current = computations.setdefault(header[2], _Computation())
            entry = header[2] if header[1] else entry
        elif match := INSTRUCTION.match(line):
            current.lines[match[1]] = match[2], match[3], match[4]
    unknown = 0
    for name, computation in computations.items():
        for _, operation, rest in computation.lines.values():
            n = 1
            if operation == "while":
                n = _trips(computations, rest)
                unknown, n = unknown + (not n), n or 1
            for _, called in CALLED.findall(rest):
                for callee in re.findall(r"%([\w.-]+)", called):
                    if callee in computations:
                        asynchronous = operation == "async-start"
                        computations[callee].callers.append((name, n, asynchronous))
    return computations, entry, unknown


def _trips(computations: dict[str, _Computation], rest: str) -> int:
    """The trip count of a `while`, from its line or its condition; 0 if unknown.

    JAX's loops count from 0 by 1 up to a constant: `compare(counter, constant), direction=LT`.
    """
    if known := re.search(r'known_trip_count":\{"n":"(\d+)"', rest):
        return int(known[1])
    condition = re.search(r"condition=%([\w.-]+)", rest)
    lines = computations[condition[1]].lines if condition else {}
    limits = [
        int(number[1])
        for _, operation, words in lines.values()
        if operation == "compare" and "direction=LT" in words
        for operand in _operands(words)
        if lines[operand][1] == "constant" and (number := re.match(r"(\d+)\)", lines[operand][2]))
    ]
    return limits[0] if len(limits) == 1 else 0


def _product(inside: _Computation, of: str, operation: str, rest: str) -> tuple[float, str]:
    """(operations, dtype of the operands) of a matrix product; TPUs write it as a convolution."""
    (dtype, left), (_, right) = (SHAPE.findall(inside.lines[n][0])[0] for n in _operands(rest)[:2])
    summed = 1
    if operation == "dot":
        lengths = _lengths(left)
        match = re.search(r"lhs_contracting_dims=\{([\d,]+)\}", rest)
        summed = prod(lengths[axis] for axis in _lengths(match[1] if match else ""))
    elif labels := re.search(r"dim_labels=\w+_(\w+)->", rest):
        window = re.search(r"window=\{size=([\dx]+)", rest)
        summed = _lengths(right)[labels[1].index("i")]
        summed *= prod(int(n) for n in window[1].split("x")) if window else 1
    full = dtype == "f32" and "operand_precision={highest" in rest
    _, shape = next(iter(SHAPE.findall(of)))
    return 2.0 * prod(_lengths(shape)) * summed, "float32" if full else "bfloat16"


def _operands(rest: str) -> list[str]:
    return re.findall(r"%([\w.-]+)", rest[: rest.index(")")])


def _group(rest: str, kind: str) -> int:
    """Devices in a group of a collective; handles every form in which XLA writes groups."""
    if kind == "collective-permute":
        pairs = re.search(r"source_target_pairs=\{(\{[\d,{} ]*\})\}", rest)
        return len(set(re.findall(r"\d+", pairs[1]))) if pairs else 1
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(_lengths(listed[1]))
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=", rest):
        return int(iota[1])
    if named := re.search(r"replica_groups=\w+\[(.*?)\][^{]* \{(.*?)\}", rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named[2]))
    raise ValueError(f"unknown form of the device groups of a collective: {rest[:300]}")


def _lengths(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]


def _bytes(shape: tuple[str, str]) -> int:
    return ITEM_BYTES[shape[0]] * prod(_lengths(shape[1]))


def _named(shapes: list[tuple[str, str]]) -> str:
    """The largest array of several, and how many others."""
    dtype, shape = max(shapes, key=_bytes)
    others = len(shapes) - 1
    return f"{dtype}[{shape}]" + (f" and {others} more" if others else "")
