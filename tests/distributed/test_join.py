import os
import signal
import socket
import time

import pytest

from tests.jobs import SMALL, Job, cluster, data, free_port
from vidembed.cli.launch import main
from vidembed.distributed.join import Cluster
from vidembed.recipes.cdml import recipe


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"coordinator": "h:1"}, "--coordinator h:1 is given without --processes and --process:"),
        ({"process": 1, "processes": 2}, "--processes 2 --process 1 is given without --coordin"),
        ({"coordinator": "h", "processes": 2, "process": 0}, "--coordinator h must be HOST:PORT"),
        ({"coordinator": "h:0", "processes": 2, "process": 0}, "a port from 1 to 65535"),
        ({"coordinator": "h:65536", "processes": 2, "process": 0}, "a port from 1 to 65535"),
        ({"coordinator": "h:x", "processes": 2, "process": 0}, "must be HOST:PORT"),
        ({"coordinator": "h:1", "processes": 2, "process": 2}, r"--process 2 must lie in \[0, 2\)"),
        ({"coordinator": "h:1", "processes": 2, "process": -1}, "--process -1 must lie in"),
        ({"coordinator": "h:1", "processes": 0, "process": 0}, "--processes 0 must be 1 or more"),
        ({"host_timeout_seconds": 0}, "--host-timeout-seconds 0 must be"),
    ],
)
def test_what_cannot_join_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Cluster(**options)


def test_alone_nothing_is_joined():
    before = signal.getsignal(signal.SIGINT)
    Cluster().connect()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_half_of_the_options_is_a_mistake_on_the_command_line(tmp_path, capsys):
    for verb in ("train", "evaluate"):
        options = [verb, "--workdir", str(tmp_path / "run"), "--coordinator", "localhost:1234"]
        with pytest.raises(SystemExit) as end:
            main(recipe, options, name="cdml")
        assert end.value.code == 2
        words = "--coordinator localhost:1234 is given without --processes and --process: give all"
        assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_where_no_cluster_tells_distributed_says_so(corpus_paths, tmp_path):
    job = Job("train", tmp_path / "run", [*data(corpus_paths), *SMALL, "--distributed"])
    assert job.end(60) == 1, job.output
    assert "error: --distributed found no cluster here" in job.output
    assert "--coordinator HOST:PORT --processes N --process I" in job.output
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_cluster_that_is_not_understood_is_no_missing_one(corpus_paths, tmp_path):
    options = [*data(corpus_paths), *SMALL, "--distributed"]
    slurm = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "two"}
    slurm |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    job = Job("train", tmp_path / "run", options, environment=slurm)
    assert job.end(60) == 1, job.output
    assert "error: --distributed cannot read the cluster environment here" in job.output
    assert "'two'" in job.output


def test_a_port_that_is_taken_is_refused(corpus_paths, tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = ["train", "--workdir", str(tmp_path / "run"), *data(corpus_paths)]
        assert main(recipe, [*options, *cluster(2, 0, port, timeout=5)], name="cdml") == 1
    words = capsys.readouterr().err
    assert f"cannot listen on port {port} of {socket.gethostname()}" in words
    assert f"--coordinator localhost:{port} requires: Address already in use. Give all" in words
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.long
def test_a_process_that_nobody_joins_says_whom_it_awaited(number, corpus_paths, tmp_path):
    port = free_port()
    job = Job(
        "train",
        tmp_path / "run",
        [*data(corpus_paths), *SMALL, *cluster(4, number, port, timeout=3)],
    )
    began = time.monotonic()
    assert job.end(60) == 1, job.output
    assert time.monotonic() - began < 40
    assert f"process {number} of 4 waits up to 3 s for the others at localhost:{port}" in job.output
    assert f"error: waited 3 s for all 4 processes at localhost:{port}" in job.output
    assert "Check failure stack trace" not in job.output
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_wait_for_others_can_be_broken_off(number, corpus_paths, tmp_path):
    options = [*data(corpus_paths), *SMALL, *cluster(2, 1, free_port(), timeout=100)]
    job = Job("train", tmp_path / "run", options)
    while "waits up to" not in job.output:
        assert not job.ended, job.output
        time.sleep(0.05)
    time.sleep(0.5)
    job.send(number)
    assert job.end(20) == -number, job.output


@pytest.mark.long
def test_distributed_takes_the_processes_from_slurm(corpus_paths, tmp_path):
    """The variables that srun sets, on this machine: two tasks on one node."""
    options = [*data(corpus_paths), *SMALL, "--steps", "2", "--distributed"]
    # JAX makes its port of the job's number: another one for each process that runs tests.
    slurm = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
    }
    jobs = [
        Job(
            "train",
            tmp_path / "run",
            options,
            environment={**slurm, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
        )
        for task in range(2)
    ]
    for job in jobs:
        assert job.end(120) == 0, job.output
    assert (tmp_path / "run" / "DONE").exists()
    assert "training: 2 of 2 steps" in jobs[0].output
