"""How fast records are read, checked and parsed: `python -m experiments.benchmarks.records`.

One core, the real sample records repeated, files warm in the page cache. The limit of each case is
reading its bytes and nothing else. Targets: 250,000 video-level and 3,500 frame-level records a
second with both crcs and all fields.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.benchmarks.bench import Row, measure, report
from vidembed.records.frames import encode_frames, read_frames
from vidembed.records.tfrecord import read_records, shards, write_records
from vidembed.records.youtube8m import read_videos

DATA = Path(__file__).parents[2] / "data" / "youtube8m"


def main() -> None:
    """Measure on one pinned core, print the table, write runs/benchmarks/records.json."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        report("records", rows(Path(folder)))


def rows(folder: Path, *, video_copies: int = 20, frame_copies: int = 500) -> list[Row]:
    """The cases, on files written to `folder`: that many copies of the sample records."""
    samples = [Path(shard) for shard in shards(DATA)]
    videos, frames = folder / "videos.tfrecord", folder / "frames.tfrecord"
    payloads = [payload for shard in samples for payload in read_records(shard)]
    video_count = write_records(videos, payloads * video_copies)
    with np.load(DATA / "SjJ3.npz") as clip:
        features = {"visual": clip["rgb"], "audio": clip["audio"]}
        sequence = encode_frames(str(clip["id"]), clip["labels"], features)
    frame_count = write_records(frames, [sequence] * frame_copies)
    return [
        _row("video level, one file", [videos], _parse_videos, video_count),
        _row("video level, small shards", samples * video_copies, _parse_videos, video_count),
        _row("frame level", [frames], _parse_frames, frame_count),
    ]


def _row(case: str, paths: list[Path], parse: Callable[[list[Path]], int], records: int) -> Row:
    def work() -> None:
        parsed = parse(paths)
        if parsed != records:
            raise AssertionError(f"{case}: {parsed} of {records} records were parsed")

    limit, _ = measure(lambda: _read(paths))
    seconds, peak = measure(work, repeats=5)
    again, _ = measure(lambda: _read(paths))
    note = f"{records / seconds:,.0f} records/s of {records:,}"
    return Row(
        case=case, seconds=seconds, peak_bytes=peak, limit_seconds=min(limit, again), note=note
    )


def _parse_videos(paths: list[Path]) -> int:
    return sum(len(videos.ids) for path in paths for videos in read_videos(path))


def _parse_frames(paths: list[Path]) -> int:
    return sum(1 for path in paths for _ in read_frames(path))


def _read(paths: list[Path]) -> None:
    buffer = bytearray(1 << 20)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


if __name__ == "__main__":
    main()
