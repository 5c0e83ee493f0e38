"""The clustering benchmark runs, beside a tree of the same graph (experiments.benchmarks)."""

import json

import numpy as np

from experiments.benchmarks import bench
from experiments.benchmarks.clustering import CASES, drawn, main, spanning_tree


def test_a_small_run_reports_every_case(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    main(videos=1000, edges=5000, repeats=1)
    rows = json.loads((tmp_path / "clustering.json").read_text())["rows"]
    cases = [f"random, {case}" for case in CASES]
    assert [row["case"] for row in rows] == [*cases, "few with most, average"]
    assert all(row["seconds"] > 0 and row["limit_seconds"] > 0 for row in rows)
    largest = int(rows[4]["note"].rpartition("(")[2].rstrip(")"))
    assert 50 < largest <= 100


def test_the_graphs_are_what_they_say():
    made = drawn(1000, 5000, 1.0), drawn(1000, 5000, 3.0)
    assert made[0].nodes == made[1].nodes == 1000
    assert 4900 < made[0].edges <= 5000
    top_tenth = [np.sort(graph.degrees())[-100:].sum() / graph.degrees().sum() for graph in made]
    assert top_tenth[0] < 0.2
    assert top_tenth[1] > 0.4


def test_the_tree_is_the_heaviest():
    graph = drawn(200, 2000, 1.0)
    tree = spanning_tree(graph)()
    assert tree.nnz == 199
    weight = graph.weights.max() + 1 - tree.data
    assert weight.mean() > graph.weights.mean() + 10
