"""The step benchmark runs, and compares like with like (experiments.benchmarks.step)."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments import cdml
from experiments.benchmarks import bench, step
from experiments.benchmarks.bench import FULL, NARROW
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.step import new_state
from vidembed.feeds.triplets import Triplets
from vidembed.models.fusion import LateFusion, Layers
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.tasks.spec import Spec

LAYERS = Layers(hidden=(12,), size=8)


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(step, "SQUARE", 128)
    monkeypatch.setattr(step, "VIDEOS", 100)
    monkeypatch.setattr(step, "WIDTHS", {"visual": 6, "audio": 3})
    monkeypatch.setattr(step, "FORBIDDEN", 5)


def test_reports_a_mode(small, tmp_path):
    step.main(triplets=16, hidden=12, size=8, rounds=1, only="bfloat16 layers and mining")
    rows = json.loads((tmp_path / "step-16.json").read_text())["rows"]
    named = {row["case"]: row for row in rows if not row["case"].startswith("peer:")}
    assert named.keys() == {FULL, NARROW, "bfloat16 layers and mining"}
    assert named[FULL]["ratio"] == 1
    row = named["bfloat16 layers and mining"]
    assert min(row["seconds"], row["limit_seconds"], row["peak_bytes"]) > 0


def test_the_arithmetic_of_the_papers_step():
    assert step.operations(7200, 4000, 256) == pytest.approx(664e9 + 80e9, rel=2e-3)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_the_peer_takes_the_same_steps(small, compute):
    """The loss before an update by Adam, and what the update takes off it."""
    torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install -e '.[bench]'")
    from experiments.benchmarks import step_peer

    features, drawn = step.synthetic_features(100), step.draw(16, 100)
    task = MetricLearning(model=LateFusion(layers=replace(LAYERS, compute=compute)))
    optimiser = Optimiser(learning_rate=0.005)
    recipe = replace(cdml.recipe, task=task, feed=Triplets(batch_triplets=16), optimiser=optimiser)
    ours, _ = step.updates(recipe, features, drawn)
    begin = jax.jit(
        lambda: new_state(recipe, Spec(widths=step.WIDTHS), step.no_statistics(step.WIDTHS))
    )
    parameters = jax.device_get(begin()["parameters"])
    model = step_peer.LateFusion(step.WIDTHS, LAYERS)
    with torch.no_grad():
        for number, name in enumerate(task.model.modalities):
            for layer, place in enumerate((1, 3)):
                linear, key = model.towers[name][place], f"towers/{number}/layers/{layer}"
                linear.weight.copy_(torch.from_numpy(parameters[f"{key}/kernel"].T.copy()))
                linear.bias.copy_(torch.from_numpy(parameters[f"{key}/bias"].copy()))
    theirs = step_peer.updates(recipe, model, features, drawn, compute=compute)
    before, after = np.array([(float(ours()["loss"]), theirs()) for _ in range(2)])
    change = after - before
    assert abs(change).min() > 0.05 * before.max()
    # bfloat16 has eight bits, and rounds at other places in the two.
    exact = compute == "float32"
    assert before[1] == pytest.approx(before[0], rel=1e-5 if exact else 0.01)
    assert change[1] == pytest.approx(change[0], rel=1e-3 if exact else 0.1)
