import pytest

from vidembed.engine.recipe import Retention

TABLE = [
    # steps, rules, steps that may be deleted
    ([], {"keep_last": 1}, []),
    ([5], {"keep_last": 1}, []),
    ([10, 20, 30], {"keep_last": 1}, [10, 20]),
    ([30, 10, 20], {"keep_last": 2}, [10]),
    ([10, 20, 30], {"keep_last": 9}, []),
    ([10, 20, 30, 40], {"keep_last": 1, "keep_every": 20}, [10, 30]),
    ([0, 10, 20, 30], {"keep_last": 1, "keep_every": 20}, [10]),
    ([10, 20, 30, 40], {"keep_last": 1, "pinned": {20}}, [10, 30]),
    ([10, 20, 30, 40], {"keep_last": 1, "measured": None}, [10, 20, 30]),
    ([10, 20, 30, 40], {"keep_last": 1, "measured": set()}, []),
    ([10, 20, 30, 40], {"keep_last": 1, "measured": {10, 30, 40}}, [10, 30]),
    ([10, 20, 30, 40], {"keep_last": 1, "measured": {10, 20, 30}, "pinned": {10}}, [20, 30]),
    (
        [10, 20, 30, 40, 50],
        {"keep_last": 1, "keep_every": 20, "measured": {10, 20, 30}, "pinned": [30]},
        [10],
    ),
]


@pytest.mark.parametrize(("steps", "rules", "stale"), TABLE)
def test_table(steps, rules, stale):
    rules = {"pinned": (), "measured": None} | rules
    pinned, measured = rules.pop("pinned"), rules.pop("measured")
    assert Retention(**rules).stale(steps, pinned=pinned, measured=measured) == stale
