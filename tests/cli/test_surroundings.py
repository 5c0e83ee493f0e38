"""Signals, pipes and terminals of real processes: the exit code, one sentence, what is left."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs import SMALL, data
from vidembed.__main__ import main
from vidembed.cli.guard import guarded
from vidembed.cli.surroundings import Surroundings
from vidembed.distributed.stopping import StopFlag
from vidembed.records.table import FeatureTable
from vidembed.workdir.checkpoints.store import Checkpoints

SAMPLE = Path(__file__).resolve().parents[2] / "data/youtube8m/validate0009.tfrecord"


# A test may run in the background of a shell, where Ctrl-C is ignored, or under nohup, where the
# signal of a closed terminal is.
PROGRAM = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
runpy.run_module("vidembed", run_name="__main__")
"""


def start(*words, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    # One device: what is tested here has nothing to do with several.
    environment = {**os.environ, "XLA_FLAGS": "", **options.pop("env", {})}
    return subprocess.Popen(command, env=environment, **{**pipes, **options})


def until(condition, process):
    for _ in range(600):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    pytest.fail("it never came so far")


def training(workdir, corpus_paths, **options):
    asked = [*data(corpus_paths), *SMALL, "--steps", "1000000", "--checkpoints.every-steps", "9999"]
    return start("train", "cdml", "--workdir", workdir, *asked, **options)


def check_saved(process, workdir):
    try:
        assert process.wait(60) == 143
    finally:
        process.kill()
    assert Checkpoints(workdir / "checkpoints", read_only=True).latest() > 0


@pytest.mark.fault("Processes: the pipe or the terminal of a training is closed")
def test_a_stream_that_is_closed_asks_to_stop(capsys, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as closed, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", closed)
        with Surroundings(), StopFlag() as stop:
            for _ in range(3):
                print("x", flush=True)
            assert stop.asked
    assert capsys.readouterr().err == "stdout can no longer be written (Broken pipe): stopping\n"


@pytest.mark.fault("Processes: the pipe or the terminal of a training is closed")
@pytest.mark.long
def test_a_training_whose_pipe_is_closed_ends_saved(corpus_paths, tmp_path):
    process = training(tmp_path, corpus_paths)
    until(lambda: "loss" in process.stdout.readline(), process)
    process.stdout.close()
    check_saved(process, tmp_path)
    with process.stderr as errors:
        [told] = errors.read().splitlines()
    assert told == "stdout can no longer be written (Broken pipe): stopping"


@pytest.mark.fault(
    "Processes: the pipe or the terminal of a training is closed",
    "143 and saved; one sentence where something is left to say it on",
)
@pytest.mark.long
def test_a_training_whose_terminal_is_closed_ends_saved(corpus_paths, tmp_path):
    """The terminal's own signal, and the error of whatever is written to it afterwards."""
    ours, theirs = pty.openpty()
    process = training(
        tmp_path, corpus_paths, stdout=theirs, stderr=theirs, stdin=theirs, start_new_session=True
    )
    os.close(theirs)
    journal = tmp_path / "metrics.jsonl"

    def trains():
        os.set_blocking(ours, False)
        with contextlib.suppress(BlockingIOError):
            os.read(ours, 1 << 16)
        return journal.exists() and journal.read_text().count("\n") > 3

    until(trains, process)
    process.send_signal(signal.SIGHUP)
    os.close(ours)
    check_saved(process, tmp_path)


@pytest.fixture(scope="module")
def many_watches(tmp_path_factory):
    rng, count = np.random.default_rng(0), 3_000_000
    path = tmp_path_factory.mktemp("watches") / "sessions.parquet"
    columns = {
        "session_id": rng.integers(0, count // 10, count),
        "timestamp": rng.integers(0, 1 << 40, count),
        "video_id": pa.array(rng.integers(0, count // 8, count)).cast(pa.string()),
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.fault(
    "Processes: SIGTERM, a closed terminal or Ctrl-C in import, simulate, cowatch, cluster",
    "143, after Ctrl-C 130, and one sentence; what is unfinished is removed, after "
    "SIGKILL by the same command",
)
@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGTERM, 143, "stopped as asked; unfinished output was removed"),
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGKILL, -9, ""),
    ],
)
def test_a_cowatch_that_is_stopped_leaves_nothing(number, code, words, many_watches, tmp_path):
    edges = tmp_path / "e.parquet"
    options = ["--threads", "1", "--memory-limit", "80MB"]
    process = start("cowatch", many_watches, edges, *options)
    until(lambda: list(tmp_path.glob(".cowatch-e.parquet.*")), process)
    time.sleep(0.5)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert {line.partition(" of ")[0] for line in out.splitlines()} == {"counting co-watches"}
    assert err.startswith(words)
    assert len(err.splitlines()) == bool(words)
    other = tmp_path / f".cowatch-f.parquet.{2**31 - 1}.22"
    other.mkdir()
    (tmp_path / "s.csv").write_text("session_id,timestamp,video_id\ns,1,a\ns,2,b\n")
    if number == signal.SIGKILL:  # which nobody can answer: the same command does
        assert main(["cowatch", str(tmp_path / "s.csv"), str(edges), "--min-weight", "1"]) == 0
        edges.unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "s.csv"]


@pytest.mark.fault(
    "Processes: SIGTERM, a closed terminal or Ctrl-C in import, simulate, cowatch, cluster",
)
@pytest.mark.parametrize("verb", ["import", "simulate", "cluster"])
def test_other_verbs_that_are_stopped_leave_nothing(verb, corpus_paths, tmp_path, monkeypatch):
    """Asked while they write, which is where something would be left."""
    words = {
        "import": [SAMPLE, tmp_path / "made" / "table"],
        "simulate": [corpus_paths.table, tmp_path / "made" / "s.parquet"],
        "cluster": [corpus_paths.edges, tmp_path / "made" / "h", "--table", corpus_paths.table],
    }[verb]
    write, arrived = pq.write_table, []

    def stopped(*given, **options):
        if verb != "import":
            write(*given, **options)
        arrived.append(signal.raise_signal(signal.SIGTERM))

    monkeypatch.setattr(pq, "write_table", stopped)
    monkeypatch.setattr("vidembed.records.table_folder.TableWriter.finish", stopped)
    assert main([verb, *map(str, words)]) == 143
    made = tmp_path / "made"
    assert not [path for path in made.rglob("*") if path.is_file()] or pytest.fail("left")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.fault(
    "Processes: SIGTERM, a closed terminal or Ctrl-C in import, simulate, cowatch, cluster",
)
def test_what_a_library_makes_of_a_signal_is_the_signal(capsys):
    def run():
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as asked:
            raise RuntimeError("Query interrupted") from asked

    assert guarded(run) == 143
    assert capsys.readouterr().err.startswith("stopped as asked")


@pytest.mark.fault(
    "Processes: a terminal that cannot show a character",
    '"?" in its place; the exit code stays true',
)
@pytest.mark.long
def test_a_terminal_without_utf8_changes_no_exit_code(tmp_path):
    program = """
import sys
from vidembed.__main__ import main
for words in sys.argv[1:]:
    try:
        code = main(words.split())
    except SystemExit as end:
        code = end.code
    print(f"exit code {code}", file=sys.stderr)
"""
    commands = (f"inspect {SAMPLE}", "train cdml --help", "show", f"inspect {tmp_path}/é→")
    for encoding in ("ascii", "latin-1"):
        done = subprocess.run(
            [sys.executable, "-c", program, *commands[: None if encoding == "ascii" else 1]],
            env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True,
        )  # fmt: skip
        codes = re.findall(r"exit code (\d)", done.stderr.decode(encoding))
        assert codes == (list("0021") if encoding == "ascii" else ["0"]), done
        assert b"Traceback" not in done.stderr


@pytest.mark.fault(
    "Processes: `JAX_PLATFORMS` names a platform that is not there",
    "1: one sentence, and what to set",
)
def test_a_platform_that_is_not_there_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "zpu")
    for words in ("RuntimeError('Unable to initialize backend\\nmore')", "AssertionError"):
        raising = compile(f"raise {words}", "jax/_src/xla_bridge.py", "exec")
        assert guarded(lambda raising=raising: exec(raising)) == 1
        [told] = capsys.readouterr().err.splitlines()
        assert told.startswith("error: JAX finds no platform (JAX_PLATFORMS=zpu): ")


@pytest.mark.fault("Processes: `JAX_PLATFORMS` names a platform that is not there")
@pytest.mark.long
@pytest.mark.parametrize("platform", ["cuda", "tpu", "zpu"])
def test_what_jax_says_of_a_platform_that_is_not_there_is_known(platform):
    done = start("show", "cdml", env={**os.environ, "JAX_PLATFORMS": platform})
    [told] = done.communicate()[1].splitlines()
    assert done.returncode == 1
    assert re.search(f"no platform .JAX_PLATFORMS={platform}.: .*; unset it, or try cpu", told)


@pytest.mark.fault(
    "Processes: output on a disk that is full",
    "1 and the reason, where the work itself is done; a pipe that nobody reads changes no "
    "code then, nor one of a verb that writes files, nor one of --help",
)
@pytest.mark.parametrize("verb", ["print", "cowatch"])
def test_output_that_is_lost(capsys, monkeypatch, tmp_path, verb):
    """Where the work is done before: nobody who closed a pipe wants to hear of it."""

    def printing(to):
        with open(to, "w") as lost, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", lost)
            return run(), capsys.readouterr().err

    def run():
        if verb == "print":
            return guarded(lambda: print("x"))
        return main(["cowatch", str(tmp_path / "s.csv"), str(edges), "--min-weight", "1"])

    (tmp_path / "s.csv").write_text("session_id,timestamp,video_id\ns,1,a\ns,2,b\n")
    edges = tmp_path / "e.parquet"
    code, words = printing("/dev/full")
    assert code == 1
    assert "stopping" not in words
    assert "No space left on device" in words
    read, closed = os.pipe()
    os.close(read)
    assert printing(closed) == (0, "")
    assert edges.exists() == (verb == "cowatch")
    words = {"print": "", "cowatch": "cowatch"}[verb]
    program = f"{sys.executable} -m vidembed {words} --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.fault("Processes: output on a disk that is full")
@pytest.mark.parametrize("words", ["", "cowatch", "train", "show cdml"])
def test_help_that_is_lost(capsys, monkeypatch, words):
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as end:
            main([*words.split(), "--help"])
    [told] = capsys.readouterr().err.splitlines()
    assert (end.value.code, told[-23:]) == (1, "No space left on device")


@pytest.mark.fault(
    "Processes: `~` in a path behind `=`",
    "the home folder",
)
def test_a_tilde_is_the_home_folder_wherever_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["import", str(SAMPLE), "~/table", "--counts=~/none.json"]) == 1
    assert str(tmp_path / "none.json") in capsys.readouterr().err
    assert main(["import", str(SAMPLE), "~/table"]) == 0
    assert len(FeatureTable.open(tmp_path / "table")) == 266
    assert not (tmp_path / "~").exists()
