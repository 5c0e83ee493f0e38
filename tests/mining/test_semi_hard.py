from functools import partial

import jax
import numpy as np
import pytest

from vidembed.mining import SemiHard

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("miner", "margin"),
    [
        (SemiHard(block=5), 0.1),
        (SemiHard(block=5, inside_margin=True), 0.25),
        (SemiHard(block=100, inside_margin=True), 1.5),
    ],
)
def test_equals_the_triple_loop(miner, margin, cases, eligible_by_loops):
    mine = jax.jit(partial(miner, margin=margin))
    within = margin if miner.inside_margin else np.inf
    for case in cases:
        index, found = map(np.asarray, mine(*case.arguments, key=KEY))
        members = eligible_by_loops(case, farther=True, within=within)
        assert list(found) == [bool(m) for m in members]
        # The least distance, and of equal ones the first: that is the least pair.
        assert list(index) == [min(m)[1] if m else 0 for m in members]


def test_four_by_four_by_hand(circle):
    index, found = SemiHard()(*circle.arguments, key=KEY, margin=0.1)
    assert list(found) == [True] * 4
    assert list(index) == [1, 1, 2, 3]  # 50, 40, 80 and 70 degrees: the least angles above 30


def test_four_by_four_inside_the_margin(circle):
    # d² = 2 − 2 cos 30° = 0.268; within 0.5 of it lie angles below arccos 0.616 = 52 degrees.
    index, found = SemiHard(inside_margin=True)(*circle.arguments, key=KEY, margin=0.5)
    assert list(found) == [True, True, False, False]
    assert list(index[:2]) == [1, 1]


def test_four_by_four_with_a_neighbour_forbidden(circle):
    case = circle._replace(pairs=np.array([[1], [4], [2], [4]], np.int32))
    index, _ = SemiHard()(*case.arguments, key=KEY, margin=0.1)
    assert list(index) == [2, 1, 1, 3]  # anchors 0 and 2 go on to 100 and 130 degrees


def test_is_near_the_best_where_numbers_are_rounded(make_case, eligible_by_loops):
    # Near-ties may go either way, so distances are compared, and not the places.
    case = make_case(0, anchors=40, pool=300, pairs=5, exact=False)
    mine = jax.jit(partial(SemiHard(block=7), margin=0.1))
    index, found = map(np.asarray, mine(*case.arguments, key=KEY))
    members = eligible_by_loops(case, farther=True)
    assert list(found) == [bool(m) for m in members]
    assert sum(found) > 30
    chosen = ((case.anchor - case.pool[index]) ** 2).sum(1)
    nearest = [min(m)[0] if m else distance for m, distance in zip(members, chosen)]
    np.testing.assert_allclose(chosen, nearest, atol=1e-6)


def test_bfloat16_operands_choose_by_rounded_vectors(almost_equal):
    case = almost_equal._replace(positive=1.1 * almost_equal.anchor)

    def choose(miner):
        return list(miner(*case.arguments, key=KEY, margin=0.1)[0])

    assert choose(SemiHard()) == [1]
    assert choose(SemiHard(operands="bfloat16")) == [0]
