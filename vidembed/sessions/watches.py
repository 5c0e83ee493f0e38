"""Session files (session_id, timestamp, video_id): found, checked, opened in DuckDB."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from vidembed.files import is_remote
from vidembed.records import tabular
from vidembed.records.tabular_files import Group, files_of, id_sql, is_parquet, path_of, prepare
from vidembed.sessions import times

COLUMNS = ("session_id", "timestamp", "video_id")
IDS = ("session_id", "video_id")
_PLACE = "regexp_extract(filename, '([0-9]+)[.]parquet$', 1)::bigint, row"


class SessionError(ValueError):
    """A session file that must not be used as it is."""


SESSIONS = tabular.Kind(
    what="Parquet or CSV sessions",
    give="a Parquet or CSV file, a folder or a pattern of them",
    refused=SessionError,
)


def session_files(sessions: str | os.PathLike[str]) -> list[Path]:
    """The files that a path, folder or glob names, sorted, of one kind; SessionError if none."""
    if is_remote(sessions):
        raise SessionError(
            f"{sessions}: is not on a local disk, and DuckDB counts on local files only: copy the "
            "sessions here first, or mount the bucket"
        )
    paths = files_of(sessions, SESSIONS)
    if len({is_parquet(path, SESSIONS) for path in paths}) > 1:
        raise SessionError(f"{sessions}: holds both CSV and Parquet; name one kind, as *.parquet")
    return paths


def open_events(database: Any, paths: Sequence[Path], folder: Path) -> None:
    """Make the view `events` of the files: session_id, time, video_id as text, none missing.

    Equal times are equal as they were written: nothing is cut or rounded. folder: an empty one, in
    which the files are made ready. Raises SessionError for files that are no sessions, timestamps
    of more than one kind, and watches that lack one of the three; each with file, row and value.
    """
    groups = prepare(paths, COLUMNS, IDS, folder, SESSIONS)
    raw = _Raw(database, paths)
    database.execute("set TimeZone = 'UTC'")
    database.execute(f"create temp view raw as {_union(groups, paths)}")
    ((total,),) = raw.ask("count(*)")
    if not total:
        shown = f"{paths[0]}" if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        raise SessionError(f"{shown}: holds no watches")
    time, kind = "timestamp", next(filter(None, (times.kind_of(g.types[1]) for g in groups)), None)
    is_text = kind == times.TEXT
    if is_text:
        time, kind = _read_text(raw)
    database.execute(f"create temp view events as select *, {time} as time from raw")
    _refuse_missing(raw, total, is_text=is_text)
    if kind == times.NUMBERS:
        _refuse_units(raw, total)


class _Raw(NamedTuple):
    """The rows of the files, before anything is left out, in a view of a database."""

    database: Any
    paths: Sequence[Path]

    def ask(self, what: str, where: str = "true", view: str = "raw") -> list[tuple[Any, ...]]:
        return self.database.execute(f"select {what} from {view} where {where}").fetchall()

    def first(self, where: str, view: str = "raw", column: str = "timestamp") -> str:
        """File, row and value of the first row of which that is true."""
        found = f"filename, row, {column}::varchar"
        ((file, row, cell),) = self.ask(found, f"{where} order by {_PLACE} limit 1", view)
        cell = "nothing" if cell is None else repr(cell)
        return f"{path_of(self.paths, file)}, row {row}: {column} {cell}"


def _union(groups: Sequence[Group], paths: Sequence[Path]) -> str:
    """SQL of all rows: session_id, timestamp (of one type), video_id, filename, row."""
    types = _one_kind(groups, paths)
    sessions = {group.types[0] for group in groups}
    stays = len(sessions) == 1 and pa.types.is_integer(next(iter(sessions)))
    parts = []
    for group in groups:
        ready = ", ".join("'" + str(place).replace("'", "''") + "'" for place in group.places)
        session = "session_id" if stays else id_sql("session_id", group.types[0])
        parts.append(
            f"select {session} as session_id, {times.typed_sql(group.types[1], types)} as "
            f"timestamp, {id_sql('video_id', group.types[2])} as video_id, filename, "
            f"file_row_number as row from read_parquet([{ready}], filename = true, "
            "file_row_number = true, hive_partitioning = false)"
        )
    return " union all ".join(parts)


def _one_kind(groups: Sequence[Group], paths: Sequence[Path]) -> set[pa.DataType]:
    """The types of all timestamps; refuses files where they are none, or not of one kind."""
    known = [group for group in groups if not pa.types.is_null(group.types[1])]
    types = {group.types[1] for group in known}
    for group in known:
        first, found = known[0].types[1], group.types[1]
        path = path_of(paths, str(group.places[0]))
        if times.kind_of(found) is None:
            raise SessionError(
                f"{path}: timestamp must be a number, a date or a time with its date, found "
                f"{found}: {times.HELP}"
            )
        if times.kind_of(found) != times.kind_of(first) or not times.typed_sql(found, types):
            raise SessionError(
                f"{path}: timestamp is of type {found}, and in "
                f"{path_of(paths, str(known[0].places[0]))} of type {first}: {times.HELP}"
            )
    return types


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


def _refuse_missing(raw: _Raw, total: int, *, is_text: bool) -> None:
    lacks = {name: f"{name} is null" for name in ("session_id", "time", "video_id")}
    counts = [f"count(*) filter (where {sql})" for sql in lacks.values()]
    (found,) = raw.ask(", ".join(counts), view="events")
    for (name, sql), count in zip(lacks.items(), found, strict=True):
        if not count:
            continue
        column = "timestamp" if name == "time" else name
        if name == "time" and is_text:
            wrong = f"time is null and not {times.GONE}"
            if raw.ask("1", f"{wrong} limit 1", "events"):
                raise SessionError(
                    f"{raw.first(wrong, 'events')} is no time that there is: mend it"
                )
        raise SessionError(
            f"{count} of {total} watches have no {column} (or none that is UTF-8), the first in "
            f"{raw.first(sql, 'events', column)}; drop these rows, the order of a session cannot "
            "be told without them"
        )


def _refuse_units(raw: _Raw, total: int) -> None:
    """Refuse numbers that are times of today by two units, as seconds and milliseconds."""
    counts = [f"count(*) filter (where {times.unit_sql(unit)})" for unit in times.UNITS]
    (found,) = raw.ask(", ".join(counts), view="events")
    units = [unit for unit, count in zip(times.UNITS, found, strict=True) if count]
    # Numbers that only count on may run through the years of two units, but not jump over.
    if len(units) > 1 and 100 * sum(found) >= 99 * total:
        said = [f"{raw.first(times.unit_sql(unit), 'events')}, in {unit}" for unit in units[:2]]
        raise SessionError(
            f"{'; and '.join(said)}: as dates both lie between 2000 and 2100; write all of them "
            "in one unit"
        )


def marks(paths: Sequence[Path]) -> dict[str, Any]:
    """What the writers of the sessions said of them; one simulated file marks them all."""
    if not is_parquet(paths[0], SESSIONS):
        return {"simulated": False}
    said = [tabular.read_mark(path, pq.read_schema(path).metadata, SESSIONS) for path in paths]
    simulated = [mark for mark in said if mark.get("simulated", False)]
    return {"simulated": True, "simulation": simulated[0]} if simulated else {"simulated": False}


def digest(paths: Sequence[Path]) -> str:
    """Hex digest of the files' bytes."""
    total = xxhash.xxh3_128()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                total.update(chunk)
    return total.hexdigest()
