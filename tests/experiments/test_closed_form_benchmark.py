"""The closed form's benchmark runs, beside bare products (experiments.benchmarks)."""

import json

from experiments.benchmarks import bench, closed_form


def test_a_small_run_reports_the_pass_and_the_solve(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    closed_form.main(videos=512, relations=2_000, features=16, size=8, parts=2, rounds=1, side=32)
    rows = json.loads((tmp_path / "closed_form.json").read_text())["rows"]
    assert [row["case"] for row in rows] == [closed_form.CASE, closed_form.SOLVE]
    assert all(row["seconds"] > 0 and row["limit_seconds"] > 0 for row in rows)
    assert "relations, 2 steps" in rows[0]["note"]
