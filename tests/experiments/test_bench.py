import json
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.benchmarks import bench
from experiments.benchmarks.bench import (
    FULL,
    NARROW,
    Row,
    against_products,
    in_rounds,
    measure,
    report,
    square_products,
)
from vidembed.workdir.versions import commit_of


def test_a_report_is_printed_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "FOLDER", tmp_path / "benchmarks")
    case = Row(case="some case", seconds=3.0, limit_seconds=2.0, peak_bytes=5_000_000, note="why")
    path = report("name", [case])
    assert path == tmp_path / "benchmarks" / "name.json"
    result = json.loads(path.read_text())
    assert result["benchmark"] == "name"
    installed = {d.metadata["Name"].lower() for d in metadata.distributions()}
    commit = commit_of(Path(bench.__file__).parent)
    assert result["versions"].keys() == installed & set(bench.PACKAGES) | commit.keys()
    assert result["versions"].items() >= commit.items()
    assert result["versions"]["jax"] == jax.__version__
    [row] = result["rows"]
    assert row == {
        "case": "some case",
        "seconds": 3.0,
        "limit_seconds": 2.0,
        "peak_bytes": 5_000_000,
        "note": "why",
        "ratio": 1.5,
    }
    printed = capsys.readouterr().out
    assert all(part in printed for part in ("some case", "1.50", "5.0", "why"))


def test_time_is_the_best_and_memory_the_highest(monkeypatch):
    sizes, clock = iter([0, 64, 0]), iter([0.0, 5.0, 10.0, 13.0, 20.0, 24.0])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))

    def work():
        return np.ones(next(sizes) << 20, np.uint8).sum()

    seconds, peak = measure(work)
    assert seconds == 3.0
    assert 60 << 20 <= peak < 90 << 20


def test_every_round_runs_every_case_and_the_first_is_not_counted():
    calls = []
    works = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = in_rounds(works, rounds=2)
    assert calls == ["a", "b"] * 3
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_the_ratio_is_the_median_of_the_rounds():
    # A slow round, the second, slows both alike.
    products = {FULL: [0.5, 5.0, 1.0], NARROW: [0.25, 2.5, 0.5]}
    row = against_products("case", products | {"case": [2.0, 40.0, 3.0]}, 2.0, peak_bytes=7)
    assert (row.seconds, row.ratio, row.peak_bytes) == (3.0, 2.0, 7)
    assert row.note == "ratio 1.50 to 4.00 in 3 rounds, 25% of the bfloat16 rate"


def test_the_products_are_what_they_say():
    products = square_products(64)
    full = np.asarray(jax.random.normal(jax.random.key(0), (64, 64)), np.float64)
    assert np.asarray(products[FULL]()) == pytest.approx(full @ full, abs=1e-4)
    narrow = products[NARROW]()
    assert narrow.dtype == np.float32
    # Eight bits of each operand; the sums, of 64 products, keep all of theirs.
    error = np.abs(np.asarray(narrow) - full @ full).max()
    assert 1e-3 < error < 64 * 2**-7
    # Asked for in full, wherever it runs.
    program = jax.jit(products[FULL].func).lower(*products[FULL].args)
    assert "HIGHEST" in program.as_text()
