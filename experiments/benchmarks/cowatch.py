"""Sessions to edges: `python -m experiments.benchmarks.cowatch [--events 10000000]`.

Ten million watches of a million sessions over 200,000 videos, in order of time as a log has them,
so that sessions lie interleaved: from Parquet, from CSV, and from Parquet without their order. The
limit is reading the same file into memory. A minute on two cores, some of it for making the log;
500 MB of disk. Targets: Parquet 5 s and 1 GB, CSV twice that of DuckDB's own reader (10 s).
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import tyro

from experiments.benchmarks.bench import measure, measured, report
from vidembed.sessions.cowatch import count_cowatches

WATCHES_PER_SESSION = 10
"""On average; the lengths are geometric."""


def main(*, events: int = 10_000_000, memory_limit: str = "2GB", repeats: int = 3) -> None:
    """Measure and report; fewer events are for trying the benchmark itself."""
    with tempfile.TemporaryDirectory() as folder:
        sessions, edges = Path(folder) / "sessions.parquet", Path(folder) / "edges.parquet"
        text, watches = sessions.with_suffix(".csv"), log(events)
        pq.write_table(watches, sessions)
        pyarrow.csv.write_csv(watches, text)
        del watches
        cases = {
            "Parquet": (sessions, pq.read_table, False),
            "CSV": (text, pyarrow.csv.read_csv, False),
            "Parquet, unordered": (sessions, pq.read_table, True),
        }
        rows = []
        for case, (file, read, unordered) in cases.items():
            limit, _ = measure(partial(read, file), repeats=repeats)
            count = partial(count_cowatches, file, edges, memory_limit=memory_limit)
            count = partial(count, unordered=unordered)
            counts = count()
            note = f"{counts['events']:,} watches, {counts['pairs']:,} pairs, {counts['edges']:,} "
            note += f"edges, memory limit {memory_limit}"
            rows.append(measured(case, count, limit, repeats=repeats, note=note))
        report("cowatch", rows)


def log(events: int) -> pa.Table:
    """Watches of sessions that keep to a neighbourhood of videos, so that some pairs are common."""
    rng = np.random.default_rng(0)
    videos = max(events // 50, 100)
    lengths = rng.geometric(1 / WATCHES_PER_SESSION, events)
    lengths = lengths[: np.searchsorted(np.cumsum(lengths), events) + 1]
    session = np.repeat(np.arange(len(lengths)), lengths)[:events]
    total = np.cumsum(rng.pareto(1.5, videos) + 0.1)
    anywhere = np.searchsorted(total, rng.random(events) * total[-1])
    home = np.searchsorted(total, rng.random(len(lengths)) * total[-1])[session] // 50 * 50
    near = np.minimum(home + rng.integers(0, 50, events), videos - 1)
    video = np.where(rng.random(events) < 0.6, near, anywhere)
    began = rng.integers(0, events, len(lengths))[session]
    time = began + 30 * (np.arange(events) - np.searchsorted(session, session))
    order = np.argsort(time, kind="stable")
    names = pa.array([f"{number * 2654435761 % 2**32:08x}" for number in range(videos)])
    return pa.table(
        {
            "session_id": session[order],
            "timestamp": time[order],
            "video_id": names.take(pa.array(video[order])),
        }
    )


if __name__ == "__main__":
    tyro.cli(main)
