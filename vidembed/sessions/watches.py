"""Open the watches of session files in DuckDB: ids as text, comparable times, no gaps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidembed.records import times
from vidembed.records.columns import NUL
from vidembed.records.tabular_files import Group, id_sql, is_parquet, path_of, prepare
from vidembed.sessions.session_files import SESSIONS, SessionError

IDS = ("session_id", "user_id", "video_id")
PLACE = "regexp_extract(filename, '([0-9]+)[.]parquet$', 1)::bigint, row"
"""SQL: order by file, then by row within the file."""

_MOST_MILLISECONDS = (2**63 - 1) // 1000


def open_events(database: Any, paths: Sequence[Path], folder: Path, columns: Sequence[str]) -> None:
    """Create the view `events` of the files: ids, `time` to order by, and `seconds` to measure.

    Times are neither truncated nor rounded, so they are equal only if written equal. Numbers are
    seconds, unless nearly all of them are times of the years 2000 to 2100 in another unit.
    folder: an empty folder for the prepared files. columns: the columns to read; without timestamp
    the view has no times. Raises SessionError, with file, row and value, for files that are not
    session files, timestamps of more than one kind, and watches without a value in a column.
    """
    ids = [name for name in columns if name in IDS]
    groups = prepare(paths, columns, ids, folder, SESSIONS)
    raw = _Raw(database, paths)
    database.execute("set TimeZone = 'UTC'")
    database.execute(f"create temp view raw as {_union(groups, paths, columns)}")
    ((total,),) = raw.ask("count(*)")
    if not total:
        where = f"{paths[0]}" if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        raise SessionError(f"{where}: holds no watches")
    if "timestamp" not in columns:
        database.execute("create temp view events as select * from raw")
        _refuse_missing(raw, total, ids, is_text=False)
        return
    at = columns.index("timestamp")
    time, kind = "timestamp", next(filter(None, (times.kind_of(g.types[at]) for g in groups)), None)
    is_text = kind == times.TEXT
    if is_text:
        time, kind = _read_text(raw)
    database.execute(f"create temp view timed as select *, {time} as time from raw")
    unit = _one_unit(raw, total) or "seconds" if kind in (times.NUMBERS, None) else None
    type_of_time = "select column_type from (describe timed) where column_name = 'time'"
    ((type_,),) = database.execute(type_of_time).fetchall()
    seconds = times.seconds_sql(unit, type_)
    database.execute(f"create temp view events as select *, {seconds} as seconds from timed")
    _refuse_missing(raw, total, [*ids, "time"], is_text=is_text)


class _Raw(NamedTuple):
    """The view of all rows of the files, for error messages that name a row."""

    database: Any
    paths: Sequence[Path]

    def ask(self, selection: str, where: str = "true", view: str = "raw") -> list[tuple[Any, ...]]:
        return self.database.execute(f"select {selection} from {view} where {where}").fetchall()

    def first(self, where: str, view: str = "raw", column: str = "timestamp") -> str:
        """File, row and value of the first row that meets the condition `where`."""
        fields = f"filename, row, {column}::varchar"
        ((file, row, cell),) = self.ask(fields, f"{where} order by {PLACE} limit 1", view)
        cell = "nothing" if cell is None else repr(cell)
        return f"{path_of(self.paths, file)}, row {row}: {column} {cell}"


def _union(groups: Sequence[Group], paths: Sequence[Path], columns: Sequence[str]) -> str:
    """SQL of all rows: ids, timestamp (cast to one type), filename, row."""
    by_name = [dict(zip(columns, group.types, strict=True)) for group in groups]
    stamps = [group_types.get("timestamp", pa.null()) for group_types in by_name]
    types = _check_one_kind(groups, paths, stamps)
    parts = []
    for group, group_types in zip(groups, by_name, strict=True):
        chosen = []
        for name, type_ in group_types.items():
            same = all(types_[name] == type_ for types_ in by_name)
            if name == "timestamp":
                sql = times.typed_sql(type_, types)
            elif name != "video_id" and same and pa.types.is_integer(type_):
                sql = name  # comparing integers is faster than text
            else:
                sql = id_sql(name, type_)
            chosen.append(f"{sql} as {name}")
        ready = ", ".join("'" + str(place).replace("'", "''") + "'" for place in group.places)
        parts.append(
            f"select {', '.join(chosen)}, filename, file_row_number as row from read_parquet("
            f"[{ready}], filename = true, file_row_number = true, hive_partitioning = false)"
        )
    return " union all ".join(parts)


def _check_one_kind(
    groups: Sequence[Group], paths: Sequence[Path], stamps: Sequence[pa.DataType]
) -> set[pa.DataType]:
    """The types of all timestamps; SessionError for other types and for types of two kinds."""
    known = [(g, type_) for g, type_ in zip(groups, stamps, strict=True) if type_ != pa.null()]
    types = {type_ for _, type_ in known}
    for group, type_ in known:
        first_group, first = known[0]
        path, kind = path_of(paths, str(group.places[0])), times.kind_of(type_)
        if kind is None:
            raise SessionError(
                f"{path}: timestamp must be a number, a date or a time with its date, found "
                f"{type_}: {times.HELP}"
            )
        if kind != times.kind_of(first) or not times.typed_sql(type_, {type_, first}):
            raise SessionError(
                f"{path}: timestamp is of type {type_}, and in "
                f"{path_of(paths, str(first_group.places[0]))} of type {first}: {times.HELP}"
            )
    return types


def refuse_beyond(paths: Sequence[Path]) -> None:
    """Raise SessionError at the first Parquet timestamp outside the range of microseconds."""
    for path in paths:
        with path.open("rb") as file:
            if not is_parquet(path, SESSIONS):
                continue
            parquet, row = pq.ParquetFile(file), 0
            if not pa.types.is_timestamp(parquet.schema_arrow.field("timestamp").type):
                continue
            for batch in parquet.iter_batches(columns=["timestamp"]):
                cells = batch.column(0)
                if cells.type.unit == "ms":  # Parquet has no seconds
                    numbers = pc.abs(cells.cast(pa.int64()))
                    at = pc.index(pc.greater(numbers, _MOST_MILLISECONDS), True).as_py()
                    if at >= 0:
                        raise SessionError(
                            f"{path}, row {row + at}: timestamp {cells[at].value} milliseconds "
                            "since 1970 is out of range: correct it"
                        )
                row += len(cells)


def _read_text(raw: _Raw) -> tuple[str, str]:
    """SQL that reads text timestamps, and their kind; SessionError for a mix of kinds."""
    known: dict[str, dict[str, times.Shape]] = {}
    for (text,) in sorted(raw.ask(f"distinct {times.SHAPE}", "timestamp is not null")):
        shape = times.shape_of(text)
        if shape.kind is None:
            raise SessionError(
                f"{raw.first(_has_shape(text))} is not a number, date or time (whether day or "
                f"month comes first is not guessed): {times.HELP}"
            )
        known.setdefault(shape.kind, {})[text] = shape
    absent = known.pop("", None)
    if not known:
        return "null::timestamp", times.LOCAL
    if len(known) > 1:
        samples = [(kind, next(iter(shapes))) for kind, shapes in known.items()]
        rows = [f"{raw.first(_has_shape(text))}, one of {kind}" for kind, text in samples[:2]]
        raise SessionError(f"timestamps of two kinds: {'; and '.join(rows)}: {times.HELP}")
    ((kind, shapes),) = known.items()
    sql = times.text_sql(kind, shapes.values())
    if sql is None:
        raise SessionError(
            f"{raw.first(_has_shape(max(shapes, key=len)))} has more digits than can be stored, "
            "and without them different times would look equal: shorten all timestamps alike"
        )
    return f"case when not {times.GONE} then {sql} end" if absent else sql, kind


def _has_shape(text: str) -> str:
    return f"{times.SHAPE} = '" + text.replace("'", "''") + "'"


def _refuse_missing(raw: _Raw, total: int, columns: Sequence[str], *, is_text: bool) -> None:
    is_null = {name: f"{name} is null" for name in columns}
    nul = "typeof({0}) = 'VARCHAR' and contains({0}::varchar, chr(0))"
    has_nul = {name: nul.format(name) for name in columns if name in IDS}
    counts = [f"count(*) filter (where {sql})" for sql in [*is_null.values(), *has_nul.values()]]
    (row_counts,) = raw.ask(", ".join(counts), view="events")
    for (name, sql), count in zip(has_nul.items(), row_counts[len(is_null) :], strict=True):
        if count:
            raise SessionError(f"{raw.first(sql, 'events', name)} {NUL}")
    row_counts = row_counts[: len(is_null)]
    for (name, sql), count in zip(is_null.items(), row_counts, strict=True):
        if not count:
            continue
        column = "timestamp" if name == "time" else name
        if name == "time" and is_text:
            wrong = f"time is null and not {times.GONE}"
            if raw.ask("1", f"{wrong} limit 1", "events"):
                where = raw.first(wrong, "events")
                raise SessionError(f"{where} does not exist as a time: correct it")
        raise SessionError(
            f"{count} of {total} watches have no {column} (or none that is UTF-8), the first in "
            f"{raw.first(sql, 'events', column)}; drop these rows, which cannot be counted without "
            "it"
        )


def _one_unit(raw: _Raw, total: int) -> str | None:
    """The unit in which nearly all numbers are times of the years 2000 to 2100, if any.

    Raises SessionError if there are two, such as seconds and milliseconds.
    """
    counts = [f"count(*) filter (where {times.unit_sql(unit)})" for unit in times.UNITS]
    (counts_by_unit,) = raw.ask(", ".join(counts), view="timed")
    units = [unit for unit, count in zip(times.UNITS, counts_by_unit, strict=True) if count]
    # Plain counters may pass through the ranges of several units, but fill the gaps between.
    if not units or 100 * sum(counts_by_unit) < 99 * total:
        return None
    if len(units) > 1:
        rows = [f"{raw.first(times.unit_sql(unit), 'timed')}, in {unit}" for unit in units[:2]]
        raise SessionError(
            f"timestamps of two units: {'; and '.join(rows)}, both between the years 2000 and "
            "2100: write all of them in one unit"
        )
    return units[0]
