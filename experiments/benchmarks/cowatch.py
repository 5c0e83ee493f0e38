"""Sessions to edges: `python -m experiments.benchmarks.cowatch [--events 10000000]`.

Ten million watches of a million sessions over 200,000 videos, in order of time as a log has them,
so that sessions lie interleaved. The limit is reading the Parquet file into memory. Half a minute
on two cores, most of it for making the log; 200 MB of disk.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro

from experiments.benchmarks.bench import measure, measured, report
from vidembed.sessions.cowatch import count_cowatches

WATCHES_PER_SESSION = 10
"""On average; the lengths are geometric."""


def main(*, events: int = 10_000_000, memory_limit: str = "2GB", repeats: int = 3) -> None:
    """Measure with the memory limit given, and with a tenth of it, where most goes to disk."""
    with tempfile.TemporaryDirectory() as folder:
        sessions, edges = Path(folder) / "sessions.parquet", Path(folder) / "edges.parquet"
        pq.write_table(log(events), sessions)
        limit, _ = measure(lambda: pq.read_table(sessions), repeats=repeats)
        rows = []
        for case, allowed in (("as configured", memory_limit), ("a tenth", tenth(memory_limit))):
            count = partial(count_cowatches, sessions, edges, memory_limit=allowed)
            found = count()
            note = (
                f"{found['events']:,} watches, {found['pairs']:,} pairs, {found['edges']:,} edges"
            )
            name = f"{case}, memory limit {allowed}"
            rows.append(measured(name, count, limit, repeats=repeats, note=note))
    report("cowatch", rows)


def tenth(memory_limit: str) -> str:
    """A tenth of a limit such as 2GB, in MB."""
    number, unit = memory_limit[:-2], memory_limit[-2:]
    if unit not in ("GB", "MB"):
        raise ValueError(f"a memory limit is a number of GB or MB, found {memory_limit!r}")
    return f"{int(float(number) * (100 if unit == 'GB' else 0.1))}MB"


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
