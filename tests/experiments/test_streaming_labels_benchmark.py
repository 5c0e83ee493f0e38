import json

from experiments.benchmarks import streaming_labels


def test_it_measures_every_case_against_the_sequential_read(tmp_path, monkeypatch, request):
    records = str(request.config.rootpath / "data" / "youtube8m")
    monkeypatch.chdir(tmp_path)
    streaming_labels.main(records=records, batch_videos=256, passes=1, rounds=1)
    written = json.loads((tmp_path / "runs/benchmarks/streaming_labels.json").read_text())
    assert len(written["rows"]) == 2 + len(streaming_labels.RUN_LENGTHS) + 1
    assert all(row["seconds"] > 0 and row["limit_seconds"] > 0 for row in written["rows"])
