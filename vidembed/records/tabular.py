"""The one reader of tabular files, Parquet or CSV, and what ours say of themselves.

What a file is stands in its first bytes, never in its name. Columns go by name in each file,
whatever their order. CSV is read as text (`text_table` has its dialect), Parquet by its own types,
which `columns` makes ids and numbers of. A file of ours says in its schema how it was made (its
mark), and bears a digest of its rows and of that: Parquet notices no flipped bit.
"""

import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from etils import epath

from vidembed.records import text_table
from vidembed.records.text_table import TextError

METADATA_KEY, DIGEST_KEY = b"vidembed", b"vidembed_digest"
LISTED = 10
PARQUET = b"PAR1"
# Text that is none shows where Arrow hands it to Python: in names of columns.
_ARROW_FAULTS = (pa.ArrowException, UnicodeDecodeError, TextError)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a file is meant to hold, as messages say it, and the error that they are."""

    what: str
    """It cannot be read as ..."""
    give: str
    """Where there is none, give ..."""
    refused: type[ValueError]


@contextmanager
def reading(path: epath.PathLike, kind: Kind) -> Iterator[None]:
    """Turns faults of a file, but not of the disk or the network, into an error with its name."""
    try:
        yield
    except (*_ARROW_FAULTS, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk or the network, and no fault of the file
        raise kind.refused(f"{path}: cannot be read as {kind.what}: {error}") from error


def read_table(
    path: epath.Path, kind: Kind, columns: Sequence[str] = (), optional: Collection[str] = ()
) -> pa.Table:
    """One file, local or in a bucket: these columns and those of the optional ones that it has.

    Without either, all columns of a Parquet file. The schema's metadata holds mark and digest of a
    file of ours. Raises what `reading` raises, and where there is no file, a column is missing or
    there twice.
    """
    with reading(path, kind):
        there, is_folder = path.exists(), path.is_dir()
    if is_folder:
        raise kind.refused(f"{path}: is a folder; give {kind.give}")
    if not there:
        beside = sorted(other.name for other in path.parent.glob("*"))[:LISTED] or "nothing"
        raise kind.refused(f"{path}: no such file; {path.parent} holds {beside}; give {kind.give}")
    with reading(path, kind), path.open("rb") as file:
        plain, head = text_table.plain(file)
        if head.startswith(PARQUET) and plain is file:
            table = _read_parquet(file)
            chosen = _choose(path, table.column_names, columns, optional, kind)
            return table.select(chosen) if columns or optional else table
        if not columns and not optional:
            raise TextError("it is no Parquet file")
        header = text_table.read_header(plain, head, [*columns, *optional])
        chosen = _choose(path, header.names, columns, optional, kind)
        if not chosen:
            return pa.table({})
        text = pa.schema([(name, pa.string()) for name in chosen])
        return pa.Table.from_batches(text_table.rows(plain, header, chosen), text)


def column_names(path: epath.PathLike, kind: Kind, known: Collection[str]) -> list[str]:
    """The names of all columns of a local file; `known` are those that a CSV file may have."""
    with reading(path, kind), open(path, "rb") as file:
        plain, head = text_table.plain(file)
        if head.startswith(PARQUET) and plain is file:
            return list(pq.read_schema(file).names)
        return text_table.read_header(plain, head, known).names


def read_batches(
    path: epath.PathLike, file: BinaryIO, kind: Kind, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """The columns of a CSV file of any size, as text; raises as `read_table` does."""
    with reading(path, kind):
        plain, head = text_table.plain(file)
        header = text_table.read_header(plain, head, columns)
        chosen = _choose(path, header.names, columns, (), kind)
        yield from text_table.rows(plain, header, chosen)


def _choose(
    path: epath.PathLike,
    found: Sequence[str],
    columns: Sequence[str],
    optional: Collection[str],
    kind: Kind,
) -> list[str]:
    check_columns(path, found, columns, kind)
    chosen = [*columns, *(name for name in optional if name in found)]
    check_columns(path, found, chosen, kind)
    return chosen


def _read_parquet(file: BinaryIO) -> pa.Table:
    """The table, with its digest (b"" where a fault of the footer hides it) in the metadata."""
    parquet = pq.ParquetFile(file, page_checksum_verification=True)
    table, said = parquet.read(), parquet.metadata.metadata or {}
    file.seek(-8, io.SEEK_END)
    file.seek(-8 - int.from_bytes(file.read(4), "little"), io.SEEK_END)
    if DIGEST_KEY in file.read():
        digest = {DIGEST_KEY: said.get(DIGEST_KEY, b"")}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **digest})
    return table


def check_columns(
    path: epath.PathLike, found: Sequence[str], wanted: Sequence[str], kind: Kind
) -> None:
    """Refuse a file that lacks one of the wanted columns, or has one of them twice."""
    missing = [name for name in wanted if name not in found]
    if missing:
        raise kind.refused(
            f"{path}: column {', '.join(missing)} is missing; expected {', '.join(wanted)}, "
            f"found {', '.join(found)}"
        )
    lower = [name.lower() for name in found]
    for name in wanted:
        if lower.count(name.lower()) > 1:
            raise kind.refused(
                f"{path}: column {name} stands there {lower.count(name.lower())} times (found "
                f"{', '.join(found)}): drop or rename all but one"
            )


def read_mark(
    path: epath.PathLike, metadata: Mapping[bytes, bytes] | None, kind: Kind
) -> dict[str, Any]:
    """What the writer of a Parquet file said of it in its schema; empty for other people's files.

    Refuses a file where something else stands under our key.
    """
    text = (metadata or {}).get(METADATA_KEY, b"{}")
    try:
        mark = json.loads(text)
    except ValueError:
        mark = None
    if not isinstance(mark, dict):
        raise kind.refused(
            f"{path}: its metadata {METADATA_KEY.decode()!r} is not JSON as vidembed writes it, "
            f"found {text[:60]!r}: write the file anew without that key"
        )
    return mark


def check_digest(path: epath.PathLike, table: pa.Table, remedy: str, kind: Kind) -> None:
    """Refuse a file of ours whose rows or mark are not what was written."""
    stored = table.schema.metadata or {}
    if DIGEST_KEY in stored and stored[DIGEST_KEY] != digest_of(table):
        raise kind.refused(
            f"{path}: is damaged: its rows, or what it says of them, are not what was written. "
            + remedy
        )


def digest_of(table: pa.Table) -> bytes:
    """Of a table's rows and of its mark."""
    digest = RowsDigest((table.schema.metadata or {}).get(METADATA_KEY, b""))
    for batch in table.to_batches():
        digest.update(batch)
    return digest.hexdigest()


class RowsDigest:
    """Taken up batch by batch, on the way to the disk and from it; batches may differ in size.

    mark: the text of the file's metadata, which is covered, too.
    """

    def __init__(self, mark: bytes) -> None:
        self._columns = {"mark": xxhash.xxh3_64(mark)}

    def update(self, batch: pa.RecordBatch) -> None:
        """The next rows: columns of text, and of numbers, which count as f64."""
        for name, column in zip(batch.schema.names, batch.columns):
            if not pa.types.is_string(column.type):
                numbers = column.to_numpy(zero_copy_only=False)
                self._add(name, numbers.astype("<f8").tobytes())
            elif len(column):
                _, ends, letters = column.buffers()
                ends = np.frombuffer(ends, "<i4")[column.offset :][: len(column) + 1]
                self._add(f"{name} lengths", np.diff(ends).tobytes())
                self._add(name, memoryview(letters or b"")[ends[0] : ends[-1]])

    def hexdigest(self) -> bytes:
        """Of all that was taken up."""
        total = xxhash.xxh3_128()
        for name, column in sorted(self._columns.items()):
            total.update(f"{name} {column.hexdigest()}\n".encode())
        return total.hexdigest().encode()

    def _add(self, name: str, octets: bytes | memoryview) -> None:
        self._columns.setdefault(name, xxhash.xxh3_64()).update(octets)
