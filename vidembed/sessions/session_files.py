"""Session files: found, their columns chosen, and what their writers said of them.

A session file has `video_id`, and `session_id`, `user_id` or both. Where a file has no session_id,
all that a user watched is one session; where it has no user_id, each session is a user of its own.
A file without `timestamp` has no order.
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


def columns_of(paths: Sequence[Path], *, unordered: bool) -> list[str]:
    """Those of `KNOWN` that all files have, in that order.

    Raises SessionError where files differ in them, where one that is needed is missing, and for
    files without a timestamp that seem to have one by another name, unless they count as unordered.
    """
    first: list[str] = []
    for path in paths:
        names = tabular.column_names(path, SESSIONS, KNOWN)
        found = [name for name in KNOWN if name in names]
        if "video_id" not in found or not {"session_id", "user_id"} & set(found):
            tabular.check_columns(path, names, COLUMNS, SESSIONS)
        like_times = [name for name in names if _is_like_a_time(name)]
        if "timestamp" not in found and like_times and not unordered:
            raise SessionError(
                f"{path}: column timestamp is missing, so that the watches have no order; if it is "
                f"{' or '.join(like_times)}, rename it; if the order does not matter, give "
                "--unordered (unordered=True)"
            )
        first = first or found
        if found != first:
            raise SessionError(
                f"{path}: has the columns {', '.join(found)}, and {paths[0]} has "
                f"{', '.join(first)}: give all files the same ones"
            )
    return first


def _is_like_a_time(name: str) -> bool:
    lower = name.lower()
    return "time" in lower or "date" in lower or lower == "ts" or lower.endswith("_at")


def marks(paths: Sequence[Path]) -> dict[str, Any]:
    """What the writers of the sessions said of them; one simulated file marks them all."""
    if not is_parquet(paths[0], SESSIONS):
        return {"simulated": False}
    said = [tabular.read_mark(path, _metadata(path), SESSIONS) for path in paths]
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


def _metadata(path: Path) -> Mapping[bytes, bytes] | None:
    with path.open("rb") as file:  # Arrow takes names in UTF-8 alone
        return pq.read_schema(file).metadata
