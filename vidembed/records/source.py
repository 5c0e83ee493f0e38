"""TFRecord shards as random-access sources for Grain: by record, or by runs of records.

Shuffling needs no buffer and resuming is exact, because an element is a pure function of its index:
`grain.MapDataset.source(RecordSource("data/*.tfrecord")).seed(0).shuffle()`. Where every read is a
request (`gs://`), one element is a run of about 64 consecutive records, read by one request.
"""

import operator
from bisect import bisect_right
from functools import partial
from itertools import accumulate
from os import PathLike
from typing import SupportsIndex

from vidembed.records.faults import OnError, RecordError, Skips
from vidembed.records.framing import FOOTER, HEADER, crc32c, length_is_sound, mask
from vidembed.records.offsets import read_offsets
from vidembed.records.remote import read_range, requests_to
from vidembed.records.shards import shards


class RecordSource:
    """The records of all shards, in the order of the sorted shards; element i is one payload.

    pattern, index_folder, on_error, skips: as in `shards`, `read_offsets` and `read_records`;
    opening builds the indexes that are not there yet. An element whose bytes have changed since
    raises RecordError, under on_error="skip" too: elements cannot vanish from a random access.
    """

    def __init__(
        self,
        pattern: str | PathLike[str],
        *,
        index_folder: str | PathLike[str] | None = None,
        on_error: OnError = "error",
        skips: Skips | None = None,
    ) -> None:
        self._runs = RunSource(
            pattern, run_records=1, index_folder=index_folder, on_error=on_error, skips=skips
        )

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: SupportsIndex) -> bytes:
        return self._runs[index][0]

    def __repr__(self) -> str:
        # Grain names a source by it in its checkpoints.
        return f"RecordSource({self._runs.pattern!r}, records={len(self)})"


class RunSource:
    """Runs of at most `run_records` consecutive records of one shard: element i is a list of
    payloads. See RecordSource; shuffle the runs, then the records within a window of a few."""

    def __init__(
        self,
        pattern: str | PathLike[str],
        *,
        run_records: int = 64,
        index_folder: str | PathLike[str] | None = None,
        on_error: OnError = "error",
        skips: Skips | None = None,
    ) -> None:
        if run_records < 1:
            raise ValueError(f"run_records is {run_records}; it must be at least 1")
        if on_error == "skip" and skips is None:
            skips = Skips()  # one limit for all shards
        self.pattern, self.run_records = str(pattern), run_records
        self._paths = shards(pattern)
        opened = partial(read_offsets, folder=index_folder, on_error=on_error, skips=skips)
        with requests_to(pattern) as pool:
            self._offsets = list(pool.map(opened, self._paths))
        runs = [-(-len(offsets.starts) // run_records) for offsets in self._offsets]
        self._after = list(accumulate(runs))
        self.records = sum(len(offsets.starts) for offsets in self._offsets)
        if not self.records:
            raise ValueError(f"the files of {self.pattern!r} hold no readable record")

    def __len__(self) -> int:
        return self._after[-1]

    def __getitem__(self, index: SupportsIndex) -> list[bytes]:
        run = operator.index(index)
        if not -len(self) <= run < len(self):
            raise IndexError(f"run {run} of {len(self)}")
        run %= len(self)
        shard = bisect_right(self._after, run)
        first = (run - (self._after[shard - 1] if shard else 0)) * self.run_records
        starts, stops, numbers = (
            column[first : first + self.run_records].tolist() for column in self._offsets[shard]
        )
        data = read_range(self._paths[shard], starts[0], stops[-1])
        payloads = []
        for start, stop, number in zip(starts, stops, numbers):
            framed = data[start - starts[0] : stop - starts[0]]
            payload = framed[HEADER.size : -FOOTER.size]
            if not _is_sound(framed, payload):
                fault = "it does not agree with its crcs: the shard was damaged or replaced after"
                fault += " this source was opened; fetch it again, or open the source anew"
                raise RecordError(self._paths[shard], number, start, fault)
            payloads.append(payload)
        return payloads

    def __repr__(self) -> str:
        return f"RunSource({self.pattern!r}, runs={len(self)}, records={self.records})"


def _is_sound(framed: bytes, payload: bytes) -> bool:
    """Whether the bytes are one record, with both its crcs, around this payload."""
    if len(framed) < HEADER.size + FOOTER.size:
        return False
    length, length_crc = HEADER.unpack_from(framed)
    (crc,) = FOOTER.unpack_from(framed, len(framed) - FOOTER.size)
    sound = length == len(payload) and length_is_sound(length, length_crc)
    return sound and mask(crc32c(payload)) == crc
