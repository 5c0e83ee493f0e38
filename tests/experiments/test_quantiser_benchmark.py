"""The benchmark of the quantiser runs (experiments.benchmarks.quantiser)."""

import json

from experiments.benchmarks import bench, quantiser


def test_reports_every_case(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(quantiser, "SQUARE", 128)
    monkeypatch.setattr(quantiser, "has_faiss", lambda: False)
    quantiser.main(vectors=300, dimensions=8, queries=4, rounds=1)
    rows = json.loads((tmp_path / "quantiser.json").read_text())["rows"]
    assert len(rows) == 3 * 6
    assert all(row["seconds"] > 0 and row["limit_seconds"] > 0 for row in rows)
    errors = [float(row["note"].split("error ")[1]) for row in rows if row["case"].endswith("fit")]
    assert errors == sorted(errors, reverse=True)
