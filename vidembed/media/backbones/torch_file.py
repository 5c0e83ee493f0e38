"""Read tensors from a `.pth` in PyTorch's format before version 1.6, without unpickling.

The file is four pickles (a magic number, the version, the writer's sizes of integers, the state)
and a fifth with the keys of the storages, then for each key an int64 count and the raw numbers.
Unpickling can run any code. Here the opcodes are interpreted by a small stack machine that knows
those of a state dictionary and calls nothing: a name such as `torch.FloatStorage` is a mark.
"""

import io
import math
import pickletools
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
STORAGES: dict[str, np.dtype[Any]] = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
}
DICTIONARY, TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_MARK = object()


class Name(NamedTuple):
    """A global's name. It is never looked up."""

    text: str


class Storage(NamedTuple):
    """A block of numbers that follows later in the file."""

    dtype: np.dtype[Any]
    key: str
    size: int


class Strided(NamedTuple):
    """A tensor as a view of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_tensors(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a state dictionary, by name. Raises ValueError for anything else in the file:
    an opcode or a name that is not of a state dictionary, or a truncated file."""
    stream = io.BytesIO(content)
    try:
        magic, version, sizes, state, keys = (interpret(stream) for _ in range(5))
        if (magic, version) != (MAGIC, VERSION) or sizes["little_endian"] is not True:
            raise ValueError("not a state dictionary in PyTorch's old format: other first numbers")
        numbers = _storages(stream, keys, state)
        tensors = {name: _tensor(entry, numbers) for name, entry in state.items()}
    except (KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise ValueError(
            f"not a state dictionary in PyTorch's old format: {type(error).__name__}"
        ) from error
    if stream.read(1):
        raise ValueError("more bytes follow the last storage: not a state dictionary")
    return tensors


def interpret(stream: io.BytesIO) -> Any:
    """The value of the next pickle in the stream: numbers, text, tuples, lists, dictionaries,
    `Name`, `Storage` and `Strided`. Raises ValueError for other opcodes and names, by name."""
    machine = _Machine()
    for opcode, argument in _opcodes(stream):
        if opcode.name == "STOP":
            return machine.stack.pop()
        step = _STEPS.get(opcode.name)
        if step is None:
            raise ValueError(
                f"pickle opcode {opcode.name} does not occur in a state dictionary: refused, "
                "because it could run code"
            )
        step(machine, argument)
    raise ValueError("the pickle has no end")


def _opcodes(stream: io.BytesIO) -> Iterator[tuple[pickletools.OpcodeInfo, Any]]:
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            yield opcode, argument
    except ValueError as error:
        raise ValueError(f"a pickle in the file is damaged or truncated: {error}") from error


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def tuple_of(self, count: int) -> None:
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.push(values)

    def name(self, text: str) -> None:
        if text not in (DICTIONARY, TENSOR, *STORAGES):
            raise ValueError(
                f"the pickle names {text.replace(' ', '.')}, which does not occur in a state "
                "dictionary: refused, because it could run code"
            )
        self.push(Name(text))

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ValueError("the pickle calls something that is not a name: refused")
        if function.text == DICTIONARY and not arguments:
            self.push({})
        elif function.text == TENSOR:
            storage, offset, shape, strides = arguments[:4]
            if not isinstance(storage, Storage) or not _whole(offset, *shape, *strides):
                raise ValueError("a tensor of something that is not a storage: refused")
            self.push(Strided(storage, offset, shape, strides))
        else:
            raise ValueError(f"the pickle calls {function.text.replace(' ', '.')}: refused")

    def storage(self) -> None:
        kind, name, key, _, size, view = self.stack.pop()
        known = isinstance(name, Name) and name.text in STORAGES and isinstance(key, str)
        if kind != "storage" or view is not None or not known or not _whole(size):
            raise ValueError("a persistent id that is not a whole storage: refused")
        self.push(Storage(STORAGES[name.text], key, size))

    def set_items(self, pairs: list[Any]) -> None:
        if not all(isinstance(key, str) for key in pairs[::2]):
            raise ValueError("a dictionary with keys other than text: refused")
        self.stack[-1].update(zip(pairs[::2], pairs[1::2]))

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def drop_attributes(self) -> None:
        """BUILD gives the dictionary attributes (versions of modules): they are left out."""
        if not (isinstance(self.stack.pop(), dict) and isinstance(self.stack[-1], dict)):
            raise ValueError("the pickle builds something other than a dictionary: refused")


_Step = Callable[[_Machine, Any], None]
_PUSHES = ("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1")
_STEPS: dict[str, _Step] = {
    "PROTO": lambda machine, _: None,
    "MARK": lambda machine, _: machine.push(_MARK),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPENDS": lambda machine, _: _appended(machine, machine.since_mark()),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_item(),
    "GLOBAL": lambda machine, text: machine.name(text),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.drop_attributes(),
    "BINPERSID": lambda machine, _: machine.storage(),
    **dict.fromkeys(_PUSHES, lambda machine, value: machine.push(value)),
    **dict.fromkeys(
        ("BINPUT", "LONG_BINPUT"),
        lambda machine, place: machine.memo.__setitem__(place, machine.stack[-1]),
    ),
    **dict.fromkeys(
        ("BINGET", "LONG_BINGET"), lambda machine, place: machine.push(machine.memo[place])
    ),
}
"""The opcodes of a state dictionary."""


def _appended(machine: _Machine, values: list[Any]) -> None:
    machine.stack[-1].extend(values)


def _storages(stream: io.BytesIO, keys: list[str], state: dict[str, Any]) -> dict[str, np.ndarray]:
    declared = {entry.storage.key: entry.storage for entry in state.values()}
    if sorted(keys) != sorted(declared):
        raise ValueError("the storages in the file are not those of its tensors")
    numbers = {}
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        if count != declared[key].size:
            raise ValueError(f"storage {key} has {count} numbers: expected {declared[key].size}")
        raw = stream.read(count * declared[key].dtype.itemsize)
        if len(raw) < count * declared[key].dtype.itemsize:
            raise ValueError("the file is truncated: download it again")
        numbers[key] = np.frombuffer(raw, declared[key].dtype)
    return numbers


def _tensor(entry: Strided, numbers: dict[str, np.ndarray]) -> np.ndarray:
    flat = numbers[entry.storage.key][entry.offset :]
    last = sum((size - 1) * stride for size, stride in zip(entry.shape, entry.strides))
    if last >= len(flat) or math.prod(entry.shape) > len(flat):
        raise ValueError(f"a tensor {entry.shape} reaches beyond its storage")
    steps = tuple(stride * flat.itemsize for stride in entry.strides)
    return np.lib.stride_tricks.as_strided(flat, entry.shape, steps).copy()


def _whole(*numbers: Any) -> bool:
    """Whether all are integers from 0."""
    return all(type(number) is int and number >= 0 for number in numbers)
