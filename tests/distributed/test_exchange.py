"""The plan of row transfers between devices, against sets and loops, without devices."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import many
from vidembed.distributed.exchange import Exchanger


def needs(rows, devices, part):
    """(owner, receiver) → distinct rows, by a loop over slots."""
    pairs = defaultdict(set)
    share = rows.shape[-1] // devices
    for place, row in np.ndenumerate(rows):
        pairs[row // part, place[-1] // share].add(int(row))
    return pairs


def carry_out(plan, table, rows, exchanger):
    """The row in each slot after the exchange, by a loop over devices."""
    padded = np.resize(table, exchanger.devices * exchanger.part)
    parts = padded.reshape(exchanger.devices, exchanger.part)
    share = rows.shape[-1] // exchanger.devices
    gathered = np.empty(rows.shape, table.dtype)
    for device in range(exchanger.devices):
        received = np.concatenate(
            [part[sent[device]] for part, sent in zip(parts, plan.send, strict=True)]
        )
        own = (..., slice(device * share, (device + 1) * share))
        gathered[own] = received[plan.take[own]]
    return gathered


@given(st.data())
@many(60)
def test_every_slot_gets_its_row_and_each_row_travels_once(data):
    devices = data.draw(st.integers(1, 6))
    groups = data.draw(st.sampled_from([(), (3,), (2, 2)]))
    videos = data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    rows = rng.integers(0, videos, (*groups, devices * data.draw(st.integers(1, 7))), np.int32)
    table = rng.permutation(videos)
    sized = Exchanger.sized([rows], videos=videos, devices=devices)
    pairs = needs(rows, devices, sized.part)
    most = max(map(len, pairs.values()))
    slots = rows.size // devices
    assert most <= sized.capacity <= slots
    exact = Exchanger(devices=devices, part=sized.part, capacity=most)
    for exchanger in (sized, exact):
        plan = exchanger.plan(rows)
        np.testing.assert_array_equal(carry_out(plan, table, rows, exchanger), table[rows])
        for (owner, receiver), expected in pairs.items():
            sent = plan.send[owner, receiver] + owner * exchanger.part
            assert sent[: len(expected)].tolist() == sorted(expected)
        assert np.count_nonzero(plan.send) <= sum(map(len, pairs.values()))
    assert Exchanger(devices=devices, part=sized.part, capacity=most - 1).plan(rows) is None


@pytest.mark.parametrize(
    ("most", "capacity"), [(1, 4), (16, 20), (17, 20), (320, 360), (3000, 3000)]
)
def test_capacity_has_an_eighth_to_spare_but_never_exceeds_the_slots(most, capacity):
    """Two devices of 3,000 slots each; the second needs `most` rows of the other part."""
    rows = np.zeros(6000, np.int32)
    rows[:most] = 5000 + np.arange(most)
    batches = [np.zeros(6000, np.int32), rows]
    assert Exchanger.sized(batches, videos=10_000, devices=2).capacity == capacity


def test_large_tables_and_many_devices_do_not_overflow_the_sort():
    rows = np.array([2**31 - 1, 0, 2**31 - 2, 7] * 1024, np.int32)
    exchanger = Exchanger.sized([rows], videos=2**31, devices=4096)
    plan = exchanger.plan(rows)
    owner, place = np.divmod(plan.take, exchanger.capacity)
    sent = plan.send[owner, np.arange(4096), place].astype(np.int64)
    np.testing.assert_array_equal(owner * exchanger.part + sent, rows)
