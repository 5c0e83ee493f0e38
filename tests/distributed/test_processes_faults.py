"""Runs of several processes when one is stopped, killed, late or different."""

import json
import shutil
import signal
import time

import pytest

from tests.jobs import SMALL, data, ends, start, wait_for
from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.hierarchy import write_hierarchy
from vidembed.workdir.checkpoints.store import Checkpoints
from vidembed.workdir.layout import Workdir

pytestmark = pytest.mark.long

FOREVER = ["--steps", "100000", "--checkpoints.every-steps", "5", "--checkpoints.keep-last", "99"]


def logged(workdir, step=4):
    file = Workdir(workdir).metrics_file
    return file.exists() and file.read_text().count("\n") >= step


def trained(workdir):
    lines = Workdir(workdir).metrics_file.read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def durable(workdir):
    return Checkpoints(Workdir(workdir).checkpoints, read_only=True).steps()


def resume(workdir, options, processes=2):
    """Restart the run for ten steps beyond the newest checkpoint: it must succeed."""
    newest = durable(workdir)[-1]
    options = [*options[: options.index("--steps")], "--steps", str(newest + 10)]
    codes, outputs = ends(start("train", workdir, options, processes=processes))
    assert set(codes) == {0}, outputs
    assert f"going on from step {newest}\n" in outputs[0]
    assert trained(workdir) == list(range(1, newest + 11))


@pytest.mark.fault("Runs: one host dies, falls silent, or is asked to stop")
@pytest.mark.parametrize(("processes", "signalled"), [(2, [1]), (2, [0, 1]), (4, [2])])
def test_sigterm_saves_and_stops_all(processes, signalled, corpus_paths, tmp_path):
    workdir, options = tmp_path / "run", [*data(corpus_paths), *SMALL, *FOREVER]
    jobs = start("train", workdir, options, processes=processes)
    wait_for(lambda: logged(workdir), jobs)
    for number in signalled:
        jobs[number].send(signal.SIGTERM)
    codes, outputs = ends(jobs, 90)
    assert set(codes) == {143}, outputs
    newest = durable(workdir)[-1]
    assert f"stopped and saved at step {newest};" in outputs[0]
    assert trained(workdir) == list(range(1, newest + 1))
    if processes == 2:
        resume(workdir, options)


@pytest.mark.fault(
    "Runs: one host dies, falls silent, or is asked to stop",
    "non-zero on all; all save and stop",
)
@pytest.mark.parametrize(("processes", "victim"), [(2, 1), (2, 0), (4, 2)])
def test_a_lost_process_ends_the_others(processes, victim, corpus_paths, tmp_path):
    workdir, options = tmp_path / "run", [*data(corpus_paths), *SMALL, *FOREVER]
    jobs = start("train", workdir, options, processes=processes)
    wait_for(lambda: logged(workdir, 12), jobs)
    jobs[victim].send(signal.SIGKILL)
    began, seen = time.monotonic(), durable(workdir)[-1]
    codes, outputs = ends(jobs, 90)
    # The time-out is 40 s; a death is noticed earlier, through the closed connections.
    assert time.monotonic() - began < 60
    assert codes.pop(victim) == -signal.SIGKILL
    del outputs[victim]
    for code, output in zip(codes, outputs):
        # 1 if our own message came first, 134 if JAX ended the process before.
        assert code in (1, -signal.SIGABRT), output
        words = "error: process" if code == 1 else "another task died"
        assert words in output, output
        assert "Traceback" not in output, output
    assert durable(workdir)[-1] >= seen
    resume(workdir, options, processes=min(processes, 2))


@pytest.mark.fault("Runs: one host dies, falls silent, or is asked to stop")
def test_a_silent_process_is_lost_after_the_timeout(corpus_paths, tmp_path):
    """A process that hangs: its connections stay open, and only its heartbeat is missing."""
    workdir, options = tmp_path / "run", [*data(corpus_paths), *SMALL, *FOREVER]
    jobs = start("train", workdir, options, processes=2, timeout=15)
    wait_for(lambda: logged(workdir), jobs)
    jobs[1].send(signal.SIGSTOP)
    try:
        began = time.monotonic()
        code = jobs[0].end(90)
        assert 5 < time.monotonic() - began < 60, jobs[0].output
    finally:
        jobs[1].send(signal.SIGKILL)
        ends(jobs, 10)
    assert code in (1, -signal.SIGABRT), jobs[0].output
    assert "error: process" in jobs[0].output or "another task died" in jobs[0].output
    resume(workdir, options, processes=1)


def test_a_fault_of_one_process_ends_both(corpus_paths, tmp_path):
    """The first host learns that its lease was taken; the other waits in a collective."""
    workdir, options = tmp_path / "run", [*data(corpus_paths), *SMALL, *FOREVER]
    jobs = start("train", workdir, options, processes=2)
    wait_for(lambda: logged(workdir), jobs)
    lease = Workdir(workdir).lease_file
    owner = json.loads(lease.read_text())
    lease.write_text(json.dumps(owner | {"token": "another"}))
    codes, outputs = ends(jobs, 120)
    assert codes[0] == 1, outputs
    assert "was taken by" in outputs[0]
    assert codes[1] in (1, -signal.SIGABRT), outputs


@pytest.mark.fault("Runs: hosts with other options, data or clusters")
def test_hosts_that_were_not_started_alike_are_refused(corpus_paths, tmp_path):
    workdir = tmp_path / "run"
    options = {
        0: ["--steps", "20"],
        1: ["--steps", "20"],
        2: ["--steps", "20", "--seed", "9"],
        3: ["--steps", "30"],
    }
    jobs = start("train", workdir, [*data(corpus_paths), *SMALL], processes=4, own=options)
    codes, outputs = ends(jobs)
    assert codes == [1] * 4, outputs
    for output in outputs:
        assert "error: the hosts of this run were not started alike:" in output
        assert "  recipe.seed: 0 on processes 0, 1, 3; 9 on process 2\n" in output
        assert "  recipe.steps: 20 on processes 0, 1, 2; 30 on process 3\n" in output
        assert "Traceback" not in output
    assert not workdir.exists()


@pytest.mark.fault("Runs: hosts with other options, data or clusters")
def test_hosts_with_other_data_are_refused(corpus_paths, tmp_path):
    """Each host may have the data at its own path, but it must be the same data."""
    workdir, edges = tmp_path / "run", tmp_path / "edges.csv"
    edges.write_text("source,target,weight\nv0000,v0020,2\nv0020,v0040,3\nv0040,v0060,4\n")
    table = tmp_path / "table"
    shutil.copytree(corpus_paths.table, table)
    options = ["--corpus.table", str(table), *SMALL, "--steps", "2"]
    paths = {0: ["--corpus.edges", corpus_paths.edges], 1: ["--corpus.edges", str(edges)]}
    codes, outputs = ends(start("train", workdir, options, processes=2, own=paths))
    assert codes == [1, 1], outputs
    for output in outputs:
        assert "  videos, relations and split: " in output
    assert not (workdir / "recipe.json").exists()


@pytest.mark.fault("Runs: hosts with other options, data or clusters")
def test_hosts_with_other_clusters_are_refused(clustered_paths, clustered, tmp_path):
    """Clusters and other data may be at different paths, but must be the same."""
    workdir, hierarchy = tmp_path / "run", str(tmp_path / "hierarchy.parquet")
    table = shutil.copytree(clustered_paths.table, tmp_path / "table")
    options = ["--corpus.edges", clustered_paths.edges, *SMALL, "--steps", "2"]
    paths = {
        0: ["--corpus.hierarchy", clustered_paths.hierarchy, "--corpus.table", str(table)],
        1: ["--corpus.hierarchy", hierarchy, "--corpus.table", clustered_paths.table],
    }

    def run(linkage):
        made = affinity_clusters(
            clustered.train_graph, clustered.is_train, rounds=3, max_size=6, linkage=linkage
        )
        write_hierarchy(made, hierarchy, clustered.table.ids)
        jobs = start("train", workdir, options, processes=2, own=paths, system="gcml")
        return ends(jobs)

    codes, outputs = run("max")
    assert codes == [1, 1], outputs
    for output in outputs:
        assert "error: the hosts of this run were not started alike:" in output
        assert "  batches (the feed, and the clusters that it draws by): " in output
        assert "videos, relations and split: " not in output
        assert "Traceback" not in output
    # No recipe, journal or checkpoint: the first host created the folders and released its lease.
    files = [path.name for path in workdir.rglob("*") if path.is_file()]
    assert set(files) <= {"lease.json.lock"}
    codes, outputs = run("average")
    assert codes == [0, 0], outputs


def test_followers_on_two_processes_measure_and_stop(corpus_paths, tmp_path):
    workdir = tmp_path / "run"
    options = [
        *data(corpus_paths), *SMALL, "--steps", "2",
        "--checkpoints.every-steps", "1", "--checkpoints.keep-last", "9",
    ]  # fmt: skip
    codes, outputs = ends(start("train", workdir, options, processes=1))
    assert codes == [0], outputs
    run = Workdir(workdir)
    run.done_file.unlink()  # as while training goes on
    jobs = start("evaluate", workdir, ["--follow"], processes=2)
    wait_for(lambda: [m.steps() for m in run.all_measurements()] == [{0, 1, 2}], jobs)
    jobs[0].send(signal.SIGTERM)
    codes, outputs = ends(jobs, 60)
    assert codes == [143, 143], outputs
