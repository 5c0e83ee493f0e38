"""A database for session files larger than memory: its limits, and its errors in words."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from vidembed.sessions.session_files import SessionError
from vidembed.sessions.watches import refuse_beyond

_LINK = re.compile(r"[^\s\"']*/files/(\d+)[.]parquet")


@contextmanager
def session_database(
    sessions: str | os.PathLike[str],
    paths: Sequence[Path],
    spill: Path,
    memory_limit: str,
    threads: int | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that holds `memory_limit` in memory, and the rest in the folder `spill`.

    sessions, paths: what is read, made ready in spill/files. Raises ValueError for a memory limit
    that is none, and SessionError for what the database cannot do with the sessions.
    """
    with _explained(sessions, paths), duckdb.connect() as database:
        try:
            database.execute("set memory_limit = $1", [memory_limit])
        except duckdb.Error as error:
            raise ValueError(
                f"memory_limit is a size as 2GB or 500MB, found {memory_limit!r}"
            ) from error
        database.execute("set temp_directory = $1", [str(spill)])
        # Nothing here relies on the order of rows; keeping it costs memory.
        database.execute("set preserve_insertion_order = false")
        if threads is not None:
            database.execute("set threads = $1", [threads])
        yield database


@contextmanager
def _explained(sessions: str | os.PathLike[str], paths: Sequence[Path]) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as error:
        # While results are read as Arrow batches, DuckDB's errors arrive as an OSError.
        if "Out of Memory" in str(error):
            reason = str(error).partition("\n")[0]  # then DuckDB gives advice in its terms
            raise SessionError(
                f"{sessions}: give a higher memory_limit (--memory-limit), fewer threads "
                f"(--threads), or a temp_directory with more room: {reason}"
            ) from error
        if isinstance(error, OSError):
            raise
        if "Could not convert Timestamp" in str(error):
            refuse_beyond(paths)
        # The database knows the files by the names of links.
        said = _LINK.sub(lambda link: str(paths[int(link[1])]), str(error))
        raise SessionError(f"{sessions}: cannot be read: {said}") from error
