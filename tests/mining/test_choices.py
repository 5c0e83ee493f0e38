"""Which negative each miner takes: against a triple loop, by hand, and for rounded vectors."""

from functools import partial

import jax
import numpy as np
import pytest

from vidembed.mining import Hardest, NoMining, SemiHard, SemiHardRandom

pytestmark = pytest.mark.optimised

KEY = jax.random.key(0)
INSIDE = SemiHard(inside_margin=True)


@pytest.mark.parametrize(
    ("miner", "margin"),
    [
        (Hardest(block=5), 0.1),
        (SemiHard(block=5), 0.1),
        (SemiHard(block=5, inside_margin=True), 0.25),
        (SemiHard(block=100, inside_margin=True), 1.5),
        (SemiHardRandom(block=5), 0.25),
        (SemiHardRandom(block=100), 1.5),
        (SemiHardRandom(block=5, inside_margin=False), 0.1),
    ],
)
def test_chooses_as_the_triple_loop(miner, margin, cases, eligible_by_loops):
    mine = jax.jit(partial(miner, margin=margin))
    within = margin if miner.inside_margin else np.inf
    for seed, case in enumerate(cases):
        index, found = map(np.asarray, mine(*case.arguments, key=jax.random.key(seed)))
        members = eligible_by_loops(case, farther=miner.only_farther, within=within)
        assert list(found) == [bool(m) for m in members]
        if isinstance(miner, SemiHardRandom):
            for chosen, allowed in zip(index, members):
                assert int(chosen) in ([number for _, number in allowed] or [0])
        else:
            # The smallest distance, ties to the first: that is the smallest pair.
            assert list(index) == [min(m)[1] if m else 0 for m in members]


@pytest.mark.parametrize(
    ("miner", "margin", "forbidden", "chosen"),
    [
        (Hardest(), 0.1, None, [0, 2, 3, 3]),  # 20, 10, 20 and 70 degrees: the smallest angles
        (Hardest(), 0.1, [0, 2, 4, 3], [1, 1, 3, 0]),  # 50, 40, 20 and 110 degrees
        (SemiHard(), 0.1, None, [1, 1, 2, 3]),  # 50, 40, 80 and 70: the smallest angles above 30
        (SemiHard(), 0.1, [1, 4, 2, 4], [2, 1, 1, 3]),  # anchors 0 and 2 go on to 100 and 130
        # d² = 2 − 2 cos 30° = 0.268; within 0.5 of it are angles below arccos 0.616 = 52 degrees:
        # one negative at 50 and one at 40 degrees.
        (INSIDE, 0.5, None, [1, 1, None, None]),
        (SemiHardRandom(), 0.5, None, [1, 1, None, None]),
        (NoMining(), 0.1, None, [None] * 4),
    ],
)
def test_four_by_four_by_hand(miner, margin, forbidden, chosen, circle):
    case = circle
    if forbidden:
        case = circle._replace(pairs=np.array(forbidden, np.int32)[:, None])
    index, found = jax.jit(miner)(*case.arguments, key=KEY, margin=margin)
    assert index.dtype == "int32"
    assert [int(i) if f else None for i, f in zip(index, found)] == chosen


def test_is_near_the_best_where_numbers_are_rounded(make_case, eligible_by_loops):
    # Near-ties may go either way, so compare distances, not positions.
    case = make_case(0, anchors=40, pool=300, pairs=5, exact=False)
    mine = jax.jit(partial(SemiHard(block=7), margin=0.1))
    index, found = map(np.asarray, mine(*case.arguments, key=KEY))
    members = eligible_by_loops(case, farther=True)
    assert list(found) == [bool(m) for m in members]
    assert sum(found) > 30
    chosen = ((case.anchor - case.pool[index]) ** 2).sum(1)
    nearest = [min(m)[0] if m else distance for m, distance in zip(members, chosen)]
    np.testing.assert_allclose(chosen, nearest, atol=1e-6)


@pytest.mark.parametrize("kind", [Hardest, SemiHard])
def test_bfloat16_operands_choose_by_rounded_vectors(kind, almost_equal):
    # The positive is nearer than both.
    case = almost_equal._replace(positive=1.1 * almost_equal.anchor)
    for operands, chosen in (("float32", 1), ("bfloat16", 0)):
        assert list(kind(operands=operands)(*case.arguments, key=KEY, margin=0.1)[0]) == [chosen]
