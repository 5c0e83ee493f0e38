import json

import pytest

from experiments.benchmarks import bench
from experiments.benchmarks.cowatch import log, main, tenth


def test_a_small_run_reports_both_cases(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    # A tenth of it must still hold DuckDB's fixed needs.
    main(events=20_000, memory_limit="1GB", repeats=1)
    rows = json.loads((tmp_path / "cowatch.json").read_text())["rows"]
    assert [row["case"] for row in rows] == [
        "as configured, memory limit 1GB",
        "a tenth, memory limit 100MB",
    ]
    assert rows[0]["note"] == rows[1]["note"]
    assert rows[0]["note"].startswith("20,000 watches")


def test_the_log_is_in_order_of_time_with_sessions_interleaved():
    made = log(20_000)
    time, session = made["timestamp"].to_numpy(), made["session_id"].to_numpy()
    assert (time[1:] >= time[:-1]).all()
    assert len(made) == 20_000
    assert (session[1:] != session[:-1]).mean() > 0.9
    assert 1500 < len(set(session)) < 2500


def test_a_tenth():
    assert [tenth("2GB"), tenth("1.5GB"), tenth("500MB")] == ["200MB", "150MB", "50MB"]
    with pytest.raises(ValueError, match="found '2TB'"):
        tenth("2TB")
