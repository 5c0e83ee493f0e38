"""The benchmark of convolutions runs, and counts what a network multiplies."""

import json

import pytest

from experiments.benchmarks import bench, convolutions
from vidembed.models.r3d import ResidualClips


@pytest.mark.long
def test_reports_both_ways(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(convolutions, "SQUARE", 128)
    convolutions.main(clips=1, shape=(2, 8, 8), width=1 / 16, rounds=1)
    rows = json.loads((tmp_path / "convolutions.json").read_text())["rows"]
    assert len(rows) == 2 * (1 + 4)
    assert {row["case"].rpartition(", ")[2] for row in rows} == {"direct", "shifted"}
    assert min(row["seconds"] for row in rows) > 0


def test_operations_are_counted():
    # The published network: 40.7 G multiplications on 16 x 112 x 112, which are two operations.
    network = ResidualClips()
    assert convolutions.operations(network, (1, 16, 112, 112, 3)) == pytest.approx(
        3 * 2 * 40.7e9, rel=2e-3
    )
