"""The search benchmark runs (experiments.benchmarks.search)."""

import json

from experiments.benchmarks import bench, search


def test_reports_search_and_ranks(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(search, "SQUARE", 128)
    search.main(candidates=1024, queries=16, dimensions=8, k=5, rounds=1)
    rows = json.loads((tmp_path / "search.json").read_text())["rows"]
    assert {"search", "ranks of 10 relevant"} <= {row["case"] for row in rows}
    assert all(row["seconds"] > 0 and row["limit_seconds"] > 0 for row in rows)
