"""The benchmark of extraction runs at a small size (experiments.benchmarks.extraction)."""

import json

import pytest

from experiments.benchmarks import bench, extraction
from tests.media.graphs import WAVE, graph, write


@pytest.mark.long
def test_reports_extraction_and_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    write(tmp_path, graph((8,), ()), WAVE, "NS")
    extraction.main(backbones=str(tmp_path), count=1, seconds=2, height=32, width=64, rounds=1)
    rows = json.loads((tmp_path / "extraction.json").read_text())["rows"]
    cases = ["net", "memory: a video of 2 s", "memory: a video of 20 s"]
    assert [row["case"] for row in rows] == cases
    assert all(row["seconds"] > 0 for row in rows)
    assert all(row["peak_bytes"] > 0 for row in rows[1:])
