"""Read CSV files as text, with the dialect and header taken from the first lines.

No library guesses here. The delimiter is that of `, ; tab |` which yields most of the expected
names in the header line. Before the header only empty lines and lines beginning with # are
skipped; a # before the names themselves (at least two of them) is removed. If the names have spaces
around them, spaces are stripped from all cells. Quotes follow RFC 4180: a cell is quoted as a whole
or not at all.
"""

import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

DELIMITERS = ",;\t|"
HEAD_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 22  # also the maximum size of a row
_SHOWN = 80
_BOM = b"\xef\xbb\xbf"
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_OTHERS = {
    b"PK\x03\x04": "a zip archive or a spreadsheet (.xlsx): unpack it, or save it as CSV",
    b"\xfd7zXZ": "compressed with xz: unpack it",
    b"\xff\xfe\0\0": "text in UTF-32: save it as UTF-8",
    b"\0\0\xfe\xff": "text in UTF-32: save it as UTF-8",
    b"\xff\xfe": "text in UTF-16: save it as UTF-8",
    b"\xfe\xff": "text in UTF-16: save it as UTF-8",
    b"{": "JSON: save it as CSV or Parquet",
    b"[": "JSON: save it as CSV or Parquet",
    b"Obj\1": "Avro: save it as CSV or Parquet",
    b"ARROW1": "Arrow or Feather: save it as CSV or Parquet",
    b"PAR1": "a compressed Parquet file: unpack it",
}


_BROKEN = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)
_SIGNS = {
    "UTF8": "its text is not UTF-8 in a column that is read: save it as UTF-8",
    "straddling": f"a row is longer than {_BLOCK_BYTES >> 20} MiB: is a quote never closed?",
}
"""A word in Arrow's message → its meaning."""


class TextError(ValueError):
    """Text that cannot be read as a table; the message gives the reason, but not the file."""


@dataclass(frozen=True)
class Header:
    """The header of a CSV file.

    names: of all columns, in order; spaced: whether there are spaces around the delimiters.
    """

    names: list[str]
    delimiter: str
    spaced: bool


def plain(file: BinaryIO) -> tuple[BinaryIO, bytes]:
    """The file from its beginning, decompressed if needed, and its first bytes."""
    head = file.read(8)
    file.seek(0)
    packed = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if packed is None:
        return file, head
    unpacked = io.BufferedReader(_Unpacked(pa.input_stream(file, compression=packed)), 1 << 16)
    return unpacked, unpacked.peek(8)[:8]


def read_header(file: BinaryIO, head: bytes, expected: Collection[str]) -> Header:
    """Read the header; the file is then positioned at its first row.

    head: the first bytes, which are read again. expected: column names that the header may hold.
    Raises TextError for files that are not text.
    """
    other_kind = next((kind for magic, kind in _OTHERS.items() if head.startswith(magic)), None)
    if other_kind:
        raise TextError(f"it is {other_kind}")
    size = 0
    while line := file.readline(HEAD_BYTES):
        if b"\0" in line or len(line) == HEAD_BYTES:
            raise TextError("its first line is not text, or has no end")
        if b"\r" in line.rstrip(b"\r\n"):  # line ends of old Macs
            raise TextError("its lines end with only a carriage return: save it with line feeds")
        size += len(line)
        text = _decoded(line.removeprefix(_BOM) if size == len(line) else line)
        if not text:
            continue
        bare = text.lstrip("#").strip()
        cells = {mark: _cells(bare, mark) for mark in DELIMITERS}
        hits = {mark: len(set(expected) & {*map(str.strip, cells[mark])}) for mark in DELIMITERS}
        mark = max(DELIMITERS, key=lambda mark: (hits[mark], len(cells[mark])))
        if text.startswith("#") and hits[mark] < min(2, len(expected)):
            continue
        names = [cell.strip() for cell in cells[mark]]
        return Header(names, mark, names != cells[mark])
    raise TextError("it holds no header" if size else "it is empty")


def rows(file: BinaryIO, header: Header, columns: Collection[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a file positioned after its header: these columns, as text, in this order.

    Rows count from 0; empty lines are skipped. Raises TextError for a row with more or fewer cells
    than the header, a misplaced quote, and text in these columns that is not UTF-8.
    """
    names = [f"{place} {name}" for place, name in enumerate(header.names)]
    chosen = [names[header.names.index(name)] for name in columns]
    text = pa.schema([(name, pa.string()) for name in columns])
    checked = _Quotes(file, header.delimiter)
    try:
        if checked.at_end():
            return
        batches = pa.csv.open_csv(
            pa.PythonFile(checked, mode="r"),
            read_options=pa.csv.ReadOptions(
                column_names=names,
                block_size=_BLOCK_BYTES,
                use_threads=False,  # keeps row numbers, and is not slower
            ),
            parse_options=pa.csv.ParseOptions(delimiter=header.delimiter, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                include_columns=chosen,
                column_types=dict.fromkeys(chosen, pa.string()),
                strings_can_be_null=False,
            ),
        )
        for batch in batches:
            cells = batch.columns
            if header.spaced:
                cells = [pc.utf8_trim_whitespace(column) for column in cells]
            yield pa.record_batch(cells, schema=text)
        checked.finish()
    except pa.ArrowInvalid as error:
        message = str(error)
        if broken := _BROKEN.search(message):
            row, expected, count, text = broken.groups()
            raise TextError(
                f"row {int(row) - 1}, {text[:_SHOWN]!r}, has {count} cells, but the header has "
                f"{expected} ({', '.join(header.names)}): correct one of them"
            ) from error
        for sign, meaning in _SIGNS.items():
            message = meaning if sign in message else message
        raise TextError(message) from error


def _decoded(line: bytes) -> str:
    try:
        return line.decode().strip("\r\n ")
    except UnicodeDecodeError as error:
        raise TextError(f"its first line is not UTF-8: {line[:_SHOWN]!r}") from error


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


class _Unpacked(io.RawIOBase):
    """Arrow's stream of decompressed bytes, adapted for Python's buffered readers."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Quotes(io.RawIOBase):
    """Checks quotes in the bytes that Arrow reads: Arrow would lose rows at a misplaced quote."""

    def __init__(self, file: BinaryIO, delimiter: str) -> None:
        self._file, self._held, self._seen, self._before = file, b"", 0, b"\n"
        self._outside = np.zeros(256, bool)
        self._outside[list(f"{delimiter}\r\n".encode())] = True
        self._open = False

    def readable(self) -> bool:
        return True

    def at_end(self) -> bool:
        """Whether the file has no more bytes."""
        self._held = self._held or self._file.read(1 << 16)
        return not self._held

    def read(self, size: int = -1) -> bytes:
        data = self._held or self._file.read(size)
        self._held = b""
        if b'"' in data or self._open:
            # Check a quote at the end together with the byte after it.
            while data.endswith(b'"') and (more := self._file.read(1)):
                data += more
            self._check(data)
        self._seen += data.count(b"\n")
        self._before = data[-1:] or self._before
        return data

    def finish(self) -> None:
        """Check at the end of the file that no quoted cell is open."""
        if self._open:
            raise TextError("a quote is never closed, so one cell would span the rest of the file")

    def _check(self, data: bytes) -> None:
        """Quotes open and close in turn; "" within a quoted cell closes it and opens it again."""
        octets = np.frombuffer(self._before + data + b"\n", np.uint8)
        places = np.flatnonzero(octets[1:-1] == ord('"')) + 1
        opening = (np.arange(len(places)) + self._open) % 2 == 0
        twin = np.diff(places, prepend=-1) == 1  # right after another quote
        good = np.where(
            opening,
            self._outside[octets[places - 1]] | twin,
            self._outside[octets[places + 1]] | np.append(twin[1:], False),
        )
        if not good.all():
            at = int(places[np.argmin(good)])
            line = 1 + self._seen + int(np.count_nonzero(octets[1:at] == ord("\n")))
            around = bytes(octets[max(1, at - 30) : at + 30]).decode(errors="replace")
            raise TextError(
                f"a quote in an unquoted cell, {line} lines below the header (near {around!r}): "
                'quote the whole cell, and write "" for each quote in it'
            )
        self._open = bool((len(places) + self._open) % 2)
