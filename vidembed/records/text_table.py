"""CSV files: the dialect and header by a file's own first lines, and its rows as text.

No library guesses here. The delimiter is the one of `, ; tab |` that makes most of the wanted names
of the first line. Lines before it that are empty or begin with # are skipped, and no others; a #
before the names themselves (two of them at least) is left out. Where the names have
spaces around them, these are left out of all cells. Quotes follow RFC 4180: a cell is quoted as a
whole or not at all.
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
_BLOCK_BYTES = 1 << 22  # also the most that a row may have
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
"""What Arrow says, and what that means."""


class TextError(ValueError):
    """Text that is not read as a table; the message says why, but not in which file."""


@dataclass(frozen=True)
class Header:
    """names: of all columns, in order; spaced: whether there are spaces around the delimiters."""

    names: list[str]
    delimiter: str
    spaced: bool


def plain(file: BinaryIO) -> tuple[BinaryIO, bytes]:
    """The file at its beginning, uncompressed where it was compressed, and its first bytes."""
    head = file.read(8)
    file.seek(0)
    packed = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if packed is None:
        return file, head
    unpacked = io.BufferedReader(_Unpacked(pa.input_stream(file, compression=packed)), 1 << 16)
    return unpacked, unpacked.peek(8)[:8]


def read_header(file: BinaryIO, head: bytes, wanted: Collection[str]) -> Header:
    """Reads as far as the names of the columns; the file then stands at its first row.

    head: its first bytes, which are read again. Raises TextError for what is no text.
    """
    other = next((said for magic, said in _OTHERS.items() if head.startswith(magic)), None)
    if other:
        raise TextError(f"it is {other}")
    size = 0
    while line := file.readline(HEAD_BYTES):
        if b"\0" in line or len(line) == HEAD_BYTES:
            raise TextError("its first line is no text, or has no end")
        if b"\r" in line.rstrip(b"\r\n"):  # lines that end as on old Macs
            raise TextError("its lines end with a carriage return alone: save it with line feeds")
        size += len(line)
        text = _decoded(line.removeprefix(_BOM) if size == len(line) else line)
        if not text:
            continue
        bare = text.lstrip("#").strip()
        found = {mark: _cells(bare, mark) for mark in DELIMITERS}
        hits = {mark: len(set(wanted) & {*map(str.strip, found[mark])}) for mark in DELIMITERS}
        mark = max(DELIMITERS, key=lambda mark: (hits[mark], len(found[mark])))
        if text.startswith("#") and hits[mark] < min(2, len(wanted)):
            continue
        names = [cell.strip() for cell in found[mark]]
        return Header(names, mark, names != found[mark])
    raise TextError("it holds no header" if size else "it is empty")


def rows(file: BinaryIO, header: Header, columns: Collection[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a file that stands behind its header: these columns, as text, in this order.

    Rows count from 0; empty lines are left out. Raises TextError for a row with more or fewer cells
    than the header, a quote out of its place, and text in these columns that is not UTF-8.
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
                use_threads=False,  # rows have numbers then, and it takes no longer
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
        said = str(error)
        if broken := _BROKEN.search(said):
            row, expected, found, text = broken.groups()
            raise TextError(
                f"row {int(row) - 1}, {text[:_SHOWN]!r}, has {found} cells, and the header "
                f"{expected} ({', '.join(header.names)}): mend one of them"
            ) from error
        for sign, meaning in _SIGNS.items():
            said = meaning if sign in said else said
        raise TextError(said) from error


def _decoded(line: bytes) -> str:
    try:
        return line.decode().strip("\r\n ")
    except UnicodeDecodeError as error:
        raise TextError(f"its first line is not UTF-8: {line[:_SHOWN]!r}") from error


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


class _Unpacked(io.RawIOBase):
    """Arrow's stream of decompressed bytes, with the reading that Python's buffers ask for."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Quotes(io.RawIOBase):
    """Bytes on their way to Arrow, which would swallow rows where a quote is out of its place."""

    def __init__(self, file: BinaryIO, delimiter: str) -> None:
        self._file, self._held, self._seen, self._before = file, b"", 0, b"\n"
        self._outside = np.zeros(256, bool)
        self._outside[list(f"{delimiter}\r\n".encode())] = True
        self._open = False

    def readable(self) -> bool:
        return True

    def at_end(self) -> bool:
        """Whether nothing more comes."""
        self._held = self._held or self._file.read(1 << 16)
        return not self._held

    def read(self, size: int = -1) -> bytes:
        data = self._held or self._file.read(size)
        self._held = b""
        if b'"' in data or self._open:
            # A quote at the end is judged with what follows it.
            while data.endswith(b'"') and (more := self._file.read(1)):
                data += more
            self._check(data)
        self._seen += data.count(b"\n")
        self._before = data[-1:] or self._before
        return data

    def finish(self) -> None:
        """Nothing more comes: is a cell still open?"""
        if self._open:
            raise TextError("a quote is never closed, so that one cell would be all that follows")

    def _check(self, data: bytes) -> None:
        """Quotes open and close in turn; "" within a quoted cell closes it and opens it again."""
        octets = np.frombuffer(self._before + data + b"\n", np.uint8)
        places = np.flatnonzero(octets[1:-1] == ord('"')) + 1
        opening = (np.arange(len(places)) + self._open) % 2 == 0
        twin = np.diff(places, prepend=-1) == 1  # right behind another quote
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
                f"a quote stands within a cell, {line} lines below the header (near {around!r}): "
                'quote the whole cell, and write "" for each quote in it'
            )
        self._open = bool((len(places) + self._open) % 2)
