"""The one reader of tabular files, Parquet or CSV, and what ours say of themselves.

A file of ours says in its schema how it was made (its mark), and bears a digest of its rows and of
that: Parquet notices no flipped bit.
"""

import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import xxhash
from etils import epath

METADATA_KEY, DIGEST_KEY = b"vidembed", b"vidembed_digest"
LISTED = 10
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
# Text that is none shows where Arrow hands it to Python: in names of columns.
_ARROW_FAULTS = (pa.ArrowException, UnicodeDecodeError)


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


def read_table(path: epath.Path, kind: Kind, *, text: Collection[str] = ()) -> pa.Table:
    """One file, local or in a bucket: Parquet, or CSV with a header, which may be compressed.

    text: columns that a CSV file's numbers are not read as numbers in. The schema's metadata holds
    mark and digest of a file of ours. Raises what `reading` raises, and where there is no file.
    """
    with reading(path, kind):
        there, is_folder = path.exists(), path.is_dir()
    if is_folder:
        raise kind.refused(f"{path}: is a folder; give {kind.give}")
    if not there:
        beside = sorted(other.name for other in path.parent.glob("*"))[:LISTED] or "nothing"
        raise kind.refused(f"{path}: no such file; {path.parent} holds {beside}; give {kind.give}")
    with reading(path, kind), path.open("rb") as file:
        packed = COMPRESSIONS.get(path.suffix)
        if (path.with_suffix("") if packed else path).suffix != ".csv":
            return _read_parquet(file)
        options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string()))
        plain = pa.input_stream(file, compression=packed)
        return pyarrow.csv.read_csv(plain, convert_options=options)


def _read_parquet(file: Any) -> pa.Table:
    """The table, with its digest (b"" where a fault of the footer hides it) in the metadata."""
    parquet = pq.ParquetFile(file, page_checksum_verification=True)
    table, said = parquet.read(), parquet.metadata.metadata or {}
    file.seek(-8, io.SEEK_END)
    file.seek(-8 - int.from_bytes(file.read(4), "little"), io.SEEK_END)
    if DIGEST_KEY in file.read():
        digest = {DIGEST_KEY: said.get(DIGEST_KEY, b"")}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **digest})
    return table


def open_files(
    database: Any, paths: Sequence[str], kind: Kind, *, text: Collection[str]
) -> tuple[Any, dict[str, str]]:
    """Local files, larger than memory where need be, as a DuckDB relation; its columns' types."""
    import duckdb  # 70 ms, which who reads a table need not wait for

    shown = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    try:
        if is_csv(paths[0]):
            header = database.read_csv(paths, header=True, all_varchar=True).columns
            known = {name: "VARCHAR" for name in text if name in header}
            found = database.read_csv(paths, header=True, dtype=known)
        else:
            found = database.read_parquet(paths)
        return found, dict(zip(found.columns, map(str, found.types), strict=True))
    except duckdb.Error as error:
        raise kind.refused(f"{shown}: cannot be read as {kind.what}: {error}") from error


def is_csv(path: epath.PathLike) -> bool:
    """Whether a file is read as CSV, compressed or not."""
    return ".csv" in epath.Path(path).suffixes


def check_columns(
    path: epath.PathLike, found: Sequence[str], wanted: Sequence[str], kind: Kind
) -> None:
    """Refuse a file that lacks one of the wanted columns."""
    missing = [name for name in wanted if name not in found]
    if missing:
        raise kind.refused(
            f"{path}: column {', '.join(missing)} is missing; expected {', '.join(wanted)}, "
            f"found {', '.join(found)}"
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
