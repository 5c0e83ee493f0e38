"""Where the frames of a frame-level record are, for records in the usual layout.

The usual layout is a context, then lists, each a key and a value in which every frame follows the
same few bytes.
"""

import functools
import re
from typing import NamedTuple

import numpy as np

from vidembed.records.example import Feature, encode_bytes, parse_features
from vidembed.records.formats import FrameLevel

# The head (tag and length) of field 1 or 2 with a string or a nested message.
_HEAD = re.compile(rb"([\x0a\x12])([\x80-\xff]{0,3}[\0-\x7f])")


class FrameList(NamedTuple):
    """Where the frames of a modality are in a payload: frame i is the F bytes from start + i·stride
    on; the payload has `number` of them."""

    start: int
    stride: int
    number: int

    def bytes_of(self, payload: np.ndarray, width: int, most: int) -> np.ndarray:
        """The first frames u8[T, F] in a payload u8[...], at most `most`; a view."""
        number = min(self.number, most)
        strides = (self.stride * payload.strides[0], payload.strides[0])
        return np.ndarray((number, width), np.uint8, payload, self.start, strides)


def locate_frames(
    payload: bytes, format: FrameLevel
) -> tuple[dict[str, Feature], dict[str, FrameList]]:
    """The context of a record in the usual layout, and its lists by key.

    Lists of other keys are empty. Raises ValueError for any other layout.
    """
    widths = {modality.key: modality.width for modality in format.modalities}
    lists: dict[str, FrameList] = {}
    context, position = _field(payload, 1, 0, len(payload))
    features = payload[context:position]
    position, stop = _field(payload, 2, position, len(payload))
    while position < stop:
        entry, entry_end = _field(payload, 1, position, stop)
        key, key_end = _field(payload, 1, entry, entry_end)
        value, position = _field(payload, 2, key_end, entry_end)
        name = payload[key:key_end].decode()
        if position < entry_end or name in lists:
            raise ValueError(f"{name} has another layout")
        lists[name] = FrameList(value, 1, 0)
        if name in widths:
            lists[name] = _equal_frames(payload, value, position, widths[name])
    if stop < len(payload):
        raise ValueError("the record holds more than a context and lists")
    return parse_features(features), lists


def _field(data: bytes, number: int, start: int, stop: int) -> tuple[int, int]:
    """Begin and end of the value of field `number` (1 or 2), whose head is at `start`."""
    head = _HEAD.match(data, start, stop)
    if head is None or head[1][0] >> 3 != number:
        raise ValueError(f"field {number} is not at byte {start}")
    size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(head[2]))
    if head.end() + size > stop:
        raise ValueError(f"field {number} runs past its message")
    return head.end(), head.end() + size


def _equal_frames(payload: bytes, start: int, stop: int, width: int) -> FrameList:
    """The frames of a list in which each follows the same few bytes. Raises ValueError."""
    head = np.frombuffer(_head(width), np.uint8)
    rows = np.frombuffer(memoryview(payload)[start:stop], np.uint8)
    rows = rows.reshape(-1, len(head) + width)
    if (rows[:, : len(head)] != head).any():
        raise ValueError("a frame has another layout")
    return FrameList(start + len(head), stride_of(width), len(rows))


def stride_of(width: int) -> int:
    """Bytes from one frame of a modality to the next."""
    return len(_head(width)) + width


@functools.cache
def _head(width: int) -> bytes:
    """The bytes before each frame."""
    return encode_bytes(1, encode_bytes(1, encode_bytes(1, bytes(width))))[:-width]
