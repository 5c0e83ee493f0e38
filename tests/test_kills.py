"""SIGKILL at random moments loses at most the steps since the last durable checkpoint."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from vidembed.workdir import Workdir

pytestmark = pytest.mark.long

STEPS, KILLS = 400, 8


def command(corpus_paths, workdir):
    return [
        sys.executable, "-m", "experiments.cdml", "train", "--workdir", str(workdir),
        "--corpus.table", corpus_paths.table, "--corpus.edges", corpus_paths.edges,
        "--steps", str(STEPS), "--task.model.layers.hidden", "16", "--task.model.layers.size", "8",
        "--task.model.layers.input-dropout", "0.2", "--feed.batch-triplets", "32",
        "--checkpoints.every-steps", "10", "--log-every", "1", "--evaluate-every", "50",
    ]  # fmt: skip


def losses(workdir):
    lines = Workdir(workdir).metrics_file.read_text().splitlines()
    return [(r["step"], r["loss"]) for r in map(json.loads, lines) if r["kind"] == "train"]


def test_a_run_killed_many_times_ends_like_one_that_was_not(corpus_paths, tmp_path):
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    subprocess.run(command(corpus_paths, whole), env=environment, check=True, capture_output=True)
    seconds = time.monotonic() - began

    rng = random.Random(0)
    for _ in range(KILLS):
        running = subprocess.Popen(
            command(corpus_paths, killed),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        time.sleep(rng.uniform(0.2, 0.9) * seconds)
        running.send_signal(signal.SIGKILL)
        output, _ = running.communicate()
        assert running.returncode in (-signal.SIGKILL, 0), output.decode()
    done = subprocess.run(
        command(corpus_paths, killed), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert losses(killed) == losses(whole)
    assert Workdir(killed).done() == STEPS
    leftovers = [p.name for p in Workdir(killed).checkpoints.iterdir() if not p.name.isdecimal()]
    assert not leftovers
