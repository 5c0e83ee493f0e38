"""Find many tabular files, larger than memory, and prepare them as one SQL relation.

DuckDB reads Parquet with its own types through links with plain names, so that it interprets no
pattern in a file name, no key=value in folder names, and guesses no dialect. CSV files, and times
that DuckDB would truncate, are first converted to Parquet.
"""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from vidembed.records import tabular
from vidembed.records.columns import is_id, is_text, refuse_id
from vidembed.records.tabular import LISTED, Kind


def files_of(place: str | os.PathLike[str], kind: Kind) -> list[Path]:
    """The files of a path, a folder or a glob, sorted, each once.

    A name that exists is never a pattern. A folder means all files in it at any depth, except those
    whose name or folder begins with . or _ (`_SUCCESS`). Several links to one file count once.
    Raises kind.refused if there is none.
    """
    path = Path(place)
    if path.exists():
        named = [path]
    else:
        named = [Path(name) for name in glob.glob(str(place), recursive=True)]
    files = {_identity(file): file for entry in sorted(named) for file in _within(entry)}
    if not files:
        beside = sorted(file.name for file in path.parent.glob("*"))[:LISTED]
        raise kind.refused(
            f"{place}: no session file (Parquet or CSV) there; {path.parent} holds "
            f"{beside or 'nothing'}; give {kind.give}"
        )
    for file in files.values():
        if not file.is_file():
            raise kind.refused(
                f"{file}: cannot be read twice (not a regular file); give {kind.give}"
            )
    return sorted(files.values())


def _identity(file: Path) -> object:
    try:
        status = file.stat()
    except OSError:
        return os.path.realpath(file)
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(file)


def _within(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    seen = set()
    for folder, below, names in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = [] if real in seen else sorted(name for name in below if name[0] not in "._")
        if real not in seen:
            yield from (Path(folder, name) for name in names if name[0] not in "._")
        seen.add(real)


class Group(NamedTuple):
    """Prepared Parquet files whose columns have the same types."""

    types: tuple[pa.DataType, ...]
    places: list[Path]


def is_parquet(path: Path, kind: Kind) -> bool:
    """Whether a file begins with Parquet's magic bytes."""
    with tabular.reading(path, kind), path.open("rb") as file:
        return file.read(4) == tabular.PARQUET


def prepare(
    paths: Sequence[Path], columns: Sequence[str], ids: Sequence[str], folder: Path, kind: Kind
) -> list[Group]:
    """Make Parquet files `NUMBER.parquet` in a folder, one per path, with these columns.

    They are links if possible. ids: columns that must hold ids. Raises kind.refused for files that
    cannot be read, lack a column or have it twice, and for ids of other types.
    """
    groups: dict[tuple[pa.DataType, ...], list[Path]] = {}
    for number, path in enumerate(paths):
        ready = folder / f"{number}.parquet"
        if is_parquet(path, kind):
            types = _link(path, columns, ready, kind)
        else:
            with path.open("rb") as file:
                _write(ready, tabular.read_batches(path, file, kind, columns), columns)
            types = (pa.string(),) * len(columns)
        for name, type_ in zip(columns, types, strict=True):
            if name in ids and not is_id(type_):
                raise refuse_id(path, name, type_, kind)
        groups.setdefault(types, []).append(ready)
    return [Group(types, places) for types, places in groups.items()]


def path_of(paths: Sequence[Path], ready: str) -> Path:
    """The original path of a prepared file."""
    return paths[int(Path(ready).stem)]


def id_sql(name: str, type_: pa.DataType) -> str:
    """SQL for a column of ids as text, null if missing."""
    quoted = f'"{name}"'
    if is_text(type_) and "binary" in str(type_):
        return f"nullif(try(decode({quoted})), '')"
    return f"nullif({quoted}::varchar, '')"


def _link(path: Path, columns: Sequence[str], ready: Path, kind: Kind) -> tuple[pa.DataType, ...]:
    with tabular.reading(path, kind), path.open("rb") as file:
        parquet = pq.ParquetFile(file)
        schema, stored = parquet.schema_arrow, parquet.schema
        tabular.check_columns(path, schema.names, columns, kind)
        physical = {
            stored.column(i).path: stored.column(i).physical_type for i in range(len(stored))
        }
        if any(
            physical.get(name) == "INT96" for name in columns
        ):  # DuckDB would truncate nanoseconds
            _write(ready, parquet.iter_batches(columns=list(columns)), columns)
        else:
            ready.symlink_to(path.absolute())
    return tuple(schema.field(name).type for name in columns)


def _write(ready: Path, batches: Iterable[pa.RecordBatch], columns: Sequence[str]) -> None:
    writer = None
    try:
        for batch in batches:
            options = {"compression": "lz4", "use_dictionary": False}
            writer = writer or pq.ParquetWriter(ready, batch.schema, **options)
            writer.write_batch(batch)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        pq.write_table(pa.table({name: pa.array([], pa.string()) for name in columns}), ready)
