"""A disk that is really full: what is said, the exit code, and that nothing is lost.

A small disk is mounted where that is permitted; elsewhere no file may grow beyond a limit, which
fails a write just as truly (and says "File too large").
"""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.cdml import recipe
from vidembed.__main__ import main
from vidembed.cli import launch
from vidembed.progress import Progress
from vidembed.records.table import FeatureTable
from vidembed.serving.index import Index
from vidembed.workdir.journal import Journal
from vidembed.workdir.layout import Workdir

SAMPLE = Path(__file__).resolve().parents[2] / "data/youtube8m"
FULL = r"No space left on device|the disk is full|File too large|disk of .* has [\d,]+ free"
STEPS = 11


class Disk:
    """A folder with so many bytes of room."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        size = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
        self.mounted = subprocess.run(size, capture_output=True).returncode == 0
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._filler = folder / "filler"

    def leave(self, room: int) -> None:
        """Fills all but `room` bytes."""
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room // 8, self._limits[1]))
            return
        there = os.statvfs(self.folder)
        with open(self._filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, there.f_bavail * there.f_frsize - room)

    def free(self) -> None:
        """As much room as there was at first."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)
        self._filler.unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Every file below, but for the filler."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.folder)) for path in files if path != self._filler)


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    made = Disk(folder)
    yield made
    made.free()
    if made.mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def cdml(verb, workdir, corpus_paths, *options):
    data = ["--corpus.table", corpus_paths.table, "--corpus.edges", corpus_paths.edges]
    small = [
        "--task.model.layers.hidden", "16", "--task.model.layers.size", "8",
        "--feed.batch-triplets", "32", "--checkpoints.every-steps", "4",
        "--checkpoints.keep-last", "9", "--log-every", "1", "--steps", str(STEPS),
    ]  # fmt: skip
    return [verb, "--workdir", str(workdir), *(data + small if verb == "train" else []), *options]


def run(arguments, capsys):
    capsys.readouterr()
    code = launch.main(recipe, arguments, name="cdml")
    return code, *capsys.readouterr()


def losses(workdir):
    lines = map(json.loads, Workdir(workdir).metrics_file.read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if line["kind"] == "train"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpus_paths):
    """The losses of a run with all the room it wants."""
    workdir = tmp_path_factory.mktemp("whole")
    assert launch.main(recipe, cdml("train", workdir, corpus_paths), name="cdml") == 0
    return losses(workdir)


def check_training(disk, corpus_paths, whole, capsys, room):
    """Stopped for want of room, and gone on with; returns what was said."""
    workdir = disk.folder / "run"
    disk.leave(room)
    code, _, err = run(cdml("train", workdir, corpus_paths), capsys)
    assert code == 1, err
    assert re.search(FULL, err)
    assert str(workdir) in err
    assert len(err.splitlines()) == 1
    kept = Workdir(workdir).checkpoints
    names = [path.name for path in kept.iterdir()] if kept.exists() else []
    # A write that was on its way when the fault was seen may leave a folder, for the next run.
    steps = sorted(int(name) for name in names if ".orbax-checkpoint-tmp" not in name)
    assert not [
        name for name in disk.names() if name.startswith("run/.") or name == "run/lease.json"
    ]
    assert Workdir(workdir).done() is None
    disk.free()
    code, out, err = run(cdml("train", workdir, corpus_paths), capsys)
    assert code == 0, err
    assert not steps or f"going on from step {steps[-1]}" in out
    assert losses(workdir) == whole
    assert all(path.name.isdecimal() for path in kept.iterdir())
    return steps


@pytest.mark.fault(
    "Runs: disk full at a checkpoint",
    "1: step, newest good step, what to do; leftovers removed, at the latest by the same "
    "command, which goes on after",
)
@pytest.mark.parametrize(
    ("room", "least"), [pytest.param(8_000, 0, marks=pytest.mark.long), (260_000, 1)]
)
def test_training(disk, corpus_paths, whole, capsys, room, least):
    assert len(check_training(disk, corpus_paths, whole, capsys, room)) >= least * disk.mounted


@pytest.mark.fault("Runs: disk full at a checkpoint")
@pytest.mark.long
@pytest.mark.parametrize("room", [0, 4_096, 12_288, 20_000, 60_000, 100_000, 180_000, 380_000])
def test_training_with_any_room(disk, corpus_paths, whole, capsys, room):
    check_training(disk, corpus_paths, whole, capsys, room)


@pytest.mark.fault("Runs: disk full at a checkpoint")
@pytest.mark.long
def test_the_command_says_it_once(disk, corpus_paths):
    """No array's own failure, no thread's traceback, beside the one message."""
    disk.leave(160_000)
    done = subprocess.run(
        [sys.executable, "-m", "experiments.cdml", *cdml("train", disk.folder / "r", corpus_paths)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    [told] = done.stderr.splitlines()
    assert re.search(FULL, told)
    # Whether checkpoint or journal meets it first is chance; both say what to do.
    assert "start again" in told


@pytest.mark.fault(
    "Runs: disk full at the journal",
    "1: the file; no wait without end",
)
def test_a_journal_raises_and_never_waits(disk):
    """tensorboardX's own thread dies of it, and leaves the run waiting for ever."""
    workdir = Workdir(disk.folder)
    disk.leave(40_000)
    journal = Journal(workdir, 10_000, progress=Progress(quiet=True))

    def log_on():
        with journal:
            for step in range(1, 10_000):
                journal.log(step, {f"measure{n}": 0.5 for n in range(20)})

    with pytest.raises(OSError, match=rf"({FULL}).*newest checkpoint") as caught:
        log_on()
    assert str(disk.folder) in str(caught.value)
    disk.free()
    with Journal(workdir, 10_000, resumed_from=3, progress=Progress(quiet=True)) as again:
        again.log(4, {"loss": 1.0})
    lines = [json.loads(line) for line in workdir.metrics_file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


def test_what_ended_a_run_is_not_hidden_by_its_journal(disk):
    journal = Journal(Workdir(disk.folder), 9, progress=Progress(quiet=True))

    def fail():
        with journal:
            journal.log(1, {f"measure{n}": 0.5 for n in range(50)})
            disk.leave(0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


@pytest.mark.fault(
    "Runs: disk full at an evaluation",
    "1: the file; nothing half written",
)
def test_evaluation(disk, corpus_paths, capsys):
    workdir = Workdir(disk.folder / "run")
    assert run(cdml("train", workdir, corpus_paths, "--steps", "4"), capsys)[0] == 0
    before = disk.names()
    disk.leave(0)
    code, _, err = run(cdml("evaluate", workdir, corpus_paths), capsys)
    assert code == 1
    assert re.search(rf"({FULL}).*{workdir.evaluation}", err)
    # The folder of the evaluator may be there, with nothing in it.
    assert [n for n in disk.names() if (disk.folder / n).is_file()] == [
        n for n in before if (disk.folder / n).is_file()
    ]
    disk.free()
    code, _, err = run(cdml("evaluate", workdir, corpus_paths), capsys)
    assert code == 0, err
    assert [measured.steps() for measured in workdir.all_measurements()] == [{4}]
    assert workdir.pinned() == {4}


def vidembed(arguments, capsys):
    capsys.readouterr()
    code = main(list(map(str, arguments)))
    return code, *capsys.readouterr()


@pytest.mark.fault(
    "Runs: disk full at an import, at edges, at sessions",
    "1: the file; nothing left, an older file stays",
)
@pytest.mark.parametrize("room", [4_096, 40_000, 9_000_000])
def test_import(disk, capsys, room):
    shard, table = SAMPLE / "validate0009.tfrecord", disk.folder / "table"
    disk.leave(room)
    code, _, err = vidembed(["import", shard, table], capsys)
    assert code == 1
    assert re.search(rf"^error: cannot write .*{table}.*({FULL}).*free space", err)
    assert len(err.splitlines()) == 1
    # All of it is removed, whatever arrays were being written when one failed.
    assert disk.names() == []
    disk.free()
    assert vidembed(["import", shard, table], capsys)[0] == 0
    assert len(FeatureTable.open(table)) == 266


@pytest.mark.fault("Runs: disk full at an import, at edges, at sessions")
def test_edges_and_sessions(disk, corpus_paths, capsys):
    """An older file stays as it was."""
    sessions, edges = disk.folder / "sessions.parquet", disk.folder / "edges.parquet"
    makings = {
        sessions: ["simulate", corpus_paths.table, sessions],
        edges: ["cowatch", sessions, edges],
    }
    for file, command in makings.items():
        assert vidembed(command, capsys)[0] == 0
        older = file.read_bytes()
        again = [*command, *(["--min-weight", "1"] if file == edges else ["--seed", "1"])]
        disk.leave(0)
        code, _, err = vidembed(again, capsys)
        assert code == 1
        assert re.search(FULL, err)
        assert str(disk.folder) in err
        assert file.read_bytes() == older
        assert set(disk.names()) <= {"sessions.parquet", "edges.parquet"}
        disk.free()
        assert vidembed(again, capsys)[0] == 0
        assert file.read_bytes() != older


@pytest.mark.fault(
    "Indexes: disk full while an index is made or changed",
    "an OSError that names the file; the index that stands stays whole, nothing is left "
    "over, the same change goes through later",
)
@pytest.mark.parametrize("room", [0, 4_096, 100_000, 350_000])
def test_an_index(disk, room):
    """Made, added to, merged: the index that stands stays as it was, and nothing else is left."""
    ids = np.arange(1000).astype("S")
    vectors = np.random.default_rng(0).normal(size=(1000, 64)).astype(np.float32)
    index = Index.create(disk.folder / "index", ids[:500], vectors[:500], space="s")
    index.remove(ids[:1])
    before = disk.names()
    more = ids[500:], vectors[500:]
    disk.leave(room)
    with pytest.raises(OSError, match=rf"({FULL}).*{disk.folder}/index"):
        index.change(add=more, merge=True, engine="ivf")
    with pytest.raises(OSError, match=rf"({FULL}).*{disk.folder}/new"):
        Index.create(disk.folder / "new", np.arange(2000).astype("S"), np.eye(2000), space="s")
    assert disk.names() in ([*before], [*before, "new/.lock"])
    assert len(Index.open(disk.folder / "index")) == len(index) == 499
    assert index.verify()
    assert index.search(vectors[:3], 2).counts.tolist() == [2, 2, 2]
    disk.free()
    index.change(add=more, merge=True, engine="ivf")
    assert len(index) == 999
    assert len(Index.rollback(disk.folder / "index")) == 499
