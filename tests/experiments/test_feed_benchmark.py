import json

import pytest

from experiments.benchmarks import feed


# Where torch is installed its workers are forked, which JAX warns of.
@pytest.mark.filterwarnings("ignore:.*os.fork")
def test_it_measures_every_case_against_the_copy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    feed.main(videos=5000, edges=50_000, triplets=256)
    rows = json.loads((tmp_path / "runs/benchmarks/feed.json").read_text())["rows"]
    assert len(rows) >= 5
    assert all(row["seconds"] > 0 and row["limit_seconds"] > 0 for row in rows)
