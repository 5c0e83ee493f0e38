"""PyTorch's old files: read as they were written, and nothing in them runs."""

import io
import os
import pickle
import pickletools
import struct

import numpy as np
import pytest

from vidembed.media.backbones import torch_file
from vidembed.media.backbones.torch_file import MAGIC, interpret, read_tensors

FLOAT, LONG = "torch FloatStorage", "torch LongStorage"


class Raw(bytes):
    """Opcodes that make a value."""


def opcodes(value):
    """The opcodes for a value, by hand."""
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, bool) or value is None:
        return {True: b"\x88", False: b"\x89", None: b"N"}[value]
    if isinstance(value, int):
        if value >= 1 << 31:
            return b"\x8a" + pickle.dumps(value, 2)[3:-1]
        return b"J" + struct.pack("<i", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value)) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(map(opcodes, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(opcodes, value)) + b"e"
    pairs = b"".join(opcodes(one) for pair in value.items() for one in pair)
    return b"}(" + pairs + b"u"


def pickled(value):
    return b"\x80\x02" + opcodes(value) + b"."


def name(text):
    return Raw(b"c" + text.replace(" ", "\n").encode() + b"\n")


def called(function, *arguments):
    return Raw(name(function) + opcodes(arguments) + b"R")


def storage(kind, key, count):
    return Raw(opcodes(("storage", name(kind), key, "cpu", count, None)) + b"Q")


def tensor(array, key, *, kind=FLOAT, offset=0, strides=None, count=None):
    strides = strides or tuple(one // array.itemsize for one in array.strides)
    hooks = called("collections OrderedDict")
    return called(
        "torch._utils _rebuild_tensor_v2",
        storage(kind, key, array.size if count is None else count),
        offset, array.shape, strides, False, hooks,
    )  # fmt: skip


def file_of(entries, storages):
    """A state dictionary with these tensors, and the numbers of each storage."""
    pairs = b"".join(opcodes(one) for pair in entries.items() for one in pair)
    # As PyTorch writes it: an ordered dictionary with an attribute, the versions of the modules.
    state = called("collections OrderedDict") + b"(" + pairs + b"u"
    state = Raw(state + opcodes({"_metadata": called("collections OrderedDict")}) + b"b")
    sizes = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    content = b"".join(map(pickled, (MAGIC, 1001, sizes, state, list(storages))))
    for numbers in storages.values():
        content += struct.pack("<q", numbers.size) + numbers.tobytes()
    return content


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "weight": rng.normal(size=(3, 4)).astype(np.float32),
        "steps": np.array(7),
        "bias": rng.normal(size=5).astype(np.float32),
    }


def entries_of(arrays):
    kinds = {"steps": LONG}
    return {key: tensor(a, key, kind=kinds.get(key, FLOAT)) for key, a in arrays.items()}


def test_tensors_are_read_as_they_were_written(arrays):
    read = read_tensors(file_of(entries_of(arrays), arrays))
    assert list(read) == list(arrays)
    for key, array in arrays.items():
        assert read[key].dtype == array.dtype
        np.testing.assert_array_equal(read[key], array)


def test_views_share_a_storage():
    numbers = np.arange(12, dtype=np.float32)
    entries = {
        "transposed": tensor(np.empty((4, 3), np.float32), "all", strides=(1, 4)),
        "last": tensor(np.empty(2, np.float32), "all", offset=10, count=12),
    }
    read = read_tensors(file_of(entries, {"all": numbers}))
    np.testing.assert_array_equal(read["transposed"], numbers.reshape(3, 4).T)
    np.testing.assert_array_equal(read["last"], [10, 11])


class Harmful:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.fault(
    "Video files: a file of weights that would run code when unpickled",
    "nothing in it runs: it is refused by the name of the opcode or global",
)
@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        (0, "opcode UNICODE|posix.mkdir"),
        (2, "posix.mkdir"),
        (4, "opcode FRAME"),
        (5, "opcode FRAME"),
    ],
)
def test_a_harmful_pickle_is_refused(tmp_path, protocol, message):
    harmful = pickle.dumps(Harmful(tmp_path / "made"), protocol)
    content = pickled(MAGIC) + pickled(1001) + harmful
    with pytest.raises(ValueError, match=rf"{message}.*refused, because it could run code"):
        read_tensors(content)
    assert not (tmp_path / "made").exists()
    pickle.loads(harmful)
    assert (tmp_path / "made").exists()


@pytest.mark.fault("Video files: a file of weights that would run code when unpickled")
def test_every_other_opcode_is_refused():
    operands = {"int4": b"\0" * 4, "uint1": b"\0", "uint2": b"\0\0", "uint4": b"\0" * 4}
    refused = 0
    for opcode in pickletools.opcodes:
        if opcode.name in (*torch_file._STEPS, "STOP"):
            continue
        reader = opcode.arg and opcode.arg.name
        operand = operands.get(reader, b"\0" * 16) if reader and "nl" not in reader else b"0\n0\n"
        if reader in ("stringnl", "unicodestringnl"):
            operand = b"'a'\n"
        with pytest.raises(
            ValueError, match=rf"{opcode.name} does not occur|not decode|expected|end"
        ):
            interpret(io.BytesIO(opcode.code.encode("latin-1") + operand + b"."))
        refused += 1
    assert refused == len(pickletools.opcodes) - len(torch_file._STEPS) - 1


@pytest.mark.fault("Video files: a file of weights that would run code when unpickled")
def test_names_are_only_called_as_pytorch_does(arrays):
    bad = {
        "calls torch.FloatStorage": called(FLOAT, "a"),
        "not a storage": called("torch._utils _rebuild_tensor_v2", "a", 0, (1,), (1,), False, None),
        "calls collections.OrderedDict": called("collections OrderedDict", (("a", 1),)),
        "not a whole storage": storage("collections OrderedDict", "a", 1),
        "calls something": Raw(opcodes("a") + opcodes(()) + b"R"),
        "keys other than text": {1: 2},
        "builds something": Raw(opcodes("a") + opcodes({}) + b"b"),
    }
    for message, value in bad.items():
        with pytest.raises(ValueError, match=message):
            read_tensors(file_of({"weight": value}, {}))


def test_tensors_beyond_their_storage_and_damaged_files(arrays):
    content = file_of(entries_of(arrays), arrays)
    for cut in range(0, len(content), 7):
        with pytest.raises(ValueError, match=r"old format|pickle|truncated"):
            read_tensors(content[:cut])
    with pytest.raises(ValueError, match="more bytes follow"):
        read_tensors(content + b"\0")
    numbers = np.arange(4, dtype=np.float32)
    for shape, strides, offset in (((5,), (1,), 0), ((4,), (1,), 1), ((9, 9), (0, 0), 0)):
        wrong = tensor(np.empty(shape, np.float32), "a", strides=strides, offset=offset, count=4)
        with pytest.raises(ValueError, match="reaches beyond its storage"):
            read_tensors(file_of({"weight": wrong}, {"a": numbers}))
    with pytest.raises(ValueError, match="has 4 numbers: expected 5"):
        read_tensors(file_of({"a": tensor(np.empty(5, np.float32), "a")}, {"a": numbers}))
    with pytest.raises(ValueError, match="not those of its tensors"):
        read_tensors(file_of({"a": tensor(numbers, "a")}, {"b": numbers}))
    with pytest.raises(ValueError, match="first numbers"):
        read_tensors(content.replace(pickled(MAGIC), pickled(3)))
