import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.mining import blockwise as module
from vidembed.mining.blockwise import Anchors, Forbidden, mask

NONE = -np.inf


def masked(scores, forbidden, first=0):
    """Mask as miners do, for the anchors from `first` on."""
    return mask(scores, forbidden, Anchors.of(forbidden, len(scores), first))


def test_mask_removes_pairs_and_rows_that_are_not_candidates():
    scores = jnp.arange(8.0).reshape(2, 4)
    forbidden = Forbidden(
        pairs=np.array([[0, 0, 0, 1, 1, 2], [1, 4, 1000, 3, 3, 12]], np.int32),
        candidates=np.array([True, True, False, True]),
    )
    result = jax.jit(masked)(scores, forbidden, 0)
    np.testing.assert_array_equal(result, [[0, NONE, NONE, 3], [4, 5, NONE, NONE]])
    result = jax.jit(masked)(scores, forbidden, 1)  # anchors 1 and 2
    np.testing.assert_array_equal(result, [[0, 1, NONE, NONE], [4, 5, NONE, 7]])


@pytest.mark.parametrize("window", [3, 1024])
def test_every_block_is_masked_as_a_dense_matrix_would_be(window, monkeypatch):
    """Lists of 0 to 40 pairs per anchor, read in windows, in blocks of 1 to all 30 anchors."""
    monkeypatch.setattr(module, "WINDOW", window)
    random = np.random.default_rng(window)
    lengths = random.integers(0, 12, 30)
    lengths[[3, 29]] = 0, 40
    anchors = np.repeat(np.arange(30), lengths)
    slots = random.integers(0, 25, len(anchors))  # numbers from 20 on are outside the pool
    dense = np.zeros((30, 25), bool)
    dense[anchors, slots] = True
    pairs = np.stack([anchors, slots])
    padded = np.pad(pairs, ((0, 0), (0, 9)), constant_values=30).astype(np.int32)
    candidates = np.ones(20, bool)
    mask_block = jax.jit(
        lambda *arguments: masked(*arguments)
    )  # not the program compiled for another window
    for block, pair_list in ((1, padded), (7, padded), (7, pairs.astype(np.int32)), (30, padded)):
        for first in range(0, 30, block):
            scores = np.ones((block, 20), np.float32)
            expected = np.ones((block, 20))
            dense_rows = dense[first : first + block, :20]
            expected[: len(dense_rows)][dense_rows] = NONE
            result = mask_block(scores, Forbidden(pair_list, candidates), first)
            np.testing.assert_array_equal(result[: len(dense_rows)], expected[: len(dense_rows)])


def test_work_grows_with_pairs_not_with_capacity(monkeypatch):
    """Counts the windows read: a hundred times the capacity reads no more of them."""
    monkeypatch.setattr(module, "WINDOW", 4)
    windows = []
    loop = jax.lax.fori_loop

    def counted(begin, end, *rest):
        windows.append(int(end - begin))
        return loop(begin, end, *rest)

    monkeypatch.setattr(module.lax, "fori_loop", counted)
    pairs = np.array([[0] * 3 + [1] * 9 + [2] * 5, range(17)], np.int32)
    for room in (17, 1700):
        padded = np.pad(pairs, ((0, 0), (0, room - 17)), constant_values=30)
        for first in (1, 3):
            masked(jnp.ones((1, 20)), Forbidden(padded, np.ones(20, bool)), first)
    assert windows == [3, 0] * 2


def test_mask_of_no_pairs():
    scores = jnp.ones((2, 3))
    forbidden = Forbidden(np.zeros((2, 0), np.int32), np.ones(3, bool))
    np.testing.assert_array_equal(masked(scores, forbidden), scores)
