import json
from importlib import metadata
from pathlib import Path
from threading import Event

import jax
import numpy as np
import pytest

from experiments.benchmarks import bench
from experiments.benchmarks.bench import Row, measure, report
from experiments.benchmarks.records import rows
from vidembed.commit import commit_of


def test_a_report_is_printed_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "FOLDER", tmp_path / "benchmarks")
    case = Row(case="some case", seconds=3.0, limit_seconds=2.0, peak_bytes=5_000_000, note="why")
    path = report("name", [case])
    assert path == tmp_path / "benchmarks" / "name.json"
    result = json.loads(path.read_text())
    assert result["benchmark"] == "name"
    installed = {d.metadata["Name"].lower() for d in metadata.distributions()}
    commit = commit_of(Path(bench.__file__).parent)
    assert result["versions"].keys() == installed & set(bench.PACKAGES) | commit.keys()
    assert result["versions"].items() >= commit.items()
    assert result["versions"]["jax"] == jax.__version__
    [row] = result["rows"]
    assert row == {
        "case": "some case",
        "seconds": 3.0,
        "limit_seconds": 2.0,
        "peak_bytes": 5_000_000,
        "note": "why",
        "ratio": 1.5,
    }
    printed = capsys.readouterr().out
    assert all(part in printed for part in ("some case", "1.50", "5.0", "why"))


def test_time_is_the_best_and_memory_the_highest(monkeypatch):
    sizes, clock = iter([0, 64, 0]), iter([0.0, 5.0, 10.0, 13.0, 20.0, 24.0])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))

    def work():
        block = np.ones(next(sizes) << 20, np.uint8)
        Event().wait(0.05)  # long enough to be sampled
        return block.sum()

    seconds, peak = measure(work)
    assert seconds == 3.0
    assert 60 << 20 <= peak < 90 << 20


def test_the_benchmark_of_records_runs(tmp_path):
    measured = rows(tmp_path, video_copies=1, frame_copies=2)
    assert [row.case for row in measured] == [
        "video level, one file",
        "video level, small shards",
        "frame level",
    ]
    assert all(row.seconds > 0 and row.limit_seconds > 0 for row in measured)


def test_a_benchmark_that_loses_records_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.benchmarks.records.read_videos", lambda path: iter(()))
    with pytest.raises(AssertionError, match="video level, one file: 0 of 2950 records"):
        rows(tmp_path, video_copies=1, frame_copies=2)
