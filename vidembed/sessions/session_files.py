"""Session files: find them, choose their columns, read their metadata.

A session file has `video_id`, and `session_id`, `user_id` or both. Without session_id, all watches
of a user are one session; without user_id, each session counts as a user of its own. Without
`timestamp`, sessions have no order.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import xxhash

from vidembed.files import is_remote
from vidembed.records import tabular
from vidembed.records.tabular_files import files_of, is_parquet

COLUMNS = ("session_id", "timestamp", "video_id")
KNOWN = ("session_id", "user_id", "timestamp", "video_id")


class SessionError(ValueError):
    """A session file that is damaged, incomplete or ambiguous."""


SESSIONS = tabular.Kind(
    what="Parquet or CSV sessions",
    give="a Parquet or CSV file, a folder or a pattern of them",
    refused=SessionError,
)


def session_files(sessions: str | os.PathLike[str]) -> list[Path]:
    """The sorted files of a path, folder or glob, all CSV or all Parquet; SessionError if none."""
    if is_remote(sessions):
        raise SessionError(
            f"{sessions}: is not on a local disk, and DuckDB reads only local files here: copy the "
            "sessions to this machine first, or mount the bucket"
        )
    paths = files_of(sessions, SESSIONS)
    if len({is_parquet(path, SESSIONS) for path in paths}) > 1:
        raise SessionError(
            f"{sessions}: holds both CSV and Parquet; select one kind, for example *.parquet"
        )
    return paths


def columns_of(paths: Sequence[Path], *, unordered: bool) -> list[str]:
    """The columns among `KNOWN` that all files have, in that order.

    Raises SessionError if the files differ in them, if a required one is missing, and, unless
    `unordered`, if timestamp is missing but another column looks like a time.
    """
    first: list[str] = []
    for path in paths:
        names = tabular.column_names(path, SESSIONS, KNOWN)
        columns = [name for name in KNOWN if name in names]
        if "video_id" not in columns or not {"session_id", "user_id"} & set(columns):
            tabular.check_columns(path, names, COLUMNS, SESSIONS)
        like_times = [name for name in names if _is_like_a_time(name)]
        if "timestamp" not in columns and like_times and not unordered:
            raise SessionError(
                f"{path}: column timestamp is missing, so the watches have no order; if it is "
                f"{' or '.join(like_times)}, rename it; if the order does not matter, give "
                "--unordered (unordered=True)"
            )
        first = first or columns
        if columns != first:
            raise SessionError(
                f"{path}: has the columns {', '.join(columns)}, and {paths[0]} has "
                f"{', '.join(first)}: give all files the same columns"
            )
    return first


def _is_like_a_time(name: str) -> bool:
    lower = name.lower()
    return "time" in lower or "date" in lower or lower == "ts" or lower.endswith("_at")


def marks(paths: Sequence[Path]) -> dict[str, Any]:
    """The `simulated` mark from the files' metadata; one simulated file marks them all."""
    if not is_parquet(paths[0], SESSIONS):
        return {"simulated": False}
    metadata = [tabular.read_mark(path, _metadata(path), SESSIONS) for path in paths]
    simulated = [mark for mark in metadata if mark.get("simulated", False)]
    return {"simulated": True, "simulation": simulated[0]} if simulated else {"simulated": False}


def digest(paths: Sequence[Path]) -> str:
    """Hex digest of the files' bytes."""
    total = xxhash.xxh3_128()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                total.update(chunk)
    return total.hexdigest()


def _metadata(path: Path) -> Mapping[bytes, bytes] | None:
    with path.open("rb") as file:  # Arrow accepts only UTF-8 file names
        return pq.read_schema(file).metadata
