"""The mining benchmark runs, and compares like with like (experiments.benchmarks.mining)."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import bench, mining
from vidembed.mining import Forbidden, SemiHard

Shape = jax.ShapeDtypeStruct


@pytest.mark.long
def test_reports_every_miner(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(mining, "SQUARE", 128)
    mining.main(triplets=24, dimensions=16, forbidden=4, rounds=2, larger=(48,))
    rows = json.loads((tmp_path / "mining-24.json").read_text())["rows"]
    cases = {*mining.MINERS, "semi-hard, all pairs at once", "SemiHard, 48 triplets"}
    assert cases <= {row["case"] for row in rows}
    assert all(row["seconds"] > 0 and row["limit_seconds"] > 0 for row in rows)


@pytest.mark.long
def test_the_dense_version_chooses_the_same():
    arguments = mining.batch(60, 32, 6)
    index, found = mining.all_at_once(*arguments)
    ours, ours_found = SemiHard()(*arguments, key=jax.random.key(0), margin=0.1)
    np.testing.assert_array_equal(ours, index)
    np.testing.assert_array_equal(ours_found, found)
    assert np.mean(found) > 0.9


def test_every_anchor_is_forbidden_itself_and_its_positive():
    anchor, positive, pool, forbidden = mining.batch(10, 8, 5)
    assert forbidden.pairs[0].tolist() == [number for number in range(10) for _ in range(5)]
    slots = forbidden.pairs[1].reshape(10, 5)
    np.testing.assert_array_equal(pool[slots[:, 0]], positive)
    np.testing.assert_array_equal(pool[slots[:, 1]], anchor)
    assert float(np.mean(np.sum(anchor * positive, axis=1))) == pytest.approx(0.8, abs=0.1)


def test_memory_is_linear_in_the_batch():
    """What the compiled program allocates; the pairs themselves grow sixteenfold."""

    def allocated(triplets):
        forbidden = Forbidden(Shape((2, 48 * triplets), jnp.int32), Shape((3 * triplets,), bool))
        vectors = [Shape((count, 256), jnp.float32) for count in (triplets, triplets, 3 * triplets)]
        miner = jax.jit(partial(SemiHard(), key=jax.random.key(0), margin=0.1))
        program = miner.lower(*vectors, forbidden).compile()
        return program.memory_analysis().temp_size_in_bytes

    small, large = allocated(7200), allocated(28_800)
    assert small < 130e6
    assert large < 5 * small
