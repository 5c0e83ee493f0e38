"""Plan on the host, per batch, which device sends which rows of the table to which device.

Every device owns an equal part of the table and embeds an equal part of the batch. A row is sent
once to each device that needs it, and to no other. Because the plan depends on the number of
devices, it is made when a batch is placed, not by the feed; every host has all rows of the batch
and makes the same plan.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

SPARE = 1.125
"""Capacity relative to the largest need in the sizing batches."""
MULTIPLE = 4
"""Capacities are multiples of this: four uint8 rows share a 32-bit word of a TPU's memory."""


class Exchange(NamedTuple):
    """The row transfers for a table that is split over all D devices.

    send  i32[D, D, C]   rows of its part that a device sends to each device; padded with 0
    take  i32[..., B]    index of each slot's row among the D · C rows that its device receives
    """

    send: Any
    take: Any


@dataclass(frozen=True, kw_only=True)
class Exchanger:
    """Plans how the rows of batches travel between devices."""

    devices: int
    """D, in batch order."""
    part: int
    """Rows of the table that each device owns: device d has [d · part, (d + 1) · part)."""
    capacity: int
    """C: number of rows that a device can send to each device."""

    @classmethod
    def sized(cls, batches: Iterable[np.ndarray], *, videos: int, devices: int) -> "Exchanger":
        """An exchanger with the capacity for these batches, rows i32[..., B] each, and a reserve.

        `videos` is the length of the table. The capacity never exceeds the number of slots of a
        device, which is always enough.
        """
        part = -(-videos // devices)
        most, slots = 0, 0
        for rows in batches:
            slots = rows.size // devices
            most = max(most, int(_needs(rows, devices, part).place.max()) + 1)
        rounded = -(-int(most * SPARE) // MULTIPLE) * MULTIPLE
        return cls(devices=devices, part=part, capacity=min(rounded, slots))

    def plan(self, rows: np.ndarray) -> Exchange | None:
        """The exchange of the whole batch i32[..., B]; None if a pair of devices exceeds the
        capacity."""
        needs = _needs(rows, self.devices, self.part)
        if needs.place.max() >= self.capacity:
            return None
        send = np.zeros((self.devices, self.devices, self.capacity), np.int32)
        receiver = np.arange(self.devices)[:, None]
        send[needs.owner, receiver, needs.place] = needs.row - needs.owner * self.part
        take = np.empty(needs.row.shape, np.int32)
        np.put_along_axis(take, needs.slot, needs.owner * self.capacity + needs.place, axis=1)
        *groups, batch = rows.shape
        parts = take.reshape(self.devices, *groups, batch // self.devices)
        return Exchange(send, np.moveaxis(parts, 0, -2).reshape(rows.shape))


class _Needs(NamedTuple):
    """The rows that each device needs, i64[D, S / D] each, sorted by row."""

    row: np.ndarray
    slot: np.ndarray  # within the device's slots
    owner: np.ndarray  # the device that owns the row
    place: np.ndarray  # index of the row among the distinct rows from this owner


def _needs(rows: np.ndarray, devices: int, part: int) -> _Needs:
    *groups, batch = rows.shape
    by_device = np.moveaxis(rows.reshape(*groups, devices, batch // devices), -2, 0)
    slots = by_device.reshape(devices, -1).astype(np.int64)
    # Sorting row and slot together is several times as fast as an argsort.
    bits = slots.shape[1].bit_length()
    keys = np.sort((slots << bits) | np.arange(slots.shape[1]), axis=1)
    row, slot = keys >> bits, keys & ((1 << bits) - 1)
    owner = row // part
    # Number the distinct rows along a device's slots, then from the first row of each owner.
    number = np.cumsum(np.diff(row, axis=1, prepend=-1) != 0, axis=1) - 1
    first_of_owner = np.diff(owner, axis=1, prepend=-1) != 0
    first = np.maximum.accumulate(np.where(first_of_owner, number, 0), axis=1)
    return _Needs(row, slot, owner, number - first)
