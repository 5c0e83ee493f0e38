"""Two real processes over `jax.distributed` (gloo on this machine) against one."""

import json
import os
import socket
import subprocess
import sys

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


def run(workdir, corpus_paths, *, processes, devices_each, steps, placement="device"):
    """One run over so many processes; the lines of its journal."""
    command = [
        sys.executable, "-m", "experiments.cdml", "train", "--workdir", str(workdir),
        "--corpus.table", corpus_paths.table, "--corpus.edges", corpus_paths.edges,
        "--steps", str(steps), "--feed.placement", placement,
    ]  # fmt: skip
    flags = f"--xla_force_host_platform_device_count={devices_each}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    port = free_port()
    running = []
    for number in range(processes):
        hosts = ["--cluster.coordinator", f"localhost:{port}", "--cluster.count", str(processes)]
        hosts = [*hosts, "--cluster.number", str(number)] if processes > 1 else []
        running.append(
            subprocess.Popen(
                [*command, *hosts, *OPTIONS],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        outputs = [process.communicate(timeout=180)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    for process, output in zip(running, outputs):
        assert process.returncode == 0, output
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
