"""Session files (session_id, timestamp, video_id): found, checked, opened in DuckDB."""

import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import xxhash

from vidembed.files import is_remote
from vidembed.records import tabular

COLUMNS = ("session_id", "timestamp", "video_id")
SORTABLE = ("TINY", "SMALL", "INT", "BIG", "HUGE", "DECIMAL", "FLOAT", "DOUBLE", "DATE", "TIME")


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
    path = Path(sessions)
    if path.is_dir():
        paths = sorted([*path.glob("*.parquet"), *path.glob("*.csv")])
    elif path.exists():
        paths = [path]
    else:
        paths = sorted(path.parent.glob(path.name)) if path.name else []
    if not paths:
        beside = sorted(other.name for other in path.parent.glob("*"))[:10]
        raise SessionError(
            f"{sessions}: no session file (Parquet or CSV) there; {path.parent} holds "
            f"{beside or 'nothing'}"
        )
    if len({tabular.is_csv(one) for one in paths}) > 1:
        raise SessionError(f"{sessions}: holds both CSV and Parquet; name one kind, as *.parquet")
    return paths


def open_events(database: Any, paths: list[Path]) -> None:
    """Make the view `events` of the files: session_id, timestamp, video_id as text, none missing.

    Raises SessionError for files that are no sessions, and for watches that lack one of the three.
    """
    names = [str(path) for path in paths]
    shown = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    # Ids may look like numbers; they are names.
    source, found = tabular.open_files(database, names, SESSIONS, text=("session_id", "video_id"))
    tabular.check_columns(shown, list(found), COLUMNS, SESSIONS)
    # First, because a column of an empty file has no type to speak of.
    if not source.select("1").limit(1).fetchall():
        raise SessionError(f"{shown}: holds no watches")
    if not found["timestamp"].upper().lstrip("U").startswith(SORTABLE):
        raise SessionError(
            f"{shown}: timestamp must be a number, a date or a time, found {found['timestamp']}"
        )
    source.select("session_id, timestamp, video_id::varchar as video_id").create_view("events")
    nan = " or isnan(timestamp)" if found["timestamp"] in ("FLOAT", "DOUBLE") else ""
    ((total, *nulls),) = database.execute(
        f"""
        select count(*),
            count(*) filter (session_id is null),
            count(*) filter (timestamp is null{nan}),
            count(*) filter (video_id is null or video_id = '')
        from events
        """
    ).fetchall()
    for name, count in zip(COLUMNS, nulls, strict=True):
        if count:
            raise SessionError(
                f"{shown}: {count} of {total} watches have no {name}; drop these rows, the order "
                "of a session cannot be told without them"
            )


def marks(paths: list[Path]) -> dict[str, Any]:
    """What the writers of the sessions said of them; one simulated file marks them all."""
    if tabular.is_csv(paths[0]):
        return {"simulated": False}
    said = [tabular.read_mark(path, pq.read_schema(path).metadata, SESSIONS) for path in paths]
    simulated = [mark for mark in said if mark.get("simulated", False)]
    return {"simulated": True, "simulation": simulated[0]} if simulated else {"simulated": False}


def digest(paths: list[Path]) -> str:
    """Hex digest of the files' bytes."""
    total = xxhash.xxh3_128()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                total.update(chunk)
    return total.hexdigest()
