"""How fast records are read, checked and parsed: `python -m experiments.benchmarks.records`.

One core, the real sample records repeated, files warm in the page cache. The limit of each case is
reading its bytes and nothing else. Targets: 250,000 video-level and 3,500 frame-level records a
second with both crcs and all fields, and no fewer than tf.data, which reads the same files on the
same core with `--peer`: that makes an environment with TensorFlow first (300 MB to download).
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from experiments.benchmarks import records_peer
from experiments.benchmarks.bench import Row, measure, report
from vidembed.records.frames import encode_frames, read_frames
from vidembed.records.tfrecord import read_records, shards, write_records
from vidembed.records.youtube8m import read_videos

Level = Literal["video", "frame"]
DATA = Path(__file__).parents[2] / "data" / "youtube8m"


def main(*, peer: bool = False) -> None:
    """Measure on one pinned core, print the table, write runs/benchmarks/records.json.

    Args:
        peer: also read by tf.data, in an environment that is made where there is none.
    """
    python = records_peer.environment() if peer else None
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        report("records", rows(Path(folder), python=python))


def rows(
    folder: Path, *, video_copies: int = 20, frame_copies: int = 500, python: Path | None = None
) -> list[Row]:
    """The cases, on files written to `folder`: that many copies of the sample records."""
    samples = [Path(shard) for shard in shards(DATA)]
    videos, frames = folder / "videos.tfrecord", folder / "frames.tfrecord"
    payloads = [payload for shard in samples for payload in read_records(shard)]
    video_count = write_records(videos, payloads * video_copies)
    with np.load(DATA / "SjJ3.npz") as clip:
        features = {"visual": clip["rgb"], "audio": clip["audio"]}
        sequence = encode_frames(str(clip["id"]), clip["labels"], features)
    frame_count = write_records(frames, [sequence] * frame_copies)
    cases: list[tuple[str, Level, list[Path], int]] = [
        ("video level, one file", "video", [videos], video_count),
        ("video level, small shards", "video", samples * video_copies, video_count),
        ("frame level", "frame", [frames], frame_count),
    ]
    measured = []
    for case, level, paths, count in cases:
        measured.append(_row(case, paths, PARSERS[level], count))
        if python is not None:
            measured.append(_peer(measured[-1], python, level, paths, count))
    return measured


def _peer(ours: Row, python: Path, level: Level, paths: list[Path], records: int) -> Row:
    seconds, parsed = records_peer.read(python, level, paths)
    if parsed != records:
        raise AssertionError(f"tf.data, {ours.case}: {parsed} of {records} records were parsed")
    note = f"{records / seconds:,.0f} records/s of {records:,}"
    case = f"peer: tf.data, {ours.case}"
    return Row(case=case, seconds=seconds, limit_seconds=ours.limit_seconds, note=note)


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


PARSERS: dict[Level, Callable[[list[Path]], int]] = {"video": _parse_videos, "frame": _parse_frames}


def _read(paths: list[Path]) -> None:
    buffer = bytearray(1 << 20)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


if __name__ == "__main__":
    tyro.cli(main)
