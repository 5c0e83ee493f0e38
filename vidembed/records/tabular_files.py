"""Tabular files by the hundred, larger than memory: found, and made ready for one SQL relation.

DuckDB reads Parquet by its own types, from links of plain names: so it sees no pattern in a file's
name, no key=value in the folders above it, and no dialect to guess. CSV, and times that it would
cut, become Parquet on the way.
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
    """The files that a path, a folder or a glob names, sorted, each once.

    What exists is never a pattern, whatever its name. A folder means all files in it, at any depth,
    but those whose names or folders begin with . or _ (`_SUCCESS`); two names of one file, by
    links, are one. Raises kind.refused where there is none.
    """
    path = Path(place)
    if path.exists():
        named = [path]
    else:
        named = [Path(name) for name in glob.glob(str(place), recursive=True)]
    files = {_identity(file): file for one in sorted(named) for file in _within(one)}
    if not files:
        beside = sorted(other.name for other in path.parent.glob("*"))[:LISTED]
        raise kind.refused(
            f"{place}: no session file (Parquet or CSV) there; {path.parent} holds "
            f"{beside or 'nothing'}; give {kind.give}"
        )
    for file in files.values():
        if not file.is_file():
            raise kind.refused(f"{file}: is no file that can be read twice; give {kind.give}")
    return sorted(files.values())


def _identity(file: Path) -> object:
    try:
        found = file.stat()
    except OSError:
        return os.path.realpath(file)
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(file)


def _within(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    seen = set()
    for folder, below, names in os.walk(path, followlinks=True):
        here = os.path.realpath(folder)
        below[:] = [] if here in seen else sorted(name for name in below if name[0] not in "._")
        if here not in seen:
            yield from (Path(folder, name) for name in names if name[0] not in "._")
        seen.add(here)


class Group(NamedTuple):
    """Files whose columns are of equal types, as Parquet that DuckDB reads as it is."""

    types: tuple[pa.DataType, ...]
    places: list[Path]


def is_parquet(path: Path, kind: Kind) -> bool:
    """Whether a file begins as Parquet does."""
    with tabular.reading(path, kind), path.open("rb") as file:
        return file.read(4) == tabular.PARQUET


def prepare(
    paths: Sequence[Path], columns: Sequence[str], ids: Sequence[str], folder: Path, kind: Kind
) -> list[Group]:
    """Parquet files `NUMBER.parquet` in a folder, one for each path, which hold these columns.

    They are links where that will do. ids: columns that must hold ids. Raises kind.refused for
    files that cannot be read, lack a column or have it twice, and for ids of other types.
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
        for name, found in zip(columns, types, strict=True):
            if name in ids and not is_id(found):
                raise refuse_id(path, name, found, kind)
        groups.setdefault(types, []).append(ready)
    return [Group(types, places) for types, places in groups.items()]


def path_of(paths: Sequence[Path], ready: str) -> Path:
    """The path whose file was made ready there."""
    return paths[int(Path(ready).stem)]


def id_sql(name: str, found: pa.DataType) -> str:
    """SQL for a column of ids as text, null where it is missing."""
    quoted = f'"{name}"'
    if is_text(found) and "binary" in str(found):
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
        if any(physical.get(name) == "INT96" for name in columns):  # DuckDB would cut nanoseconds
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
