"""The mining benchmark runs, and compares like with like (experiments.benchmarks.mining)."""

import json

import jax
import numpy as np
import pytest

from experiments.benchmarks import bench, mining
from vidembed.mining import SemiHard


def test_reports_every_miner(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(mining, "SQUARE", 128)
    mining.main(triplets=24, dimensions=16, forbidden=4, rounds=2)
    rows = json.loads((tmp_path / "mining-24.json").read_text())["rows"]
    assert {*mining.MINERS, "semi-hard, all pairs at once"} <= {row["case"] for row in rows}
    assert all(row["seconds"] > 0 and row["limit_seconds"] > 0 for row in rows)


def test_the_dense_version_chooses_the_same():
    arguments = mining.batch(60, 32, 6)
    index, found = mining.all_at_once(*arguments)
    ours, ours_found = SemiHard()(*arguments, key=jax.random.key(0))
    np.testing.assert_array_equal(ours, index)
    np.testing.assert_array_equal(ours_found, found)
    assert np.mean(found) > 0.9


def test_every_anchor_is_forbidden_itself_and_its_positive():
    anchor, positive, pool, forbidden = mining.batch(10, 8, 5)
    np.testing.assert_array_equal(pool[forbidden.pairs[:, 0]], positive)
    np.testing.assert_array_equal(pool[forbidden.pairs[:, 1]], anchor)
    assert float(np.mean(np.sum(anchor * positive, axis=1))) == pytest.approx(0.8, abs=0.1)
