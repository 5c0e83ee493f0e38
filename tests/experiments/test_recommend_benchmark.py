"""The benchmark of user models runs (experiments.benchmarks.recommend)."""

import json

from experiments.benchmarks import bench, recommend


def test_reports_both_ways_and_their_difference(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    recommend.main(videos=1000, dimensions=8, lengths=(1, 10), rounds=1)
    rows = json.loads((tmp_path / "recommend.json").read_text())["rows"]
    assert len(rows) == 4
    assert all(row["seconds"] > 0 and row["limit_seconds"] > 0 for row in rows)
    assert all(float(row["note"].split("difference ")[1]) < 1e-6 for row in rows)
