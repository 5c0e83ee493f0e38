"""The watches of session files, opened in DuckDB: ids as text, times by one rule, none missing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidembed.records.columns import NUL
from vidembed.records.tabular_files import Group, id_sql, is_parquet, path_of, prepare
from vidembed.sessions import times
from vidembed.sessions.session_files import SESSIONS, SessionError

IDS = ("session_id", "user_id", "video_id")
PLACE = "regexp_extract(filename, '([0-9]+)[.]parquet$', 1)::bigint, row"
"""SQL: the order in which rows stand in the files."""

_MOST_MILLISECONDS = (2**63 - 1) // 1000


def open_events(database: Any, paths: Sequence[Path], folder: Path, columns: Sequence[str]) -> None:
    """Make the view `events` of the files: their ids, `time`, and `seconds` to measure it by.

    Equal times are equal as they were written: nothing is cut or rounded. Numbers are seconds,
    unless nearly all of them are times of the years 2000 to 2100 in another unit. folder: an empty
    one, in which the files are made ready. columns: those to read; without timestamp there is no
    time. Raises SessionError for files that are no sessions, timestamps of more than one kind, and
    watches that lack one of the columns; each with file, row and value.
    """
    ids = [name for name in columns if name in IDS]
    groups = prepare(paths, columns, ids, folder, SESSIONS)
    raw = _Raw(database, paths)
    database.execute("set TimeZone = 'UTC'")
    database.execute(f"create temp view raw as {_union(groups, paths, columns)}")
    ((total,),) = raw.ask("count(*)")
    if not total:
        shown = f"{paths[0]}" if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        raise SessionError(f"{shown}: holds no watches")
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
    ((found,),) = database.execute(type_of_time).fetchall()
    seconds = times.seconds_sql(unit, found)
    database.execute(f"create temp view events as select *, {seconds} as seconds from timed")
    _refuse_missing(raw, total, [*ids, "time"], is_text=is_text)


class _Raw(NamedTuple):
    """The rows of the files, before anything is left out, in a view of a database."""

    database: Any
    paths: Sequence[Path]

    def ask(self, what: str, where: str = "true", view: str = "raw") -> list[tuple[Any, ...]]:
        return self.database.execute(f"select {what} from {view} where {where}").fetchall()

    def first(self, where: str, view: str = "raw", column: str = "timestamp") -> str:
        """File, row and value of the first row of which that is true."""
        found = f"filename, row, {column}::varchar"
        ((file, row, cell),) = self.ask(found, f"{where} order by {PLACE} limit 1", view)
        cell = "nothing" if cell is None else repr(cell)
        return f"{path_of(self.paths, file)}, row {row}: {column} {cell}"


def _union(groups: Sequence[Group], paths: Sequence[Path], columns: Sequence[str]) -> str:
    """SQL of all rows: the ids, timestamp (of one type), filename, row."""
    by_name = [dict(zip(columns, group.types, strict=True)) for group in groups]
    types = _one_kind(groups, paths, [found.get("timestamp", pa.null()) for found in by_name])
    parts = []
    for group, found in zip(groups, by_name, strict=True):
        chosen = []
        for name, type_ in found.items():
            same = all(other[name] == type_ for other in by_name)
            if name == "timestamp":
                sql = times.typed_sql(type_, types)
            elif name != "video_id" and same and pa.types.is_integer(type_):
                sql = name  # compared as it is, which is faster
            else:
                sql = id_sql(name, type_)
            chosen.append(f"{sql} as {name}")
        ready = ", ".join("'" + str(place).replace("'", "''") + "'" for place in group.places)
        parts.append(
            f"select {', '.join(chosen)}, filename, file_row_number as row from read_parquet("
            f"[{ready}], filename = true, file_row_number = true, hive_partitioning = false)"
        )
    return " union all ".join(parts)


def _one_kind(
    groups: Sequence[Group], paths: Sequence[Path], found: Sequence[pa.DataType]
) -> set[pa.DataType]:
    """The types of all timestamps; refuses files where they are none, or not of one kind."""
    known = [(g, type_) for g, type_ in zip(groups, found, strict=True) if type_ != pa.null()]
    types = {type_ for _, type_ in known}
    for group, type_ in known:
        begun, first = known[0]
        path, kind = path_of(paths, str(group.places[0])), times.kind_of(type_)
        if kind is None:
            raise SessionError(
                f"{path}: timestamp must be a number, a date or a time with its date, found "
                f"{type_}: {times.HELP}"
            )
        if kind != times.kind_of(first) or not times.typed_sql(type_, {type_, first}):
            raise SessionError(
                f"{path}: timestamp is of type {type_}, and in "
                f"{path_of(paths, str(begun.places[0]))} of type {first}: {times.HELP}"
            )
    return types


def refuse_beyond(paths: Sequence[Path]) -> None:
    """SessionError for the first Parquet file with times that microseconds do not reach, if any."""
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
                            "since 1970 is no time that there is: mend it"
                        )
                row += len(cells)


def _read_text(raw: _Raw) -> tuple[str, str]:
    """SQL that reads timestamps which are text, and their kind; SessionError for a mix."""
    known: dict[str, dict[str, times.Shape]] = {}
    for (text,) in sorted(raw.ask(f"distinct {times.SHAPE}", "timestamp is not null")):
        shape = times.shape_of(text)
        if shape.kind is None:
            raise SessionError(
                f"{raw.first(_has_shape(text))} is no number, date or time (whether the day or the "
                f"month comes first is not guessed): {times.HELP}"
            )
        known.setdefault(shape.kind, {})[text] = shape
    gone = known.pop("", None)
    if not known:
        return "null::timestamp", times.LOCAL
    if len(known) > 1:
        some = [(kind, next(iter(shapes))) for kind, shapes in known.items()]
        said = [f"{raw.first(_has_shape(text))}, of the {kind}" for kind, text in some[:2]]
        raise SessionError(f"{'; and '.join(said)}: {times.HELP}")
    ((kind, shapes),) = known.items()
    sql = times.text_sql(kind, shapes.values())
    if sql is None:
        raise SessionError(
            f"{raw.first(_has_shape(max(shapes, key=len)))} has more digits than can be kept, and "
            "without them watches would seem to be at the same time: shorten them all alike"
        )
    return f"case when not {times.GONE} then {sql} end" if gone else sql, kind


def _has_shape(text: str) -> str:
    return f"{times.SHAPE} = '" + text.replace("'", "''") + "'"


def _refuse_missing(raw: _Raw, total: int, columns: Sequence[str], *, is_text: bool) -> None:
    lacks = {name: f"{name} is null" for name in columns}
    nul = "typeof({0}) = 'VARCHAR' and contains({0}::varchar, chr(0))"
    holds = {name: nul.format(name) for name in columns if name in IDS}
    counts = [f"count(*) filter (where {sql})" for sql in [*lacks.values(), *holds.values()]]
    (found,) = raw.ask(", ".join(counts), view="events")
    for (name, sql), count in zip(holds.items(), found[len(lacks) :], strict=True):
        if count:
            raise SessionError(f"{raw.first(sql, 'events', name)} {NUL}")
    found = found[: len(lacks)]
    for (name, sql), count in zip(lacks.items(), found, strict=True):
        if not count:
            continue
        column = "timestamp" if name == "time" else name
        if name == "time" and is_text:
            wrong = f"time is null and not {times.GONE}"
            if raw.ask("1", f"{wrong} limit 1", "events"):
                where = raw.first(wrong, "events")
                raise SessionError(f"{where} is no time that there is: mend it")
        raise SessionError(
            f"{count} of {total} watches have no {column} (or none that is UTF-8), the first in "
            f"{raw.first(sql, 'events', column)}; drop these rows, who watched what and when "
            "cannot be told without them"
        )


def _one_unit(raw: _Raw, total: int) -> str | None:
    """The unit by which nearly all numbers are times of today, if there is one.

    Raises SessionError where there are two, as seconds and milliseconds.
    """
    counts = [f"count(*) filter (where {times.unit_sql(unit)})" for unit in times.UNITS]
    (found,) = raw.ask(", ".join(counts), view="timed")
    units = [unit for unit, count in zip(times.UNITS, found, strict=True) if count]
    # Numbers that only count on may run through the years of two units, but not jump over.
    if not units or 100 * sum(found) < 99 * total:
        return None
    if len(units) > 1:
        said = [f"{raw.first(times.unit_sql(unit), 'timed')}, in {unit}" for unit in units[:2]]
        raise SessionError(
            f"{'; and '.join(said)}: as dates both lie between 2000 and 2100; write all of them "
            "in one unit"
        )
    return units[0]
