"""Faulty records by the command line: code 1, one message, no half table; and workers that die."""

import re
import subprocess
import sys

import numpy as np
import pytest

from tests.messages import encode_video
from vidembed.__main__ import main
from vidembed.records.formats import Modality, VideoLevel
from vidembed.records.framing import write_records
from vidembed.records.table import FeatureTable

FORMAT = VideoLevel(modalities=(Modality(name="visual", key="k", width=4),))
HOW = ["--modalities", "visual:k:4"]


def payloads(first, count):
    rng = np.random.default_rng(first)
    return [
        encode_video(f"v{first + n:04d}", [1], {"visual": rng.uniform(-1, 1, 4)}, FORMAT)
        for n in range(count)
    ]


@pytest.fixture
def records(tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    for shard in range(6):
        write_records(folder / f"s{shard}.tfrecord", payloads(100 * shard, 50))
    return folder


def fails(records, table, capsys, *how):
    """What the import says on its error stream; nothing of a table is left."""
    capsys.readouterr()
    assert main(["import", str(records), str(table), *HOW, *how]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said
    assert not table.exists() or not any(table.iterdir())
    return said


def hurt(records, kind):
    """(what to import, what is said) after the fault is made."""
    shard = records / "s3.tfrecord"
    data = bytearray(shard.read_bytes())
    if kind == "cut":
        shard.write_bytes(data[:-5])
        return records, r"s3\.tfrecord: record 49 at byte \d+: it takes \d+ bytes .* truncated"
    if kind == "flip":
        data[30] ^= 4
        shard.write_bytes(data)
        return records, r"s3\.tfrecord: record 0 at byte 0: its payload does not agree with its crc"
    if kind == "length":
        data[2] ^= 1
        shard.write_bytes(data)
        return records, r"s3\.tfrecord: record 0 at byte 0: its length \(\d+ bytes\) does not agree"
    if kind == "empty":
        shard.write_bytes(b"")
        return records, r"s3\.tfrecord: record 0 at byte 0: the file holds no record"
    if kind == "nothing":
        return records / "*.tfrecords", r"no feature file matches .*s[1-5]\.tfrecord"
    if kind == "twice":
        write_records(shard, payloads(0, 1))
        return records, r"ids that occur again: 1 \(v0000 in s0\.tfrecord and s3\.tfrecord\)"
    if kind in ("NaN", "infinity", "zero"):
        values = np.full(4, {"NaN": np.nan, "infinity": np.inf, "zero": 0.0}[kind])
        write_records(shard, [encode_video("odd", [1], {"visual": values}, FORMAT)])
        what = "all zero" if kind == "zero" else "with NaN or infinity"
        return records, rf"visual {what}: 1 \(odd\); .*--invalid drop"
    if kind == "width":
        wider = VideoLevel(modalities=(Modality(name="visual", key="k", width=5),))
        write_records(shard, [encode_video("odd", [1], {"visual": np.ones(5)}, wider)])
        return (
            records,
            r"s3\.tfrecord: record 0 at byte 0: .*'visual' .* of 4, found float_list of 5",
        )
    (records / "counts.json").write_text('{"s0.tfrecord": 51}')
    return records / "s0.tfrecord", r"s0\.tfrecord holds 50 records, 51 were expected"


KINDS = ["cut", "flip", "length", "empty", "nothing", "twice", "NaN", "infinity", "zero", "width"]


@pytest.mark.fault(
    "Records: an id twice",
    "1: id and both shards; `--duplicates first`",
)
@pytest.mark.fault(
    "Records: no file matches, empty file",
    "1: the pattern, and what is nearest on disk",
)
@pytest.mark.fault(
    "Records: NaN, infinity, all zero",
    "1: ids, and `--invalid drop` or `mask`",
)
@pytest.mark.fault(
    "Records: wrong width or type",
    "1: modality, expected, found, file, record",
)
@pytest.mark.fault(
    "Records: TFRecord cut, within a record",
    "1: file, record, byte offset; `--on-error skip` goes on and counts",
)
@pytest.mark.parametrize("kind", [*KINDS, "count"])
def test_a_fault_is_named_and_no_table_is_made(records, tmp_path, capsys, kind):
    pattern, said = hurt(records, kind)
    assert re.search(said, fails(pattern, tmp_path / "t", capsys, "--workers", "3"))


@pytest.mark.fault("Records: TFRecord cut, within a record")
def test_skipping_is_counted_and_said(records, tmp_path, capsys):
    hurt(records, "cut")
    assert main(["import", str(records), str(tmp_path / "t"), *HOW, "--on-error", "skip"]) == 0
    assert "299 rows" in capsys.readouterr().out
    assert len(FeatureTable.open(tmp_path / "t")) == 299


_READER = """
import os, signal, sys, time
import grain
from absl import flags
from vidembed.records.source import RecordSource

class Whose(grain.transforms.Map):
    def map(self, element):
        time.sleep(0.02)
        return os.getpid()

if __name__ == "__main__":
    flags.FLAGS.mark_as_parsed()
    data = grain.MapDataset.source(RecordSource(sys.argv[1])).map(Whose()).to_iter_dataset()
    workers = grain.MultiprocessingOptions(num_workers=2, per_worker_buffer_size=1)
    stream = iter(data.mp_prefetch(workers))
    worker, read = next(stream), 1
    assert worker != os.getpid()
    os.kill(worker, signal.SIGKILL)
    try:
        for _ in stream:
            read += 1
    except Exception as error:
        print("raised", read, type(error).__name__, str(error).splitlines()[0])
    else:
        print("ended", read)
"""


@pytest.mark.fault("Records: a worker that raises or dies")
@pytest.mark.long
def test_a_killed_worker_process_ends_the_reading_with_an_error(records, tmp_path):
    """Our own commands read by threads. Grain's workers over our source: one that is killed
    neither keeps the reader waiting nor looks like the end of the data."""
    script = tmp_path / "reader.py"
    script.write_text(_READER)
    command = [sys.executable, str(script), str(records)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    told = done.stdout.split()
    assert told[0] == "raised", done.stdout + done.stderr
    assert int(told[1]) < 300
