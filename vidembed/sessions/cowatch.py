"""Count co-watch edges from watch sessions in DuckDB; the sessions may be larger than memory.

Two videos are co-watched when one is watched right after the other in a session (CDML, section
3.3). The weight of an edge counts how often that happened, in either order, over all sessions.
In sessions without an order, all videos of a session are co-watched (`sessions.pairs.Counting`).
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from vidembed.files import scratch_folder, whole_file
from vidembed.progress import Progress
from vidembed.records.outputs import EDGES as OUTPUT
from vidembed.records.tabular import DIGEST_KEY, METADATA_KEY, RowsDigest
from vidembed.sessions.advice import propose, top_share
from vidembed.sessions.database import session_database
from vidembed.sessions.left_out import leave_out as leave_out_ids
from vidembed.sessions.pairs import Counting, PairWeight, count_pairs
from vidembed.sessions.session_files import (
    SessionError,
    columns_of,
    digest,
    marks,
    session_files,
)
from vidembed.sessions.summary import describe_ties, print_summary, tie_share
from vidembed.sessions.watches import open_events

MOST_THREADS = 1024
"""DuckDB itself sets no upper limit."""
STRONG = """
create temp table strong as
select pair // {videos} as low, pair % {videos} as high, weight
from pairs where pair >= 0 and weight >= {min_weight} {people}
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
    leave_out: Sequence[str | os.PathLike[str]] = (),
    max_tie_share: float = 0.5,
    memory_limit: str = "2GB",
    threads: int | None = None,
    temp_directory: str | os.PathLike[str] | None = None,
    **counting: Any,
) -> dict[str, Any]:
    """Count the co-watches of `sessions` into the Parquet file `edges`; return the counts.

    sessions: Parquet or CSV (one file, a folder at any depth, or a glob) with session_id,
    timestamp, video_id; `sessions.session_files` says which of them may be missing. Ids are text,
    UTF-8 bytes or integers; `records.times` defines the valid timestamps.
    edges: `source < target, weight`, sorted, one row per edge; weights are i64, or f64 if sessions
    have no order.
    counting: the fields of `sessions.pairs.Counting`, which define a co-watch and an edge.
    leave_out: files of ids, each with a column video_id, user_id or session_id.

    Watches of a session are ordered by timestamp, equal timestamps by video id (ids compare as
    UTF-8 bytes), so the result depends neither on the row order nor on the number of files.
    Watching the same video twice in a row makes no edge. `ties` counts watches with the same
    timestamp as the previous watch, of another video. If more than `max_tie_share` of the watches
    that follow another are ties, the order is unknown and the sessions are refused. Data beyond
    `memory_limit` spills to `temp_directory` (if None, to a folder beside `edges` that is removed
    afterwards). The file appears whole or not at all. Its schema metadata holds the parameters,
    source digest, counts and the `simulated` mark of the sessions. If no pair is strong enough it
    has no rows. Raises SessionError for sessions that cannot be read or counted, and ValueError if
    `edges` is not on a local disk, is one of the inputs, or is a file of another kind.
    """
    rules = Counting(**counting)
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads must be from 1 to {MOST_THREADS:,}, found {threads:,}")
    if not 0 <= max_tie_share <= 1:
        raise ValueError(f"max_tie_share must be from 0 to 1, found {max_tie_share}")
    began = time.perf_counter()
    paths, edges = session_files(sessions), OUTPUT.check(edges, [sessions, *leave_out])
    columns = _columns(paths, rules)
    rules = replace(rules, unordered=rules.unordered or "timestamp" not in columns)
    with (
        scratch_folder(edges, verb="cowatch", inside=temp_directory) as spill,
        session_database(sessions, paths, spill, memory_limit, threads) as database,
    ):
        ready = Path(spill, "files")
        ready.mkdir()
        open_events(database, paths, ready, columns)
        left_out = leave_out_ids(database, leave_out, columns)
        counts = _count(database, rules, columns)
        if tie_share(counts) > max_tie_share:
            raise SessionError(
                f"{sessions}: {describe_ties(counts)}, above the allowed {max_tie_share:.0%}, so "
                "the order of the watches is unknown: provide finer timestamps, count the sessions "
                "as unordered (--unordered), or raise max_tie_share (--max-tie-share) to order "
                "such watches by video id"
            )
        report = {
            **marks(paths),
            "parameters": rules.described(),
            "sessions_digest": digest(paths),
            **counts,
            **left_out,
        }
        _write(database, edges, report)
    return {**report, "seconds": time.perf_counter() - began}


def main(
    sessions: str,
    edges: str,
    *,
    min_weight: float = 2,
    unordered: bool = False,
    pair_weight: PairWeight = "per-video",
    window_seconds: float | None = None,
    max_length: int | None = None,
    min_views: int = 1,
    min_people: int = 1,
    leave_out: tuple[str, ...] = (),
    max_tie_share: float = 0.5,
    memory_limit: str = "2GB",
    threads: int | None = None,
) -> int:
    """Count co-watch edges from watch sessions; warn if there are none.

    Listed ids are left out first, then rare videos, then watches beyond the maximum length.

    Args:
        sessions: Parquet or CSV file, folder or glob with session_id, timestamp, video_id; a
            user_id may accompany or replace session_id; without timestamp sessions have no order.
        edges: the Parquet file to write.
        min_weight: smallest weight of an edge: its number of co-watches, or, unordered, the sum
            of its pair weights.
        unordered: pair any two videos of a session, not only neighbours in time.
        pair_weight: weight of a pair in an unordered session of n different videos. per-video:
            1/(n - 1), so that a session's total weight grows with its videos and not with their
            square; one: 1; log: 1/log2(n).
        window_seconds: ignore pairs of watches further apart in time than this.
        max_length: count only the first watches of a longer session (bots); without timestamps, a
            random choice of them.
        min_views: leave out videos with fewer watches (CDML: 1000).
        min_people: least number of users behind an edge (privacy, robustness); without a user_id
            each session is a user.
        leave_out: files of ids to leave out, each with a column video_id, user_id or session_id.
        max_tie_share: largest share of watches that may have the same timestamp as the previous
            watch.
        memory_limit: memory for the database; the rest goes to disk.
        threads: threads to use; all cores if not given.
    """
    with Progress().stage(f"counting co-watches of {sessions}"):
        report = count_cowatches(
            sessions,
            edges,
            min_weight=min_weight,
            unordered=unordered,
            pair_weight=pair_weight,
            window_seconds=window_seconds,
            max_length=max_length,
            min_views=min_views,
            min_people=min_people,
            leave_out=leave_out,
            max_tie_share=max_tie_share,
            memory_limit=memory_limit,
            threads=threads,
        )
    print_summary(report, edges)
    return 0


def _columns(paths: Sequence[Path], counting: Counting) -> list[str]:
    """The columns to read; timestamp only if the options use it."""
    columns = columns_of(paths, unordered=counting.unordered)
    if "timestamp" not in columns and counting.window_seconds is not None:
        raise SessionError(f"{paths[0]}: has no column timestamp, which window_seconds needs")
    needed = counting.window_seconds is not None or counting.max_length is not None
    if counting.unordered and not needed:
        columns = [name for name in columns if name != "timestamp"]
    return columns


def _count(
    database: duckdb.DuckDBPyConnection, counting: Counting, columns: Sequence[str]
) -> dict[str, Any]:
    counts = count_pairs(database, counting, columns)
    people = "" if counting.min_people == 1 else f"and people >= {counting.min_people}"
    sql = STRONG.format(videos=counts["videos"], min_weight=counting.min_weight, people=people)
    database.execute(sql)
    ((edges,),) = database.execute("select count(*) from strong").fetchall()
    advice = {"proposed_min_weight": propose(database, counting)}
    database.execute("drop table pairs")
    return {**counts, "edges": edges, **top_share(database, counting, columns), **advice}


def _write(database: duckdb.DuckDBPyConnection, edges: Path, report: Mapping[str, Any]) -> None:
    mark = json.dumps(report).encode()
    weight = pa.float64() if report["parameters"].get("unordered") else pa.int64()
    types = {"source": pa.string(), "target": pa.string(), "weight": weight}
    fields = [pa.field(name, kind, nullable=False) for name, kind in types.items()]
    schema, digest = pa.schema(fields, {METADATA_KEY: mark}), RowsDigest(mark)
    # As an open file: Arrow accepts only UTF-8 file names.
    with whole_file(edges) as new, new.open("wb") as file, pq.ParquetWriter(file, schema) as writer:
        for batch in database.sql(EDGES).to_arrow_reader():
            rows = batch.cast(schema)
            digest.update(rows)
            writer.write_batch(rows)
        writer.add_key_value_metadata({DIGEST_KEY: digest.hexdigest()})
