"""Open a DuckDB database over session files: memory limits, and clear error messages."""

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
    """A DuckDB connection that uses at most `memory_limit`, and spills the rest to `spill`.

    sessions, paths: the input and its files, prepared in spill/files. Raises ValueError for an
    invalid memory limit, and SessionError if the database fails on the sessions.
    """
    with _explained(sessions, paths), duckdb.connect() as database:
        try:
            database.execute("set memory_limit = $1", [memory_limit])
        except duckdb.Error as error:
            raise ValueError(
                f"memory_limit is a size such as 2GB or 500MB, found {memory_limit!r}"
            ) from error
        database.execute("set temp_directory = $1", [str(spill)])
        # No query relies on the order of rows, and preserving it costs memory.
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
            reason = str(error).partition("\n")[0]  # the rest is advice on DuckDB's own settings
            raise SessionError(
                f"{sessions}: give a higher memory_limit (--memory-limit), fewer threads "
                f"(--threads), or a temp_directory with more free space: {reason}"
            ) from error
        if isinstance(error, OSError):
            raise
        if "Could not convert Timestamp" in str(error):
            refuse_beyond(paths)
        # DuckDB reads the files through numbered links; show the real paths.
        message = _LINK.sub(lambda link: str(paths[int(link[1])]), str(error))
        raise SessionError(f"{sessions}: cannot be read: {message}") from error
