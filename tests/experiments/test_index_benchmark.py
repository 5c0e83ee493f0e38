"""The benchmark of indexes runs at a small size, and each engine finds what it is asked to."""

from pathlib import Path

import pytest

from experiments.benchmarks import bench, index

SAMPLE = Path(__file__).resolve().parents[2] / "data/youtube8m/validate0009.tfrecord"


@pytest.mark.long
def test_each_engine_is_measured_at_the_recall_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(index, "COLD", 2)
    monkeypatch.setattr(index, "OPENED", 1)
    rows = index.main(records=str(SAMPLE), rows=2500, dimensions=8, queries=20, singles=5, k=10)
    found = {row["case"]: row for row in rows}
    assert len(found) == 11
    assert found["exact"]["recall"] == 1
    assert all(row["recall"] >= 0.95 for name, row in found.items() if name != "faiss: 4 bit")
    ours = [row for row in rows if "faiss" not in row["case"]]
    assert all(row["cold p99"] > 0 and row["open ms"] > 0 for row in ours)
    small, large = (found[f"4 bit, refined by {kept}"] for kept in ("8 bit", "float32"))
    assert small["B on disk"] < large["B on disk"]
    assert (tmp_path / "index.json").exists()
