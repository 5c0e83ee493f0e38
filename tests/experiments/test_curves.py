"""The curves that decide how long tables train: measured during one training, then printed."""

import json
from pathlib import Path

import pytest

from experiments import curves
from experiments.running import SAMPLE


@pytest.mark.long
def test_a_training_is_measured_along_its_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(curves, "NETWORKS", ("early-8-4",))
    records = str(SAMPLE / "validate0000.tfrecord")
    command = curves.Curves(workdir=str(tmp_path), records=records, steps=5, every=2)
    assert command.run() == 0
    printed = capsys.readouterr().out
    assert "SIMULATED sessions" in printed
    rows = [line.split() for line in printed.splitlines() if line.split()[:1] in (["2"], ["4"])]
    (run,) = Path(tmp_path).glob("seed9/*/metrics.jsonl")
    lines = [json.loads(line) for line in run.read_text().splitlines()]
    scores = {line["step"]: line for line in lines if line["kind"] == "evaluation"}
    assert [int(row[0]) for row in rows] == [2, 4]
    for step, *values in rows:
        line = scores[int(step)]
        expected = [line[f"{d}/ndcg@10"] for d in ("eval_to_train", "train_to_eval")]
        assert [float(value) for value in values] == [round(value, 4) for value in expected]
    assert 5 in scores
