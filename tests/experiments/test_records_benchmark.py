"""The benchmark of records, and its peer (experiments.benchmarks.records)."""

import json
import sys
from pathlib import Path

import pytest

from experiments.benchmarks.records import read_by_tensorflow, rows


def program(path, text):
    """A stand-in for a Python that has TensorFlow, which would be a download."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_every_case_has_a_row_of_the_peer_with_the_same_limit(tmp_path):
    # The second argument is the level, of which there are this many records.
    counts = 'case "$2" in video) n=2950;; frame) n=2;; esac'
    say = """printf '{"records": %d, "seconds": 2}' $n"""
    python = program(tmp_path / "python", f"{counts}; {say}")
    found = rows(tmp_path, video_copies=1, frame_copies=2, python=python)
    assert len(found) == 6
    for ours, peer in zip(found[::2], found[1::2]):
        assert peer.case == f"peer: tf.data, {ours.case}"
        assert (peer.seconds, peer.limit_seconds) == (2, ours.limit_seconds)


def test_a_peer_that_loses_records_is_not_compared(tmp_path):
    python = program(tmp_path / "python", f"echo '{json.dumps({'records': 7, 'seconds': 1})}'")
    with pytest.raises(AssertionError, match=r"tf\.data, video level, one file: 7 of 2950"):
        rows(tmp_path, video_copies=1, frame_copies=2, python=python)


def test_a_peer_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"tf\.data failed on 1 files: (.|\n)*Error"):
        read_by_tensorflow(Path(sys.executable), "video", [Path("no/such.tfrecord")])


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
