import io
import json
import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console
from tensorboardX.proto import event_pb2

from vidembed.progress import Progress
from vidembed.records.framing import read_records
from vidembed.tasks.closed_form import ClosedForm
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.tasks.ridge import Ridge
from vidembed.workdir import journal as journals
from vidembed.workdir.journal import Journal
from vidembed.workdir.layout import Workdir


@pytest.fixture
def quiet():
    return Progress(quiet=True)


def _lines(workdir):
    return [json.loads(line) for line in workdir.metrics_file.read_text().splitlines()]


def _steps(workdir):
    return [(line["kind"], line["step"]) for line in _lines(workdir)]


def _events(workdir):
    """(tag, step, value) of every scalar, and the step of every start, as in TensorBoard."""
    scalars, starts = [], []
    for file in sorted(workdir.events.iterdir(), key=lambda path: os.stat(path).st_mtime_ns):
        for record in read_records(file):
            event = event_pb2.Event.FromString(record)
            scalars += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            if event.HasField("session_log"):
                starts.append(event.step)
    return scalars, starts


def test_one_line_per_step_is_written_at_once(tmp_path, quiet):
    workdir = Workdir(tmp_path)
    with Journal(workdir, 100, progress=quiet) as journal:
        journal.log(1, {"loss": jnp.float32(0.25), "mined": np.float64(0.5), "found": np.int64(3)})
        [line] = _lines(workdir)
        assert line.pop("time") == pytest.approx(os.stat(workdir.metrics_file).st_mtime, abs=5)
        assert line == {"kind": "train", "step": 1, "loss": 0.25, "mined": 0.5, "found": 3}
        journal.log(1, {"ndcg@10": 0.75}, kind="evaluation")
        loss = jnp.float32(0.125)
        with jax.transfer_guard("disallow"):
            journal.log(2, {"loss": loss})
    assert _steps(workdir) == [("train", 1), ("evaluation", 1), ("train", 2)]
    scalars, _ = _events(workdir)
    assert sorted(scalars) == [
        ("evaluation/ndcg_10", 1, 0.75),
        ("train/found", 1, 3),
        ("train/loss", 1, 0.25),
        ("train/loss", 2, 0.125),
        ("train/mined", 1, 0.5),
    ]


def test_non_numbers_are_null_and_not_events(tmp_path, quiet):
    workdir = Workdir(tmp_path)
    with Journal(workdir, 9, progress=quiet) as journal:
        journal.log(1, {"loss": float("nan"), "top": jnp.inf, "part": "a", "list": np.arange(2)})
    [line] = _lines(workdir)
    assert (line["loss"], line["top"], line["part"], line["list"]) == (None, None, "a", [0, 1])
    assert _events(workdir)[0] == []


def test_resuming_cuts_lines_after_the_checkpoint(tmp_path, quiet):
    workdir = Workdir(tmp_path)
    with Journal(workdir, 50, progress=quiet) as journal:
        for step in (10, 20, 30):
            journal.log(step, {"loss": step})
        journal.log(20, {"map": 0.5}, kind="evaluation")
    with open(workdir.metrics_file, "a") as file:
        file.write('not JSON\n[1]\n{"step": 5}\n{"kind": "train", "step": 40, "lo')
    with Journal(workdir, 50, resumed_from=20, progress=quiet) as journal:
        assert _steps(workdir) == [("train", 10), ("train", 20), ("evaluation", 20)]
        journal.log(20, {"map": 0.6}, kind="evaluation")
        journal.log(30, {"loss": 31})
        journal.log(30, {"loss": 32})
    assert _steps(workdir) == [("train", 10), ("train", 20), ("evaluation", 20), ("train", 30)]
    assert _lines(workdir)[-2]["map"] == 0.5
    assert _lines(workdir)[-1]["loss"] == 31
    scalars, starts = _events(workdir)
    assert starts == [0, 21]
    assert scalars[-1] == ("train/loss", 30, 31)


def test_starting_over_begins_an_empty_file(tmp_path, quiet):
    workdir = Workdir(tmp_path)
    for value in (0.5, 0.75):
        with Journal(workdir, 50, progress=quiet) as journal:
            journal.log(0, {"map": value}, kind="evaluation")
            journal.log(10, {"loss": value})
    assert _steps(workdir) == [("evaluation", 0), ("train", 10)]
    assert [_lines(workdir)[0]["map"], _lines(workdir)[1]["loss"]] == [0.75, 0.75]


def test_killed_while_writing(tmp_path, quiet):
    code = """
import sys
from vidembed.workdir.journal import Journal
from vidembed.progress import Progress
from vidembed.workdir.layout import Workdir
with Journal(Workdir(sys.argv[1]), 10**9, progress=Progress(quiet=True)) as journal:
    for step in range(1, 10**9):
        journal.log(step, {"loss": 1.5, "text": "x" * 5000})
        if step == 20:
            print("far enough", flush=True)
"""
    writer = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path)], stdout=subprocess.PIPE
    )
    assert writer.stdout.readline() == b"far enough\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    workdir = Workdir(tmp_path)
    assert len(workdir.metrics_file.read_text().splitlines()) >= 20
    with Journal(workdir, 50, resumed_from=15, progress=quiet) as journal:
        journal.log(16, {"loss": 1.0})
    assert _steps(workdir) == [("train", step) for step in range(1, 17)]


def test_remote_files_are_written_whole_at_intervals(tmp_path, quiet, monkeypatch):
    """A folder in which the journal may not append stands in for gs://."""
    now = [100.0]
    monkeypatch.setattr("vidembed.files.is_remote", lambda _: True)
    monkeypatch.setattr("vidembed.workdir.journal.time.monotonic", lambda: now[0])
    workdir = Workdir(tmp_path / "run")
    workdir.create()
    with Journal(workdir, 50, progress=quiet) as journal:
        journal.log(1, {"loss": 1.0})
        assert not workdir.metrics_file.exists()
        now[0] += journals._UPLOAD_SECONDS + 1
        journal.log(2, {"loss": 1.0})
        assert _steps(workdir) == [("train", 1), ("train", 2)]
        journal.log(3, {"loss": 1.0})
        assert _steps(workdir) == [("train", 1), ("train", 2)]
    assert _steps(workdir) == [("train", 1), ("train", 2), ("train", 3)]
    assert [step for _, step, _ in _events(workdir)[0]] == [1, 2, 3]
    with Journal(workdir, 50, resumed_from=2, progress=quiet) as journal:
        journal.log(3, {"loss": 2.0})
    assert [line["loss"] for line in _lines(workdir)] == [1.0, 1.0, 2.0]


def test_other_hosts_are_silent(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vidembed.workdir.journal.is_first_host", lambda: False)
    workdir = Workdir(tmp_path / "run")
    with Journal(workdir, 50) as journal, journal.training():
        journal.log(1, {"loss": 1.0})
    assert not workdir.path.exists()
    assert capsys.readouterr() == ("", "")


def test_the_line_of_training(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    out = io.StringIO()
    progress = Progress(console=rich.console.Console(file=out, width=200), line_seconds=10)
    rates = {"triplets_per_second": 51234.5, "waiting_share": 0.021}
    with (
        Journal(Workdir(tmp_path), 2000, resumed_from=100, progress=progress) as journal,
        journal.training(),
    ):
        for step in (110, 120, 130, 140, 2000):
            now[0] += 4.0
            journal.log(step, {"loss": step / 1000, **rates})
            journal.log(step, {"map": 0.5}, kind="evaluation")
    lines = out.getvalue().splitlines()
    assert lines[0] == "training ..."
    assert lines[1] == (
        "training: 110 of 2,000 steps, loss 0.1100, 51,234 triplets/s, waiting for data 2%"
    )
    # At 10 steps in 4 seconds, the remaining 1,860 steps take 744 seconds.
    assert lines[2].startswith("training: 140 of 2,000 steps, loss 0.1400, ")
    assert ", 0:12:24 (" in lines[2]
    assert lines[3].startswith("training: 2,000 of 2,000 steps, loss 2.0000, ")
    assert lines[4] == "training: 2,000 of 2,000 steps, 20.0 s"
    assert len(lines) == 5


def test_if_events_cannot_be_written_no_file_stays_open(tmp_path, quiet):
    workdir = Workdir(tmp_path)
    workdir.events.write_text("a file in place of the folder")
    journal = Journal(workdir, 1, progress=quiet)
    with pytest.raises(OSError, match="events"):
        journal.__enter__()
    assert journal._file.closed


def test_the_terminal_leaves_out_a_loss_that_means_nothing(tmp_path):
    for show_loss in (True, False):
        out = io.StringIO()
        progress = Progress(console=rich.console.Console(file=out, width=120))
        with (
            Journal(Workdir(tmp_path), 1, progress=progress, show_loss=show_loss) as journal,
            journal.training(),
        ):
            journal.log(1, {"loss": 0.0, "triplets_per_second": 5.0})
        assert ("loss 0.0000" in out.getvalue()) == show_loss
        assert "5 triplets/s" in out.getvalue()
    assert _lines(Workdir(tmp_path))[-1]["loss"] == 0.0
    assert [task.optimised for task in (MetricLearning, ClosedForm, Ridge)] == [True, False, False]
