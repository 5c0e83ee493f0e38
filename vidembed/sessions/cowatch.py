"""Watch sessions to co-watch edges, in DuckDB, larger than memory where need be.

Two videos are co-watched when one is watched right after the other in a session (CDML, section
3.3). The weight of an edge counts how often that happened, either way round, over all sessions.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from vidembed.files import scratch_folder, whole_file
from vidembed.records.outputs import EDGES as OUTPUT
from vidembed.records.tabular import DIGEST_KEY, METADATA_KEY, RowsDigest
from vidembed.sessions.watches import SessionError, digest, marks, open_events, session_files

TYPES = {"source": pa.string(), "target": pa.string(), "weight": pa.int64()}
SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in TYPES.items()])

# Videos become numbers in the order of their ids, so that every later step sorts integers.
VIDEOS = """
create temp table videos as
select video_id, row_number() over (order by video_id) - 1 as video
from (select distinct video_id from events)
"""
# The first watch of a session has none before it (-1), watching a video twice in a row is no
# edge (-2); both are counted here because a second pass over the events would cost as much.
PAIRS = """
create temp table pairs as
with watches as (select session_id, timestamp, video from events join videos using (video_id)),
consecutive as (
    select video, lag(video) over (partition by session_id order by timestamp, video) as before
    from watches)
select case when before is null then -1 when before = video then -2
       else least(video, before) * {videos} + greatest(video, before) end as pair,
       count(*) as weight
from consecutive group by pair
"""
COUNTS = """
select sum(weight)::bigint, coalesce(sum(weight) filter (pair = -1), 0)::bigint,
       coalesce(sum(weight) filter (pair = -2), 0)::bigint, count(*) filter (pair >= 0)
from pairs
"""
STRONG = """
create temp table strong as
select pair // {videos} as low, pair % {videos} as high, weight
from pairs where pair >= 0 and weight >= {min_weight}
"""
EDGES = """
select s.video_id as source, t.video_id as target, e.weight
from strong e join videos s on s.video = e.low join videos t on t.video = e.high
order by e.low, e.high
"""


def count_cowatches(
    sessions: str | os.PathLike[str],
    edges: str | os.PathLike[str],
    *,
    min_weight: int = 2,
    memory_limit: str = "2GB",
    threads: int | None = None,
    temp_directory: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Count the co-watches of `sessions` into the Parquet file `edges`; returns what was found.

    sessions: Parquet or CSV (one file, a folder, or a glob) with session_id, timestamp, video_id.
    edges: `source < target, weight`, sorted, one row for each pair that was watched together at
    least `min_weight` times.

    Watches of a session are ordered by timestamp, equal timestamps by video id (ids compare as
    UTF-8 bytes): the answer depends neither on the order of the rows nor on the number of files.
    The same video twice in a row is no edge. What does not fit `memory_limit` goes to
    `temp_directory` (a folder beside `edges` if None, removed afterwards). The file appears whole
    or not at all, and carries parameters, source digest, counts and the `simulated` mark of its
    sessions as schema metadata; where no pair is strong enough it has no rows. Raises SessionError
    for sessions that cannot be read or counted, and ValueError for an `edges` that is not on a
    local disk, is one of the sessions, or is a file that was not made here.
    """
    if min_weight < 1:
        raise ValueError(f"min_weight must be at least 1, found {min_weight}")
    began = time.perf_counter()
    paths, edges = session_files(sessions), OUTPUT.check(edges, [sessions])
    with (
        _explained(sessions),
        scratch_folder(edges, verb="cowatch", inside=temp_directory) as spill,
        duckdb.connect() as database,
    ):
        database.execute("set memory_limit = $1", [memory_limit])
        database.execute("set temp_directory = $1", [str(spill)])
        # Nothing here relies on the order of rows; keeping it costs memory.
        database.execute("set preserve_insertion_order = false")
        if threads is not None:
            database.execute("set threads = $1", [threads])
        counts = _count(database, paths, min_weight=min_weight)
        report = {
            **marks(paths),
            "parameters": {"min_weight": min_weight},
            "sessions_digest": digest(paths),
            **counts,
        }
        _write(database, edges, report)
    return {**report, "seconds": time.perf_counter() - began}


@contextmanager
def _explained(sessions: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as error:
        # While results are read as Arrow batches, DuckDB's errors arrive as an OSError.
        if "Out of Memory" in str(error):
            # The lines after the first give advice in DuckDB's terms.
            reason = str(error).partition("\n")[0]
            raise SessionError(
                f"{sessions}: give a higher memory_limit (--memory-limit), fewer threads "
                f"(--threads), or a temp_directory with more room: {reason}"
            ) from error
        if isinstance(error, OSError):
            raise
        raise SessionError(f"{sessions}: cannot be counted: {error}") from error


def main(
    sessions: str,
    edges: str,
    *,
    min_weight: int = 2,
    memory_limit: str = "2GB",
    threads: int | None = None,
) -> int:
    """Watch sessions to co-watch edges; the exit code is 1 where there are none.

    Args:
        sessions: Parquet or CSV file, folder or glob with session_id, timestamp, video_id.
        edges: the Parquet file to write.
        min_weight: co-watches from which on a pair is an edge.
        memory_limit: what the database may hold in memory; the rest goes to disk.
        threads: threads to use; all cores if not given.
    """
    report = count_cowatches(
        sessions, edges, min_weight=min_weight, memory_limit=memory_limit, threads=threads
    )
    console = Console(highlight=False, soft_wrap=True)
    told = "SIMULATED sessions" if report["simulated"] else "sessions"
    console.print(
        f"{report['events']:,} watches of {report['videos']:,} videos in {report['sessions']:,} "
        f"{told} ({report['repeats']:,} repeats of the same video left out)\n"
        f"{report['pairs']:,} pairs watched one after the other, {report['edges']:,} of them at "
        f"least {min_weight} times\n{edges} written in {report['seconds']:.1f} s",
        markup=False,
    )
    if report["edges"]:
        return 0
    why = f"no pair was watched at least {min_weight} times (min_weight): lower --min-weight, or "
    console.print(
        f"warning: {edges} holds no edges, and nothing can be trained on it; "
        + (why if report["pairs"] else "no session holds two different videos: ")
        + "bring more sessions",
        style="bold red",
        markup=False,
    )
    return 1


def _count(
    database: duckdb.DuckDBPyConnection, paths: list[Path], *, min_weight: int
) -> dict[str, int]:
    open_events(database, paths)
    database.execute(VIDEOS)
    ((videos,),) = database.execute("select count(*) from videos").fetchall()
    database.execute(PAIRS.format(videos=videos))
    ((events, sessions, repeats, pairs),) = database.execute(COUNTS).fetchall()
    database.execute(STRONG.format(videos=videos, min_weight=min_weight))
    database.execute("drop table pairs")
    ((edges,),) = database.execute("select count(*) from strong").fetchall()
    names = ("events", "sessions", "videos", "repeats", "pairs", "edges")
    return dict(zip(names, (events, sessions, videos, repeats, pairs, edges), strict=True))


def _write(database: duckdb.DuckDBPyConnection, edges: Path, report: Mapping[str, Any]) -> None:
    mark = json.dumps(report).encode()
    schema, digest = SCHEMA.with_metadata({METADATA_KEY: mark}), RowsDigest(mark)
    with whole_file(edges) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:
        for batch in database.sql(EDGES).to_arrow_reader():
            rows = batch.cast(schema)
            digest.update(rows)
            writer.write_batch(rows)
        writer.add_key_value_metadata({DIGEST_KEY: digest.hexdigest()})
