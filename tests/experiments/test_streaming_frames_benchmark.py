import json

from experiments.benchmarks import streaming_frames


def test_it_measures_every_case_against_the_sequential_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"videos": 8, "files": 2, "batch_videos": 4, "shortest": 2, "longest": 9}
    streaming_frames.main(**options, rounds=1)
    written = json.loads((tmp_path / "runs/benchmarks/streaming_frames.json").read_text())
    assert len(written["rows"]) == 6 + len(streaming_frames.RUN_LENGTHS)
    assert all(row["seconds"] > 0 and row["limit_seconds"] > 0 for row in written["rows"])
