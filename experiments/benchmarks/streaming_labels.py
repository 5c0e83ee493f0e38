"""How fast records on disk become batches: `python -m experiments.benchmarks.streaming_labels`.

Video-level records in random order, with labels, features as float32 and checked crcs, by the feed
of an annotation run. The limit is reading the same files from end to end and nothing else. Target:
100,000 records a second. For comparison: a table in memory, and Grain's usual way, one element at a
time. Files warm in the page cache, so that a disk's speed at random access does not show.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grain
import numpy as np
import tyro

from experiments.benchmarks.bench import Row, in_rounds, report
from vidembed.corpora.label_files import labels_of_table
from vidembed.feeds.labelled_videos import VideosWithLabels, VideosWithLabelsFeed
from vidembed.records.record_layout import RecordLayout
from vidembed.records.record_table import open_records
from vidembed.records.shards import shards
from vidembed.records.source import RecordSource
from vidembed.records.table import FeatureTable
from vidembed.records.youtube8m import parse_video

LIMIT, ELEMENTS, IN_MEMORY = "sequential read", "Grain, one element at a time", "a table in memory"
RUN_LENGTHS = (1, 16, 64)
# Single elements take so long that a part of a pass must do.
ELEMENT_SHARE = 10


@dataclass
class Case:
    """Work that makes `steps` batches, and the processor time it took in all of its calls."""

    work: Callable[[], object]
    steps: int
    processor_seconds: float = 0.0

    def __call__(self) -> None:
        """Do the work."""
        before = time.process_time()
        self.work()
        self.processor_seconds += time.process_time() - before


def main(
    *, records: str, batch_videos: int = 512, passes: int = 3, rounds: int = 7, threads: int = 2
) -> None:
    """Measure all cases in turn, print the table, write runs/benchmarks/streaming_labels.json.

    Args:
        records: file, folder or glob of TFRecords with YouTube-8M's video-level layout.
        batch_videos: videos per batch.
        passes: passes over the records in each case and round.
        rounds: rounds of all cases.
        threads: threads that make batches, and Grain's for single elements.
    """
    table = open_records(records, RecordLayout())
    files = [Path(file) for file in shards(records)]
    steps = passes * len(table) // batch_videos
    cases = {LIMIT: Case(lambda: read_files(files, passes), steps)}
    for run_length in RUN_LENGTHS:
        feed = open_feed(table, batch_videos, threads, run_length)
        cases[f"records, runs of {run_length}"] = Case(passing(feed, steps), steps)
    whole = in_memory(table)
    cases[IN_MEMORY] = Case(passing(open_feed(whole, batch_videos, threads, 1), steps), steps)
    with tempfile.TemporaryDirectory() as folder:
        few = -(-steps // ELEMENT_SHARE)
        cases[ELEMENTS] = Case(one_by_one(files, Path(folder), batch_videos, few, threads), few)
        seconds = in_rounds(cases, rounds=rounds)
    each = sum(file.stat().st_size for file in files) / len(table)
    report("streaming_labels", [row_of(n, cases, seconds, batch_videos, each) for n in cases])


def open_feed(
    table: FeatureTable, batch_videos: int, threads: int, run_length: int
) -> VideosWithLabelsFeed:
    """The feed over all videos of a table, gathered on the host."""
    corpus = SimpleNamespace(
        table=table,
        labels=labels_of_table(table),
        is_train=np.ones(len(table), bool),
        train_rows=np.arange(len(table)),
    )
    options = VideosWithLabels(
        batch_videos=batch_videos, run_length=run_length, placement="host", read_threads=threads
    )
    feed: VideosWithLabelsFeed = options.open(corpus, seed=0)
    return feed


def passing(feed: VideosWithLabelsFeed, steps: int) -> Callable[[], object]:
    """Takes the next `steps` batches, whose consumer does nothing, at each call."""
    done = 0

    def work() -> None:
        nonlocal done
        for _ in feed.batches(done, done + steps):
            pass
        done += steps

    return work


def in_memory(table: FeatureTable) -> FeatureTable:
    """The same rows as arrays."""
    return FeatureTable(
        ids=table.ids,
        features=table.rows(np.arange(len(table))),
        label_offsets=table.label_offsets,
        label_values=table.label_values,
        present=table.present,
    )


def one_by_one(
    files: list[Path], folder: Path, batch_videos: int, steps: int, threads: int
) -> Callable[[], object]:
    """The same by Grain's own shuffle, map and batch; `folder` holds its index files."""
    for file in files:
        (folder / file.name).symlink_to(file.resolve())

    def parsed(payload: bytes) -> dict[str, Any]:
        video = parse_video(payload)
        labels = np.full(64, -1, np.int32)
        labels[: len(video.labels)] = video.labels[:64]
        return {"features": video.features, "labels": labels}

    dataset = grain.MapDataset.source(RecordSource(folder)).seed(0).shuffle().repeat().map(parsed)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * batch_videos)

    def work() -> None:
        batches = iter(dataset.to_iter_dataset(options).batch(batch_videos))
        for _ in range(steps):
            next(batches)
        batches.close()

    return work


def read_files(files: list[Path], passes: int) -> None:
    """Read the files from end to end, `passes` times."""
    buffer = bytearray(1 << 20)
    for path in files * passes:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def row_of(
    name: str,
    cases: dict[str, Case],
    seconds_of: dict[str, list[float]],
    batch_videos: int,
    record_bytes: float,
) -> Row:
    """The row of a case, in seconds per batch; seconds / limit is the median over rounds."""
    case, rounds = cases[name], len(seconds_of[name])
    each = [seconds / case.steps for seconds in seconds_of[name]]
    limits = [seconds / cases[LIMIT].steps for seconds in seconds_of[LIMIT]]
    took = statistics.median(each)
    rate = batch_videos / took
    processor = case.processor_seconds / case.steps / (rounds + 1)
    note = f"{rate:,.0f} records/s (best {batch_videos / min(each):,.0f}), "
    note += f"{rate * record_bytes / 1e6:,.0f} MB/s; "
    note += f"{batch_videos / processor:,.0f} records per second of processor time"
    limit = took / statistics.median([a / b for a, b in zip(each, limits)])
    return Row(case=name, seconds=took, limit_seconds=limit, note=note)


if __name__ == "__main__":
    tyro.cli(main)
