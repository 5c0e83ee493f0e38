import jax
import numpy as np

from vidembed.mining import Hardest

KEY = jax.random.key(0)


def test_equals_the_triple_loop(cases, eligible_by_loops):
    mine = jax.jit(Hardest(block=5))
    for case in cases:
        index, found = map(np.asarray, mine(*case.arguments, key=KEY, margin=0.1))
        members = eligible_by_loops(case, farther=False)
        assert list(found) == [bool(m) for m in members]
        assert list(index) == [min(m)[1] if m else 0 for m in members]


def test_four_by_four_by_hand(circle):
    index, found = Hardest()(*circle.arguments, key=KEY, margin=0.1)
    assert list(found) == [True] * 4
    assert list(index) == [0, 2, 3, 3]  # 20, 10, 20 and 70 degrees: the least angles


def test_four_by_four_with_a_neighbour_forbidden(circle):
    case = circle._replace(pairs=np.array([[0], [2], [4], [3]], np.int32))
    index, _ = Hardest()(*case.arguments, key=KEY, margin=0.1)
    assert list(index) == [1, 1, 3, 0]  # 50, 40, 20 and 110 degrees


def test_bfloat16_operands_choose_by_rounded_vectors(almost_equal):
    def choose(miner):
        return list(miner(*almost_equal.arguments, key=KEY, margin=0.1)[0])

    assert choose(Hardest()) == [1]
    assert choose(Hardest(operands="bfloat16")) == [0]
