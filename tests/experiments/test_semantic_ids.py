"""Shares of related pairs inside partitions, by hand and by a slow loop, and the command whole."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import vidembed
from experiments import semantic_ids
from experiments.semantic_ids import PAIRS, cells, main, pairs_of, shared, title


def test_pairs_of_each_kind_are_there_once(corpus):
    kinds = pairs_of(corpus)
    matrix = corpus.relations.matrix()
    for name, (one, other) in kinds.items():
        assert (one < other).all()
        both = corpus.is_train[one] & corpus.is_train[other]
        assert both.all() if name == PAIRS[0] else not both.any()
        assert all(matrix[a, b] for a, b in zip(one, other))
    # No cap on degrees is reached here, so that all relations are among them.
    assert sum(len(one) for one, _ in kinds.values()) == corpus.relations.edges


def test_shares_by_hand():
    part = np.array([0, 0, 1, 1, 2, 2])
    one, other = np.array([0, 2, 4, 0]), np.array([1, 3, 5, 2])
    assert shared(part, one, other, seed=0)["share"] == 0.75
    rng = np.random.default_rng(0)
    part = rng.integers(0, 4, 1000)
    one, other = rng.integers(0, 1000, (2, 5000))
    found = shared(part, one, other, seed=0)
    assert found["share"] == pytest.approx(0.25, abs=0.03)
    assert found["chance"] == pytest.approx(0.25, abs=0.01)


@pytest.mark.long
def test_the_command(clustered_paths, clustered, tmp_path, monkeypatch, capsys):
    """Vectors that show a video's group, which relations are of."""
    (tmp_path / "seed0").mkdir()
    (tmp_path / "table").symlink_to(clustered_paths.table)
    for name in ("edges", "hierarchy"):
        (tmp_path / "seed0" / f"{name}.parquet").symlink_to(getattr(clustered_paths, name))
    vectors = np.eye(20, dtype=np.float32)[clustered.table.label_values]
    vectors += 0.05 * np.random.default_rng(0).standard_normal(vectors.shape).astype(np.float32)
    run = SimpleNamespace(space="groups", embed=lambda table: vectors)
    monkeypatch.setattr(vidembed, "load", lambda path, step: run)
    monkeypatch.setattr(semantic_ids, "EXCHANGES", 3)
    assert main(["--workdir", str(tmp_path), "--sizes", "20", "4"]) == 0
    assert "Related pairs inside one part" in capsys.readouterr().out
    result = json.loads((tmp_path / "seed0" / "semantic_ids.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert len(result["rows"]) == 2 * 2 + 3 * clustered.hierarchy.levels
    first = rows["embedding, 1 code"]
    for kind in PAIRS:
        assert first[kind]["share"] > 0.9
        assert first[kind]["chance"] < 0.1
        assert rows["embedding, 2 codes"][kind]["share"] < first[kind]["share"]
    assert rows["hierarchy, level 1"][PAIRS[1]] is None
    assert cells(rows["hierarchy, level 1"])[-3:] == ["", "", ""]
    assert "SIMULATED" not in title(result)
    assert "SIMULATED sessions" in title(result | {"simulated_sessions": True})
    assert (tmp_path / "seed0" / "semantic_ids.md").read_text().count("\n") == len(
        result["rows"]
    ) + 4
