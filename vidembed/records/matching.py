"""The fast path of video-level parsing: match a whole block of records against constant headers.

Writers use the same layout: `0a L`, then the map entries, whose bytes before the value are fixed by
the key and one length. One cursor per record walks over the entries, all records at once. Records
with another layout are left to the general parser. Matched values are exactly those that the
general parser would read.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from vidembed.records.example import encode_bytes
from vidembed.records.formats import VideoLevel
from vidembed.records.framing import SLACK_BYTES, Block

_WINDOW_BYTES = 48  # compared at a cursor; a longer header (a very long key) never matches
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3  # of a Feature message
_ONE_BYTE = 127  # the largest length of a single byte
assert max(_WINDOW_BYTES, _ONE_BYTE) <= SLACK_BYTES


class Matched(NamedTuple):
    """The m records of a block that have the usual layout, in order.

    rows: i64[m] in the block; ids: S[m]; label_counts: i64[m]; label_values: i32[sum of counts];
    vectors: by modality i64[m], the offset of its floats in block.data, -1 if it has none.
    """

    rows: np.ndarray
    ids: np.ndarray
    label_counts: np.ndarray
    label_values: np.ndarray
    vectors: dict[str, np.ndarray]


class _Header:
    """The bytes of a map entry before its value, compared as 8-byte words in many places at once.

    A value either has `value_bytes`, or is short: then four bytes of the header encode its length.
    """

    def __init__(self, key: str, kind: int, value_bytes: int | None = None) -> None:
        value = bytes(value_bytes or 0)
        entry = encode_bytes(2, encode_bytes(kind, encode_bytes(1, value)))
        entry = encode_bytes(1, encode_bytes(1, key.encode()) + entry)
        head = np.frombuffer(entry[: len(entry) - len(value)], np.uint8)
        self.bytes, self.value_bytes = len(head), value_bytes
        self.usable = len(head) <= _WINDOW_BYTES
        if not self.usable:
            return
        # The lengths of entry, feature, list and value for an empty value.
        last = self.bytes - 1
        self._slots = [last, 1, last - 4, last - 2] if value_bytes is None else []
        self._least = head[self._slots]
        expected, mask = np.zeros((2, _WINDOW_BYTES), np.uint8)
        expected[: self.bytes], mask[: self.bytes] = head, 0xFF
        expected[self._slots] = mask[self._slots] = 0
        self._words = [(w, m) for w, m in zip(expected.view("<u8"), mask.view("<u8")) if m]

    def value_lengths(self, window: np.ndarray, words: np.ndarray) -> np.ndarray:
        """The value's length in bytes i64[n] where u8[n, 48] begins with this header, else -1."""
        if not self.usable:
            return np.full(len(window), -1)
        same = np.ones(len(window), bool)
        for i, (expected, mask) in enumerate(self._words):
            same &= (words[i] & mask) == expected
        if self.value_bytes is not None:
            return np.where(same, self.value_bytes, -1)
        lengths = np.full(len(window), -1)
        (hits,) = same.nonzero()
        slots = window[hits][:, self._slots]
        value = slots - self._least  # modulo 256
        agree = (value == value[:, :1]).all(1) & (slots <= _ONE_BYTE).all(1)
        fits = agree & (slots >= self._least).all(1)
        lengths[hits] = np.where(fits, value[:, 0].astype(np.int64), -1)
        return lengths


def match(block: Block, format: VideoLevel) -> Matched:
    """Match every record of the block, which is not changed."""
    ids, labels, vectors = _headers(format)
    begin, length, good = _walk(block, [*ids, *labels, *vectors])

    id_begin, id_length = begin[0], length[0]
    for alternative in range(1, len(ids)):
        absent = id_begin < 0
        id_begin = np.where(absent, begin[alternative], id_begin)
        id_length = np.where(absent, length[alternative], id_length)
    good &= id_length > 0
    vector_begin = begin[len(ids) + len(labels) :]
    if format.missing == "refuse":
        good &= (vector_begin >= 0).all(0)
    if labels:
        good &= begin[len(ids)] >= 0
    rows = good.nonzero()[0]
    id_array, sound = _strings(block.data, id_begin[rows], id_length[rows])
    counts, values = np.zeros(len(rows), np.int64), np.empty(0, np.int32)
    if labels:
        at, size = begin[len(ids)][rows], length[len(ids)][rows]
        counts, values, decoded = _packed_varints(block.data, at, size)
        sound &= decoded
    if not sound.all():
        values = values[np.repeat(sound, counts)]
        rows, id_array, counts = rows[sound], id_array[sound], counts[sound]
    names = [m.name for m in format.modalities]
    return Matched(rows, id_array, counts, values, dict(zip(names, vector_begin[:, rows])))


@cache
def _headers(format: VideoLevel) -> tuple[list[_Header], list[_Header], list[_Header]]:
    return (
        [_Header(key, _BYTES_LIST) for key in format.id_keys],
        [] if format.labels_key is None else [_Header(format.labels_key, _INT64_LIST)],
        [_Header(m.key, _FLOAT_LIST, 4 * m.width) for m in format.modalities],
    )


def _walk(block: Block, headers: list[_Header]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Begin and length of each header's value in each record, i64[headers, n], -1 if absent;
    and whether the record consists of such entries only, bool[n]."""
    n = len(block.starts)
    begin, length = np.full((2, len(headers), n), -1)
    cursor, end, walking = _features_message(block)
    for _ in headers:
        anywhere = np.ndarray(
            (len(block.data) - _WINDOW_BYTES + 1,), f"V{_WINDOW_BYTES}", block.data, strides=(1,)
        )
        window = anywhere[np.where(walking, cursor, block.starts)].view(np.uint8)
        window = window.reshape(n, _WINDOW_BYTES)
        words = np.ascontiguousarray(window.view("<u8").T)
        step = np.zeros(n, np.int64)
        for i, header in enumerate(headers):
            value_bytes = header.value_lengths(window, words)
            # A repeated key stops the walk, so that the general parser refuses it.
            (hits,) = (walking & (value_bytes >= 0) & (begin[i] < 0)).nonzero()
            begin[i, hits] = cursor[hits] + header.bytes
            length[i, hits] = value_bytes[hits]
            step[hits] = header.bytes + value_bytes[hits]
        cursor += step
        walking &= (step > 0) & (cursor < end)
        if not walking.any():
            break
    return begin, length, cursor == end


def _features_message(block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Begin and end of the only field of each Example, i64[n] each, and whether it is so, bool[n].

    Real records end with `12 00`, the empty second field of a SequenceExample.
    """
    data, starts, stops = block.data, block.starts, block.stops
    tag, *lengths = (data[starts + i].astype(np.int64) for i in range(4))
    size = np.where(lengths[0] < 0x80, 1, np.where(lengths[1] < 0x80, 2, 3))
    value = lengths[0] & 0x7F
    value += np.where(size > 1, (lengths[1] & 0x7F) << 7, 0)
    value += np.where(size > 2, lengths[2] << 14, 0)
    begin = starts + 1 + size
    end = begin + value
    tail = (data[stops - 2] == 0x12) & (data[stops - 1] == 0)
    right = (tag == 0x0A) & ((size < 3) | (lengths[2] < 0x80))
    right &= (end == stops) | ((end == stops - 2) & tail)
    return begin, np.where(right, end, -1), right & (begin < end)


def _strings(
    data: np.ndarray, begin: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The strings as S[m], and whether a fixed width preserves them (no zero byte), bool[m]."""
    widest = int(size.max(initial=1))
    anywhere = np.ndarray((len(data) - widest + 1,), f"V{widest}", data, strides=(1,))
    letters = anywhere[begin].view(np.uint8).reshape(len(begin), widest)
    inside = np.arange(widest) < size[:, None]
    sound = ((letters != 0) | ~inside).all(1)
    letters[~inside] = 0
    return letters.view(f"S{widest}").reshape(len(begin)), sound


def _packed_varints(
    data: np.ndarray, begin: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of integers per row i64[m], all integers i32[sum], and row validity bool[m]."""
    # A last byte with the continuation bit is malformed.
    complete = (size == 0) | (data[begin + size - 1] < 0x80)
    size = np.where(complete, size, 0)
    after = size.cumsum()
    total = int(after[-1]) if len(after) else 0
    octets = data[np.arange(total) + np.repeat(begin - after + size, size)].astype(np.int64)
    last = octets < 0x80
    ends = np.concatenate([[0], last.cumsum()])
    counts = ends[after] - ends[after - size]
    if not total:
        return counts, np.empty(0, np.int32), complete
    first = np.concatenate([[0], last.nonzero()[0][:-1] + 1])
    place = np.arange(total) - np.repeat(first, np.diff(first, append=total))
    parts = np.where(place < 5, (octets & 0x7F) << (7 * np.minimum(place, 5)), 1 << 40)
    values = np.add.reduceat(parts, first)
    fits = np.ones(len(begin), bool)
    too_large = (values > np.iinfo(np.int32).max).nonzero()[0]
    fits[np.searchsorted(counts.cumsum(), too_large, side="right")] = False
    return counts, values.astype(np.int32), complete & fits
