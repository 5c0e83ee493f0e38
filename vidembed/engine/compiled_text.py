"""Reads the text of a compiled program: collectives, matrix products, and how often loops run.

The text is XLA's own (`compiled.as_text()`), after the compiler has split the program over devices
and merged what it could, so that shapes are those of one device.
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
    """One message among devices. Bytes are those of one device."""

    kind: str
    """One of KINDS."""
    operands: str
    """What each device puts in: the largest array, and how many others."""
    put: int
    """Bytes that each device puts in."""
    devices: int
    """Devices that exchange it with each other."""
    times: int
    """How often a step runs it: the trip count of the loops around it, 1 where that is unknown."""
    asynchronous: bool
    """Whether the device computes meanwhile."""

    @property
    def bytes(self) -> int:
        """Bytes of the whole that is gathered, summed or exchanged, once."""
        return self.put * (self.devices if self.kind == "all-gather" else 1)

    @property
    def sent(self) -> float:
        """Bytes that each device sends in a step, around a ring."""
        hops = {"all-gather": self.devices - 1.0, "collective-permute": 1.0}
        share = (self.devices - 1) / self.devices
        each = hops.get(self.kind, 2 * share if self.kind == "all-reduce" else share)
        return each * self.put * self.times


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a step does, as often as it does it. Operations are those of one device."""

    collectives: tuple[Collective, ...]
    """The largest first; those among groups of one device are left out."""
    products: dict[str, float]
    """Operand dtype (float32 or bfloat16) → operations of the matrix products."""
    products_once: float
    """Their operations if the body of every loop ran once, as the compiler's analysis counts."""
    unknown_loops: int
    """Loops whose trip count the text does not give: their bodies are counted once."""
    library_products: int
    """Products that are calls of a library (on GPUs), of which nothing is counted."""


@dataclass(kw_only=True)
class _Computation:
    """A named list of instructions."""

    lines: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Name → (type, operation, the rest of the line)."""
    callers: list[tuple[str, int, bool]] = field(default_factory=list)
    """(calling computation, times at each of its runs, whether it goes on meanwhile)."""


def read_program(text: str) -> Program:
    """The program whose text this is."""
    computations, entry, unknown = _computations(text)
    times = {entry: 1}

    def runs(name: str) -> int:
        if name not in times:
            times[name] = sum(runs(caller) * n for caller, n, _ in computations[name].callers)
        return times[name]

    collectives, products, once = [], {"float32": 0.0, "bfloat16": 0.0}, 0.0
    library = len(LIBRARY_PRODUCT.findall(text))
    for name, own in computations.items():
        meanwhile = any(asynchronous for _, _, asynchronous in own.callers)
        for of, operation, rest in own.lines.values():
            if operation in ("dot", "convolution"):
                flop, dtype = _product(own, of, operation, rest)
                once += flop if runs(name) else 0
                products[dtype] += flop * runs(name)
            kind = operation.removesuffix("-start")
            if kind in KINDS:
                shapes = [s for o in _operands(rest) for s in SHAPE.findall(own.lines[o][0])]
                collectives.append(
                    Collective(
                        kind=kind,
                        operands=_named(shapes),
                        put=sum(map(_bytes, shapes)),
                        devices=_group(rest, kind),
                        times=max(runs(name), 1),
                        asynchronous=operation != kind or meanwhile,
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
    own, entry = _Computation(), ""
    for line in text.splitlines():
        if header := COMPUTATION.match(line):
            own = computations.setdefault(header[2], _Computation())
            entry = header[2] if header[1] else entry
        elif match := INSTRUCTION.match(line):
            own.lines[match[1]] = match[2], match[3], match[4]
    unknown = 0
    for name, own in computations.items():
        for _, operation, rest in own.lines.values():
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
    """How often a `while` runs: as its line says, or as its condition does; 0 is unknown.

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


def _product(own: _Computation, of: str, operation: str, rest: str) -> tuple[float, str]:
    """(operations, dtype of the operands) of a matrix product; TPUs write it as a convolution."""
    (dtype, left), (_, right) = (SHAPE.findall(own.lines[n][0])[0] for n in _operands(rest)[:2])
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
    """Devices in a group of a collective, in each of the forms in which XLA writes groups."""
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
    raise ValueError(f"the groups of this collective are written in an unknown form: {rest[:300]}")


def _lengths(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]


def _bytes(shape: tuple[str, str]) -> int:
    return ITEM_BYTES[shape[0]] * prod(_lengths(shape[1]))


def _named(shapes: list[tuple[str, str]]) -> str:
    """The largest array of several, and how many others."""
    dtype, shape = max(shapes, key=_bytes)
    others = len(shapes) - 1
    return f"{dtype}[{shape}]" + (f" and {others} more" if others else "")
