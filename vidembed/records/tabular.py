"""Read tabular files, Parquet or CSV, and the metadata of files written by vidembed.

The first bytes of a file determine its kind, never its name. Columns are found by name, in any
order. CSV is read as text (`text_table` defines the dialect), Parquet with its own types, which
`columns` converts to ids and numbers. A file written by vidembed records in its schema how it was
made (its mark), and a digest of its rows and mark, because Parquet does not detect flipped bits.
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
# Arrow raises UnicodeDecodeError when it converts column names that are not UTF-8.
_ARROW_FAULTS = (pa.ArrowException, UnicodeDecodeError, TextError)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The expected content of a file, in the words of messages, and the exception to raise."""

    what: str
    """Completes "cannot be read as ..."."""
    give: str
    """Completes "give ..." if there is no such file."""
    refused: type[ValueError]


@contextmanager
def reading(path: epath.PathLike, kind: Kind) -> Iterator[None]:
    """Turn faults of a file, but not of disk or network, into `kind.refused` with its name."""
    try:
        yield
    except (*_ARROW_FAULTS, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a fault of disk or network, not of the file
        raise kind.refused(f"{path}: cannot be read as {kind.what}: {error}") from error


def read_table(
    path: epath.Path, kind: Kind, columns: Sequence[str] = (), optional: Collection[str] = ()
) -> pa.Table:
    """Read one file, local or in a bucket: `columns`, and those of `optional` that it has.

    Without either, reads all columns of a Parquet file. The schema metadata holds mark and digest
    of a file written by vidembed. Raises as `reading` does, and if there is no file, or a column is
    missing or occurs twice.
    """
    with reading(path, kind):
        exists, is_folder = path.exists(), path.is_dir()
    if is_folder:
        raise kind.refused(f"{path}: is a folder; give {kind.give}")
    if not exists:
        beside = sorted(file.name for file in path.parent.glob("*"))[:LISTED] or "nothing"
        raise kind.refused(f"{path}: no such file; {path.parent} holds {beside}; give {kind.give}")
    with reading(path, kind), path.open("rb") as file:
        plain, head = text_table.plain(file)
        if head.startswith(PARQUET) and plain is file:
            table = _read_parquet(file)
            chosen = _choose(path, table.column_names, columns, optional, kind)
            return table.select(chosen) if columns or optional else table
        if not columns and not optional:
            raise TextError("it is not a Parquet file")
        header = text_table.read_header(plain, head, [*columns, *optional])
        chosen = _choose(path, header.names, columns, optional, kind)
        if not chosen:
            return pa.table({})
        text = pa.schema([(name, pa.string()) for name in chosen])
        return pa.Table.from_batches(text_table.rows(plain, header, chosen), text)


def column_names(path: epath.PathLike, kind: Kind, known: Collection[str]) -> list[str]:
    """All column names of a local file; `known` columns help to detect a CSV file's header."""
    with reading(path, kind), open(path, "rb") as file:
        plain, head = text_table.plain(file)
        if head.startswith(PARQUET) and plain is file:
            return list(pq.read_schema(file).names)
        return text_table.read_header(plain, head, known).names


def read_batches(
    path: epath.PathLike, file: BinaryIO, kind: Kind, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Read columns of a CSV file of any size as text; raises as `read_table` does."""
    with reading(path, kind):
        plain, head = text_table.plain(file)
        header = text_table.read_header(plain, head, columns)
        chosen = _choose(path, header.names, columns, (), kind)
        yield from text_table.rows(plain, header, chosen)


def _choose(
    path: epath.PathLike,
    names: Sequence[str],
    columns: Sequence[str],
    optional: Collection[str],
    kind: Kind,
) -> list[str]:
    check_columns(path, names, columns, kind)
    chosen = [*columns, *(name for name in optional if name in names)]
    check_columns(path, names, chosen, kind)
    return chosen


def _read_parquet(file: BinaryIO) -> pa.Table:
    """The table, with its digest (b"" if a fault in the footer hides it) in the metadata."""
    parquet = pq.ParquetFile(file, page_checksum_verification=True)
    table, metadata = parquet.read(), parquet.metadata.metadata or {}
    file.seek(-8, io.SEEK_END)
    file.seek(-8 - int.from_bytes(file.read(4), "little"), io.SEEK_END)
    if DIGEST_KEY in file.read():
        digest = {DIGEST_KEY: metadata.get(DIGEST_KEY, b"")}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **digest})
    return table


def check_columns(
    path: epath.PathLike, names: Sequence[str], expected: Sequence[str], kind: Kind
) -> None:
    """Refuse a file whose columns `names` lack an expected one, or have it twice."""
    missing = [name for name in expected if name not in names]
    if missing:
        raise kind.refused(
            f"{path}: column {', '.join(missing)} is missing; expected {', '.join(expected)}, "
            f"found {', '.join(names)}"
        )
    lower = [name.lower() for name in names]
    for name in expected:
        if lower.count(name.lower()) > 1:
            raise kind.refused(
                f"{path}: column {name} occurs {lower.count(name.lower())} times (found "
                f"{', '.join(names)}): drop or rename all but one"
            )


def read_mark(
    path: epath.PathLike, metadata: Mapping[bytes, bytes] | None, kind: Kind
) -> dict[str, Any]:
    """The mark in the schema of a Parquet file written by vidembed; empty for foreign files.

    Refuses a file with other content under the metadata key.
    """
    text = (metadata or {}).get(METADATA_KEY, b"{}")
    try:
        mark = json.loads(text)
    except ValueError:
        mark = None
    if not isinstance(mark, dict):
        raise kind.refused(
            f"{path}: its metadata {METADATA_KEY.decode()!r} is not JSON as vidembed writes it, "
            f"found {text[:60]!r}: rewrite the file without that key"
        )
    return mark


def check_digest(path: epath.PathLike, table: pa.Table, remedy: str, kind: Kind) -> None:
    """Refuse a file written by vidembed whose rows or mark have changed since."""
    stored = table.schema.metadata or {}
    if DIGEST_KEY in stored and stored[DIGEST_KEY] != digest_of(table):
        raise kind.refused(
            f"{path}: is damaged: its rows or its metadata are not what was written. " + remedy
        )


def digest_of(table: pa.Table) -> bytes:
    """Digest of a table's rows and its mark."""
    digest = RowsDigest((table.schema.metadata or {}).get(METADATA_KEY, b""))
    for batch in table.to_batches():
        digest.update(batch)
    return digest.hexdigest()


def marked(table: pa.Table, mark: Mapping[str, Any]) -> pa.Table:
    """The table with a description of its origin, and the digest of both, as its metadata."""
    metadata = {METADATA_KEY: json.dumps(mark).encode()}
    table = table.replace_schema_metadata(metadata)
    return table.replace_schema_metadata({**metadata, DIGEST_KEY: digest_of(table)})


class RowsDigest:
    """A digest updated batch by batch while writing or reading, independent of batch sizes.

    mark: the text of the file's metadata, which the digest covers too.
    """

    def __init__(self, mark: bytes) -> None:
        self._columns = {"mark": xxhash.xxh3_64(mark)}

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the next rows: columns of text, and of numbers, which are hashed as f64."""
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
        """The digest of everything added so far."""
        total = xxhash.xxh3_128()
        for name, column in sorted(self._columns.items()):
            total.update(f"{name} {column.hexdigest()}\n".encode())
        return total.hexdigest().encode()

    def _add(self, name: str, octets: bytes | memoryview) -> None:
        self._columns.setdefault(name, xxhash.xxh3_64()).update(octets)
