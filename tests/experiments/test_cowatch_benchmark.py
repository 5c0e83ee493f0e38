import json

from experiments.benchmarks import bench
from experiments.benchmarks.cowatch import log, main


def test_a_small_run_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    main(events=20_000, memory_limit="1GB", repeats=1)
    rows = json.loads((tmp_path / "cowatch.json").read_text())["rows"]
    assert [row["case"] for row in rows] == ["Parquet", "CSV", "Parquet, unordered"]
    assert all(row["note"].startswith("20,000 watches") for row in rows)
    assert all(row["note"].endswith("memory limit 1GB") for row in rows)


def test_the_log_is_in_order_of_time_with_sessions_interleaved():
    made = log(20_000)
    time, session = made["timestamp"].to_numpy(), made["session_id"].to_numpy()
    assert (time[1:] >= time[:-1]).all()
    assert len(made) == 20_000
    assert (session[1:] != session[:-1]).mean() > 0.9
    assert 1500 < len(set(session)) < 2500
