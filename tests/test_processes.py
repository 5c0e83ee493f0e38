"""Two real processes over `jax.distributed` (gloo on this machine) against one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from vidembed.checkpoint import Checkpoints
from vidembed.mesh import MeshShape, make_mesh
from vidembed.recipe import Recipe
from vidembed.step import state_shape
from vidembed.workdir import Workdir

pytestmark = pytest.mark.long

OPTIONS = [
    "optimiser.rule:sgd", "--optimiser.rule.momentum", "0",
    "--task.model.layers.hidden", "16", "--task.model.layers.size", "8",
    "--task.model.layers.input-dropout", "0.2", "--feed.batch-triplets", "32",
    "--checkpoints.every-steps", "1", "--checkpoints.keep-last", "9",
    "--log-every", "1", "--optimiser.learning-rate", "0.1",
]  # fmt: skip


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def start(verb, workdir, options, *, processes, devices_each):
    """The processes of one job, started."""
    flags = f"--xla_force_host_platform_device_count={devices_each}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "experiments.cdml", verb, "--workdir", str(workdir), *options]
    port, cluster = free_port(), []
    if processes > 1:
        cluster = ["--cluster.coordinator", f"localhost:{port}", "--cluster.count", str(processes)]
        cluster += ["--cluster.timeout-seconds", "15", "--cluster.number"]
    return [
        subprocess.Popen(
            [*command, *cluster, *([str(number)] if cluster else [])],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(processes)
    ]


def ends(running, seconds=180):
    """(exit code, output) of each process; all are killed at the end of the time."""
    try:
        outputs = [process.communicate(timeout=seconds)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    return [(process.returncode, output) for process, output in zip(running, outputs)]


def training(corpus_paths, steps, placement="device"):
    return [
        "--corpus.table", corpus_paths.table, "--corpus.edges", corpus_paths.edges,
        "--steps", str(steps), "--feed.placement", placement, *OPTIONS,
    ]  # fmt: skip


def run(workdir, corpus_paths, *, processes, devices_each, steps, placement="device"):
    """One run over so many processes; the lines of its journal."""
    options = training(corpus_paths, steps, placement)
    running = start("train", workdir, options, processes=processes, devices_each=devices_each)
    for code, output in ends(running):
        assert code == 0, output
    lines = Workdir(workdir).metrics_file.read_text().splitlines()
    return [json.loads(line) for line in lines]


def parameters_at(workdir, corpus, step):
    run = Workdir(workdir)
    recipe = Recipe.from_json(run.read_recipe()["recipe"])
    mesh = make_mesh(MeshShape(), jax.devices()[:1])
    shape = state_shape(recipe, corpus.table.widths, mesh)
    state = Checkpoints(run.checkpoints, read_only=True).restore(step, shape)
    return {name: np.asarray(value) for name, value in state["parameters"].items()}


def test_two_processes_equal_one_in_loss_and_gradient(corpus_paths, corpus, tmp_path):
    one = run(tmp_path / "one", corpus_paths, processes=1, devices_each=4, steps=1)
    two = run(tmp_path / "two", corpus_paths, processes=2, devices_each=2, steps=1)
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-6)
    for name in ("mined", "active", "sampled_survive", "gradient_norm", "spread"):
        assert two[0][name] == pytest.approx(one[0][name], rel=1e-5), name
    before = parameters_at(tmp_path / "one", corpus, 0)
    after = parameters_at(tmp_path / "one", corpus, 1)
    other = parameters_at(tmp_path / "two", corpus, 1)
    for name, value in after.items():
        # With plain SGD the change is the gradient times the rate.
        gradient = (before[name] - value) / 0.1
        np.testing.assert_allclose((before[name] - other[name]) / 0.1, gradient, atol=2e-5)
        assert np.abs(gradient).max() > 0


def test_a_run_goes_on_with_another_number_of_processes(corpus_paths, tmp_path):
    whole = run(tmp_path / "whole", corpus_paths, processes=1, devices_each=2, steps=4)
    run(tmp_path / "parts", corpus_paths, processes=2, devices_each=1, steps=2, placement="host")
    parts = run(tmp_path / "parts", corpus_paths, processes=1, devices_each=2, steps=4)
    assert [line["step"] for line in parts] == [1, 2, 3, 4]
    losses = [[line["loss"] for line in lines] for lines in (whole, parts)]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def wait_for(condition, running, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert all(process.poll() is None for process in running), ends(running)
        assert time.monotonic() < deadline
        time.sleep(0.1)


def logged(workdir):
    file = Workdir(workdir).metrics_file
    return file.exists() and file.read_text().count("\n") > 3


def test_sigterm_to_one_of_two_processes_saves_and_stops_both(corpus_paths, tmp_path):
    options = training(corpus_paths, 100_000)
    running = start("train", tmp_path, options, processes=2, devices_each=1)
    wait_for(lambda: logged(tmp_path), running)
    running[1].send_signal(signal.SIGTERM)
    codes, outputs = zip(*ends(running, 60))
    assert codes == (143, 143), outputs
    assert "stopped and saved at step" in outputs[0]


def test_a_lost_process_ends_the_other_one(corpus_paths, tmp_path):
    options = training(corpus_paths, 100_000)
    running = start("train", tmp_path, options, processes=2, devices_each=1)
    wait_for(lambda: logged(tmp_path), running)
    running[1].kill()
    (code, output), _ = ends(running, 90)
    assert code != 0, output


def test_a_fault_of_one_process_ends_both(corpus_paths, tmp_path):
    """The first host finds that its lease was taken; the other one waits in a collective."""
    options = training(corpus_paths, 100_000)
    running = start("train", tmp_path, options, processes=2, devices_each=1)
    wait_for(lambda: logged(tmp_path), running)
    lease = Workdir(tmp_path).lease_file
    owner = json.loads(lease.read_text())
    lease.write_text(json.dumps(owner | {"token": "another"}))
    (code, output), (other, _) = ends(running, 120)
    assert code == 1, output
    assert "LeaseLostError" in output
    assert other != 0


def test_followers_on_two_processes_measure_and_stop(corpus_paths, tmp_path):
    run(tmp_path, corpus_paths, processes=1, devices_each=2, steps=2)
    workdir = Workdir(tmp_path)
    workdir.done_file.unlink()  # as while training goes on
    running = start("evaluate", tmp_path, ["--follow"], processes=2, devices_each=1)
    wait_for(lambda: workdir.measured_steps() == {0, 1, 2}, running)
    running[0].send_signal(signal.SIGTERM)
    codes, outputs = zip(*ends(running, 60))
    assert codes == (143, 143), outputs
