"""What each user watched, one user after the other, from files larger than memory."""

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
    """users: S[U]; videos: S[H], of user u those from offsets[u] to offsets[u + 1], oldest first;
    offsets: i64[U + 1]; seconds: f64[H], or None where times were not asked for."""

    users: np.ndarray
    videos: np.ndarray
    offsets: np.ndarray
    seconds: np.ndarray | None


class UserHistories:
    """users, watches: how many there are."""

    def __init__(self, database: Any, *, timed: bool) -> None:
        self._database, self._timed = database, timed
        counted = "select count(distinct user_id), count(*) from events"
        ((self.users, self.watches),) = database.execute(counted).fetchall()

    def blocks(self) -> Iterator[UserBlock]:
        """All users, in the order of their ids; about as many watches at a time as one batch has,
        unless one user has more."""
        what, order = ("seconds", "time, ") if self._timed else ("null::double as seconds", "")
        rows = self._database.sql(
            f"select user_id::varchar as user_id, video_id, {what} from events "
            f"order by events.user_id, {order}{PLACE}"
        )
        held: list[pa.RecordBatch] = []
        for batch in rows.to_arrow_reader(ROWS_AT_ONCE):
            users = batch.column("user_id").cast(pa.binary()).to_numpy(zero_copy_only=False)
            if not len(users):
                continue
            other = np.flatnonzero(users != users[-1])
            # Where the last user of the batch begins, who may have more in the next one.
            begin = int(other[-1]) + 1 if len(other) else 0
            if held and held[-1].column("user_id")[-1] != batch.column("user_id")[0]:
                yield self._block(held)
                held = []
            if begin:
                yield self._block([*held, batch.slice(0, begin)])
                held = []
            held.append(batch.slice(begin))
        if held:
            yield self._block(held)

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
    """Histories of Parquet or CSV (a file, a folder, or a pattern): user_id, video_id, timestamp.

    timed: take watches in the order of their timestamps, where files have these, equal ones and all
    others as they stand there; `sessions.times` has the rule. needs_times: refuse files without.
    beside: the output, near which what does not fit `memory_limit` lies meanwhile. Raises
    SessionError for files that cannot be read, lack a column, and rows that lack a value, by name.
    """
    paths = session_files(place)
    columns = ["user_id", "video_id"]
    names = [tabular.column_names(path, SESSIONS, KNOWN) for path in paths]
    has = ["timestamp" in some for some in names]
    if (timed and any(has) and not all(has)) or (needs_times and not all(has)):
        raise SessionError(
            f"{paths[has.index(False)]}: column timestamp is missing"
            + (", which forgetting by time asks for" if needs_times else ", which others have")
        )
    for path, some in zip(paths, names, strict=True):
        tabular.check_columns(path, some, columns, SESSIONS)
    timed = timed and all(has)
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
