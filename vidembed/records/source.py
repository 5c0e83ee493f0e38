"""TFRecord shards as a random-access source for Grain.

Shuffling needs no buffer and resuming is exact, because an element is a pure function of its index:
`grain.MapDataset.source(RecordSource("data/*.tfrecord")).seed(0).shuffle()`.
"""

import operator
from bisect import bisect_right
from functools import partial
from itertools import accumulate
from os import PathLike
from typing import SupportsIndex

from vidembed.records.crcs import FOOTER, HEADER, crc32c, length_is_sound, mask
from vidembed.records.faults import RecordError, Skips
from vidembed.records.offsets import read_offsets
from vidembed.records.remote import read_range, requests_to
from vidembed.records.shards import shards


class RecordSource:
    """The records of all shards, in the order of the sorted shards; element i is one payload.

    pattern, skips: as in `shards` and `read_records`; opening builds missing indexes. An element
    whose bytes have changed since then raises RecordError, also with `skips`, because elements of a
    random-access source cannot disappear. In a bucket each element takes one request.
    """

    def __init__(self, pattern: str | PathLike[str], *, skips: Skips | None = None) -> None:
        self.pattern = str(pattern)
        self._paths = shards(pattern)
        with requests_to(pattern) as pool:
            self._offsets = list(pool.map(partial(read_offsets, skips=skips), self._paths))
        self._after = list(accumulate(len(offsets.starts) for offsets in self._offsets))
        if not len(self):
            raise ValueError(f"the files of {self.pattern!r} hold no readable records")

    def __len__(self) -> int:
        return self._after[-1]

    def __getitem__(self, index: SupportsIndex) -> bytes:
        record = operator.index(index)
        if not -len(self) <= record < len(self):
            raise IndexError(f"record {record} of {len(self)}")
        record %= len(self)
        shard = bisect_right(self._after, record)
        row = record - (self._after[shard - 1] if shard else 0)
        start, stop, number = (int(column[row]) for column in self._offsets[shard])
        framed = read_range(self._paths[shard], start, stop)
        payload = framed[HEADER.size : -FOOTER.size]
        if not _is_sound(framed, payload):
            fault = "it does not agree with its crcs: the shard was damaged or replaced after"
            fault += " this source was opened; fetch it again, or reopen the source"
            raise RecordError(self._paths[shard], number, start, fault)
        return payload

    def __repr__(self) -> str:
        # Grain stores this text in its checkpoints.
        return f"RecordSource({self.pattern!r}, records={len(self)})"


def _is_sound(framed: bytes, payload: bytes) -> bool:
    """Whether the bytes are one record with this payload and two valid crcs."""
    if len(framed) < HEADER.size + FOOTER.size:
        return False
    length, length_crc = HEADER.unpack_from(framed)
    (crc,) = FOOTER.unpack_from(framed, len(framed) - FOOTER.size)
    sound = length == len(payload) and length_is_sound(length, length_crc)
    return sound and mask(crc32c(payload)) == crc
