"""The benchmark of the search by captions runs (experiments.benchmarks.video_text)."""

import json

from experiments.benchmarks import bench, video_text


def test_small(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(video_text, "SQUARE", 128)
    video_text.main(videos=20, captions=2, dimensions=8, rounds=1)
    written = json.loads((tmp_path / "video_text.json").read_text())
    assert {"ranks", "ranks, dual softmax"} <= {row["case"] for row in written["rows"]}
