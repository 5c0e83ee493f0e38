"""TensorFlow's checkpoints: read as they were written, damage is noticed."""

import re
import struct

import numpy as np
import pytest

from vidembed.media.backbones.checkpoint_file import DTYPES, MAGIC, read_tensors
from vidembed.records.crcs import crc32c, mask

ANY = "checkpoint|crc32c|compressed"


def varint(value):
    low = value & 0x7F
    return bytes([low]) if value < 128 else bytes([low | 0x80]) + varint(value >> 7)


def entry(array, offset, **changes):
    """A BundleEntryProto. As protobuf does, fields that are 0 are not written."""
    numbers = {dtype: number for number, dtype in DTYPES.items()}
    dims = b"".join(
        b"\x12" + varint(len(d)) + d for d in (b"\x08" + varint(n) for n in array.shape)
    )
    facts = {1: numbers[array.dtype], 3: 0, 4: offset, 5: array.nbytes} | changes.get("facts", {})
    message = b"".join(varint(k << 3) + varint(v) for k, v in facts.items() if v)
    crc = struct.pack("<I", mask(crc32c(array.tobytes())))
    return message + b"\x12" + varint(len(dims)) + dims + b"\x35" + crc + changes.get("more", b"")


def block(pairs, compression=0):
    """Keys share what they begin with; a restart, where they do not, at every third."""
    content, restarts, before = b"", [], b""
    for number, (key, value) in enumerate(pairs):
        shared = 0
        if number % 3 == 0:
            restarts.append(len(content))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        content += varint(shared) + varint(len(key) - shared) + varint(len(value))
        content, before = content + key[shared:] + value, key
    content += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    end = bytes([compression])
    return content, content + end + struct.pack("<I", mask(crc32c(content + end)))


def checkpoint(arrays, *, a_block=4, header=b"\x08\x01\x1a\x02\x08\x01", compression=0, **changes):
    """(index, data) of a checkpoint, with `a_block` entries in each block."""
    pairs, data = [(b"", header)], b""
    for key, array in sorted(arrays.items()):
        pairs.append((key.encode(), entry(array, len(data), **changes)))
        data += array.tobytes()
    index, handles = b"", []
    for start in range(0, len(pairs), a_block):
        content, stored = block(pairs[start : start + a_block], compression)
        handles.append(
            (pairs[start : start + a_block][-1][0], varint(len(index)) + varint(len(content)))
        )
        index += stored
    footer = b""
    for listed in ([], handles):
        content, stored = block(listed)
        footer += varint(len(index)) + varint(len(content))
        index += stored
    return index + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC), data


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    shapes = {
        "layer/kernel": (3, 1, 2, 5),
        "layer/bias": (5,),
        "layer_1/kernel": (200, 3),
        "power": (),
    }
    made = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return made | {"step": np.array(300, np.int64), "layer/Adam": np.zeros((0, 2), np.float32)}


@pytest.mark.parametrize("a_block", [1, 3, 100])
def test_tensors_are_read_as_they_were_written(arrays, a_block):
    read = read_tensors(*checkpoint(arrays, a_block=a_block))
    assert sorted(read) == sorted(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_every_damaged_byte_is_noticed(arrays):
    index, data = checkpoint(arrays)
    noticed, unread = list[str](), 0
    for place in range(len(index)):
        damaged = bytearray(index)
        damaged[place] ^= 0x41
        try:
            read = read_tensors(bytes(damaged), data)
        except ValueError as error:
            noticed.append(str(error))
        else:
            unread += 1
            assert all(np.array_equal(read[name], array) for name, array in arrays.items())
    # The index of metadata (8 bytes and its crc), which is empty, and the footer's end.
    assert unread < 13 + 40
    assert all(re.search(ANY, message) for message in noticed)
    for place in range(0, len(data), 5):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(ValueError, match="its numbers is wrong: the data file is damaged"):
            read_tensors(index, bytes(damaged))
    for cut in range(0, len(index), 3):
        with pytest.raises(ValueError, match=ANY):
            read_tensors(index[:cut], data)
    with pytest.raises(ValueError, match="the data file is truncated"):
        read_tensors(index, data[:-1])


def test_what_is_not_read_is_named(arrays):
    for changes, message in (
        ({"compression": 1}, "compressed blocks"),
        ({"header": b"\x08\x02"}, "expected one data file"),
        ({"facts": {1: 7}}, "layer/Adam: dtype 7"),
        ({"facts": {3: 1}}, "in data file 1"),
        ({"more": b"\x3a\x00"}, "a tensor in slices"),
    ):
        with pytest.raises(ValueError, match=message):
            read_tensors(*checkpoint(arrays, **changes))
    with pytest.raises(ValueError, match="not an index of a TensorFlow checkpoint"):
        read_tensors(b"", b"")
