"""Watch histories user by user, from files larger than memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vidembed.files import scratch_folder
from vidembed.records import tabular
from vidembed.sessions.database import session_database
from vidembed.sessions.session_files import KNOWN, SESSIONS, SessionError, session_files
from vidembed.sessions.watches import PLACE, open_events

ROWS_AT_ONCE = 1 << 16


class UserBlock(NamedTuple):
    """Histories of U users with H watches in all.

    users: S[U]; videos: S[H], user u has those from offsets[u] to offsets[u + 1], oldest first;
    offsets: i64[U + 1]; seconds: f64[H], or None for histories without times.
    """

    users: np.ndarray
    videos: np.ndarray
    offsets: np.ndarray
    seconds: np.ndarray | None


class UserHistories:
    """The histories in an open database; `users` and `watches` are their numbers."""

    def __init__(self, database: Any, *, timed: bool) -> None:
        self._database, self._timed = database, timed
        counted = "select count(distinct user_id), count(*) from events"
        ((self.users, self.watches),) = database.execute(counted).fetchall()

    def blocks(self) -> Iterator[UserBlock]:
        """All users in the order of their ids, in blocks of about `ROWS_AT_ONCE` watches.

        A user's history is never divided, so a block may be larger.
        """
        columns, order = ("seconds", "time, ") if self._timed else ("null::double as seconds", "")
        rows = self._database.sql(
            f"select user_id::varchar as user_id, video_id, {columns} from events "
            f"order by events.user_id, {order}{PLACE}"
        )
        pending: list[pa.RecordBatch] = []
        for batch in rows.to_arrow_reader(ROWS_AT_ONCE):
            users = batch.column("user_id").cast(pa.binary()).to_numpy(zero_copy_only=False)
            if not len(users):
                continue
            earlier_users = np.flatnonzero(users != users[-1])
            # The last user of the batch may continue in the next one.
            begin = int(earlier_users[-1]) + 1 if len(earlier_users) else 0
            if pending and pending[-1].column("user_id")[-1] != batch.column("user_id")[0]:
                yield self._block(pending)
                pending = []
            if begin:
                yield self._block([*pending, batch.slice(0, begin)])
                pending = []
            pending.append(batch.slice(begin))
        if pending:
            yield self._block(pending)

    def _block(self, batches: list[pa.RecordBatch]) -> UserBlock:
        table = pa.Table.from_batches(batches)
        users, videos = (_ids(table[name]) for name in ("user_id", "video_id"))
        starts = np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1]]))
        seconds = table["seconds"].to_numpy() if self._timed else None
        return UserBlock(users[starts], videos, np.append(starts, len(users)), seconds)


@contextmanager
def user_histories(
    place: str | os.PathLike[str],
    *,
    beside: str | os.PathLike[str],
    timed: bool,
    needs_times: bool = False,
    memory_limit: str = "2GB",
) -> Iterator[UserHistories]:
    """Open the histories in Parquet or CSV files with user_id, video_id, timestamp.

    place: a file, a folder or a glob pattern. timed: order watches by timestamp if the files have
    it (see `records.times`); ties, and files without timestamps, keep the order of the rows.
    needs_times: refuse files without timestamps. beside: the output path; data beyond
    `memory_limit` spills next to it. Raises SessionError, naming the file, if a file cannot be
    read or lacks a column, or a row lacks a value.
    """
    paths = session_files(place)
    columns = ["user_id", "video_id"]
    names = [tabular.column_names(path, SESSIONS, KNOWN) for path in paths]
    has_times = ["timestamp" in columns_of_file for columns_of_file in names]
    if (timed and any(has_times) and not all(has_times)) or (needs_times and not all(has_times)):
        raise SessionError(
            f"{paths[has_times.index(False)]}: column timestamp is missing"
            + (", which forgetting by time needs" if needs_times else ", which other files have")
        )
    for path, columns_of_file in zip(paths, names, strict=True):
        tabular.check_columns(path, columns_of_file, columns, SESSIONS)
    timed = timed and all(has_times)
    with (
        scratch_folder(beside, verb="recommend") as spill,
        session_database(place, paths, spill, memory_limit) as database,
    ):
        ready = Path(spill, "files")
        ready.mkdir()
        open_events(database, paths, ready, [*columns, "timestamp"] if timed else columns)
        yield UserHistories(database, timed=timed)


def _ids(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.cast(pa.binary()).to_pylist(), "S")
