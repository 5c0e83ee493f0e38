"""Bytes instead of floats cost nothing in retrieval (experiments.benchmarks.quantisation)."""

from pathlib import Path

import pytest

from experiments.benchmarks.quantisation import compare, main

SAMPLE = Path(__file__).parent.parent.parent / "data/youtube8m"


@pytest.fixture(scope="module")
def results():
    return compare(f"{SAMPLE}/validate000[0-2].tfrecord", seeds=(0,))


def test_uint8_costs_nothing(results):
    assert {dtype: row["bytes"] for dtype, row in results.items()} == {
        "float32": 4608,
        "bfloat16": 2304,
        "uint8": 1152,
    }
    same = results["float32"]["difference"]
    assert same.value == same.low == same.high == 0
    for row in results.values():
        assert row["same_neighbours"] > 0.98
        assert abs(row["difference"].value) < 0.003
        # Far from nothing: chance is below 0.01 here.
        assert row["ndcg"].value > 0.1


def test_main_prints_the_table(results, monkeypatch, capsys):
    monkeypatch.setattr("experiments.benchmarks.quantisation.compare", lambda records: results)
    main("records")
    lines = capsys.readouterr().out.splitlines()
    assert "SIMULATED" in lines[0]
    assert [line.split()[:2] for line in lines[2:]] == [
        ["float32", "4608"],
        ["bfloat16", "2304"],
        ["uint8", "1152"],
    ]
