"""How fast records are read, checked and parsed: `python -m experiments.benchmarks.records`.

One core, the real sample records repeated, files warm in the page cache. The limit of each case is
reading its bytes and nothing else. Targets: 250,000 video-level and 3,500 frame-level records a
second with both crcs and all fields, and no fewer than tf.data, which reads the same files on the
same core with `--peer`. TensorFlow is no dependency of this project: that makes an environment with
it first, once (300 MB to download, 1.5 GB on disk).
"""

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from experiments.benchmarks.bench import Row, measure, measured, report
from vidembed.records.frames import encode_frames, read_frames
from vidembed.records.framing import read_records, write_records
from vidembed.records.shards import shards
from vidembed.records.youtube8m import read_videos

Level = Literal["video", "frame"]
DATA = Path(__file__).parents[2] / "data" / "youtube8m"
ENVIRONMENT = Path("runs/benchmarks/tensorflow-env")
READER = Path(__file__).with_name("tensorflow_reader.py")
TENSORFLOW = "tensorflow-cpu>=2.20"


def main(*, peer: bool = False) -> None:
    """Measure on one pinned core, print the table, write runs/benchmarks/records.json.

    Args:
        peer: also read by tf.data, in an environment that is made where there is none.
    """
    python = environment() if peer else None
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
    seconds, parsed = read_by_tensorflow(python, level, paths)
    if parsed != records:
        raise AssertionError(f"tf.data, {ours.case}: {parsed} of {records} records were parsed")
    note = f"{records / seconds:,.0f} records/s of {records:,}"
    case = f"peer: tf.data, {ours.case}"
    return Row(case=case, seconds=seconds, limit_seconds=ours.limit_seconds, note=note)


def _row(case: str, paths: list[Path], parse: Callable[[Path], int], records: int) -> Row:
    def work() -> None:
        parsed = sum(map(parse, paths))
        if parsed != records:
            raise AssertionError(f"{case}: {parsed} of {records} records were parsed")

    limit, _ = measure(lambda: _read(paths))
    row = measured(case, work, limit, repeats=5)
    again, _ = measure(lambda: _read(paths))
    note = f"{records / row.seconds:,.0f} records/s of {records:,}"
    return replace(row, limit_seconds=min(limit, again), note=note)


PARSERS: dict[Level, Callable[[Path], int]] = {
    "video": lambda path: sum(len(videos.ids) for videos in read_videos(path)),
    "frame": lambda path: sum(1 for _ in read_frames(path)),
}
"""How many records of a file are parsed."""


def _read(paths: list[Path]) -> None:
    buffer = bytearray(1 << 20)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def environment(folder: Path = ENVIRONMENT) -> Path:
    """The Python of an environment with TensorFlow, which is made where it is not there yet."""
    python, made = folder / "bin" / "python", folder / "made"
    if not made.exists():
        print(f"making {folder} with {TENSORFLOW} (minutes)", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", TENSORFLOW], check=True)
        made.touch()
    return python


def read_by_tensorflow(
    python: Path, level: str, paths: list[Path], *, repeats: int = 5
) -> tuple[float, int]:
    """(best seconds of reading all files once by tf.data, records); on the caller's cores."""
    command: list[str | Path] = [python, READER, level, str(repeats), *paths]
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"tf.data failed on {len(paths)} files: {done.stderr[-1000:]}")
    timing = json.loads(done.stdout.splitlines()[-1])
    return timing["seconds"], timing["records"]


if __name__ == "__main__":
    tyro.cli(main)
