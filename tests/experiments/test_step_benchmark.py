"""The step benchmark runs, and compares like with like (experiments.benchmarks.step)."""

import json

import jax
import pytest

from experiments.benchmarks import bench, step
from vidembed.feeds.triplets import Triplets
from vidembed.models.fusion import LateFusion, Layers
from vidembed.recipe import Recipe
from vidembed.step import new_state
from vidembed.tasks.metric_learning import MetricLearning

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
    (row,) = json.loads((tmp_path / "step-16.json").read_text())["rows"]
    assert row["case"] == "bfloat16 layers and mining"
    assert min(row["seconds"], row["limit_seconds"], row["peak_bytes"]) > 0


def test_the_arithmetic_of_the_papers_step():
    assert step.operations(7200, 4000, 256) == pytest.approx(664e9 + 80e9, rel=2e-3)


def test_the_peer_takes_the_same_loss(small):
    torch = pytest.importorskip("torch")
    from experiments.benchmarks import step_peer

    features, drawn = step.synthetic_features(100), step.draw(16, 100)
    task = MetricLearning(model=LateFusion(layers=LAYERS))
    recipe = Recipe(task=task, feed=Triplets(batch_triplets=16))
    ours = float(step.updates(recipe, features, drawn)[0]()["loss"])
    parameters = jax.device_get(
        jax.jit(lambda: new_state(recipe, step.WIDTHS, step.no_statistics()))()["parameters"]
    )
    model = step_peer.LateFusion(step.WIDTHS, LAYERS)
    with torch.no_grad():
        for number, name in enumerate(task.model.modalities):
            for layer, place in enumerate((1, 3)):
                linear, key = model.towers[name][place], f"towers/{number}/layers/{layer}"
                linear.weight.copy_(torch.from_numpy(parameters[f"{key}/kernel"].T.copy()))
                linear.bias.copy_(torch.from_numpy(parameters[f"{key}/bias"].copy()))
    batch = {name: torch.from_numpy(table[drawn["rows"]]) for name, table in features.items()}
    theirs = step_peer.loss_of(model, batch, drawn, recipe.task.loss.margin)
    assert float(theirs.detach()) == pytest.approx(ours, rel=1e-5)
