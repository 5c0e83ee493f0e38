import jax
import numpy as np
import pytest

from experiments.benchmarks.rounds import FULL, NARROW, against, in_rounds, square_products


def test_every_round_runs_every_case_and_the_first_is_not_counted():
    calls = []
    works = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = in_rounds(works, rounds=2)
    assert calls == ["a", "b"] * 3
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_the_ratio_is_the_median_of_the_rounds():
    # A slow round, the second, slows both alike.
    products = {FULL: [0.5, 5.0, 1.0], NARROW: [0.25, 2.5, 0.5]}
    seconds, limit, note = against([2.0, 40.0, 3.0], products, 2.0)
    assert seconds == 3.0
    assert seconds / limit == 2.0
    assert note == "ratio 1.50 to 4.00 in 3 rounds, 25% of the bfloat16 rate"


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
