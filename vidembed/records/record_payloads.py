"""Read the payloads of any rows from TFRecord files, through an index of their records.

The index knows the crc of each record, so a read checks that the payload is the one that was
indexed.
"""

import os
import threading
from collections.abc import Iterator, Sequence

import numpy as np
from etils import epath

from vidembed.records.crcs import HEADER, crc32c, mask
from vidembed.records.faults import RecordError
from vidembed.records.open_files import OpenFiles
from vidembed.records.record_index import RecordIndex

# Records this near to one another are read together, with what lies between them.
GAP_BYTES = 16 << 10
# Read, checked and copied at a time, so that the bytes are still in the processor's cache.
BUFFER_BYTES = 1 << 20
_CHANGED = "the file changed after it was indexed; restore it, or start again with the new file"


class Payloads:
    """Payloads of the rows of an index; safe to use from several threads."""

    def __init__(self, files: Sequence[epath.Path], index: RecordIndex) -> None:
        """files: the indexed files, which must be local."""
        self.index = index
        self._names = [os.fspath(file) for file in files]
        self._files = OpenFiles(self._names)
        self._scratch = threading.local()

    def blocks(
        self, rows: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """(numbers, rows, data, places): payload i is that of the numbers[i]-th of `rows` i64[n],
        rows[i], and begins at data[places[i]]. The next step overwrites data u8.

        Raises RecordError, naming file and record, for bytes that are not those that were indexed.
        """
        if not len(rows):
            return
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        file = np.searchsorted(self.index.first_rows, ordered, "right") - 1
        for first, last, data, places in self._in_buffers(ordered, file):
            self._check(ordered[first:last], file[first:last], data, places)
            yield order[first:last], ordered[first:last], data, places

    def _in_buffers(
        self, rows: np.ndarray, file: np.ndarray
    ) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """(first, last, data, places): payload i of rows[first:last], which ascend, begins at
        data[places[i]]. The next step overwrites data u8."""
        starts = self.index.starts[rows]
        stops = starts + self.index.sizes[rows]
        apart = (file[1:] != file[:-1]) | (starts[1:] - stops[:-1] > GAP_BYTES)
        apart |= starts[1:] // BUFFER_BYTES != starts[:-1] // BUFFER_BYTES
        heads = np.concatenate([[0], np.flatnonzero(apart) + 1, [len(rows)]])
        begin, end = starts[heads[:-1]], stops[heads[1:] - 1]
        after = np.cumsum(end - begin)
        fills = (after - 1) // BUFFER_BYTES
        cuts = np.concatenate([[0], np.flatnonzero(np.diff(fills)) + 1, [len(begin)]])
        for low, high in zip(cuts[:-1].tolist(), cuts[1:].tolist()):
            at = after[low:high] - (end - begin)[low:high]
            at -= at[0]
            data = self._buffer(int(at[-1] + end[high - 1] - begin[high - 1]))
            parts = (a[low:high].tolist() for a in (file[heads[:-1]], begin, end, heads[:-1]))
            for place, number, start, stop, head in zip(at.tolist(), *parts):
                if not self._files.fill(number, start, data[place : place + stop - start]):
                    fault = f"the file ends in it or before it: {_CHANGED}"
                    raise self.fault(int(rows[head]), number, fault)
            first, last = int(heads[low]), int(heads[high])
            shift = np.repeat(at - begin[low:high], np.diff(heads[low : high + 1]))
            yield first, last, data, starts[first:last] + shift

    def _check(
        self, rows: np.ndarray, file: np.ndarray, data: np.ndarray, places: np.ndarray
    ) -> None:
        ends = (places + self.index.sizes[rows]).tolist()
        crcs = [crc32c(data[begin:end]) for begin, end in zip(places.tolist(), ends)]
        wrong = mask(np.array(crcs, np.uint32)) != self.index.crcs[rows]
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            fault = f"its payload is not the one that was indexed: {_CHANGED}"
            raise self.fault(int(rows[row]), int(file[row]), fault)

    def _buffer(self, size: int) -> np.ndarray:
        """u8[size], the same memory for every call of a thread."""
        memory = getattr(self._scratch, "memory", None)
        if memory is None or len(memory) < size:
            memory = self._scratch.memory = np.empty(max(size, 2 * BUFFER_BYTES), np.uint8)
        return memory[:size]

    def fault(self, row: int, file: int, fault: str) -> RecordError:
        """The error for a row of a file, which it names with its place."""
        number = row - int(self.index.first_rows[file])
        offset = int(self.index.starts[row]) - HEADER.size
        video = bytes(self.index.ids[row]).decode(errors="replace")
        return RecordError(self._names[file], number, offset, f"video {video}: {fault}")
