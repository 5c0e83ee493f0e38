"""Which device sends which rows of the table to which: planned on the host, batch by batch.

Every device owns an equal part of the table and embeds an equal part of the batch. A row travels
once to each device that needs it, and to no other. The plan depends on the number of devices, so
that it is made when a batch is placed and not by the feed; every host has all rows of the batch
and makes the same plan.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

SPARE = 1.125
"""Capacity above the most that the sizing batches needed."""
MULTIPLE = 4
"""Capacities are multiples of this: four uint8 rows share a 32-bit word of a TPU's memory."""


class Exchange(NamedTuple):
    """Which rows of a table that is split over all D devices travel where.

    send  i32[D, D, C]   rows of its own part that a device sends to each device; padded with 0
    take  i32[..., B]    where each slot's row lies among the D · C that its device receives
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
    """C: rows that a device can send to each other device."""

    @classmethod
    def sized(cls, batches: Iterable[np.ndarray], *, videos: int, devices: int) -> "Exchanger":
        """An exchanger with room for these batches, rows i32[..., B] each, and some to spare.

        `videos` is the length of the table. The capacity never exceeds the slots of a device,
        which are always enough.
        """
        part = -(-videos // devices)
        most, slots = 0, 0
        for rows in batches:
            slots = rows.size // devices
            most = max(most, int(_needs(rows, devices, part).place.max()) + 1)
        rounded = -(-int(most * SPARE) // MULTIPLE) * MULTIPLE
        return cls(devices=devices, part=part, capacity=min(rounded, slots))

    def plan(self, rows: np.ndarray) -> Exchange | None:
        """The exchange of the whole batch i32[..., B]; None if a pair of devices needs more
        than the capacity."""
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
    """What each device needs, i64[D, S / D] each, sorted by row."""

    row: np.ndarray
    slot: np.ndarray  # within the device's slots
    owner: np.ndarray  # the device that has the row
    place: np.ndarray  # number of the row among the different ones from this owner


def _needs(rows: np.ndarray, devices: int, part: int) -> _Needs:
    *groups, batch = rows.shape
    by_device = np.moveaxis(rows.reshape(*groups, devices, batch // devices), -2, 0)
    slots = by_device.reshape(devices, -1).astype(np.int64)
    # One sort of row and slot together: several times as fast as an argsort.
    bits = slots.shape[1].bit_length()
    keys = np.sort((slots << bits) | np.arange(slots.shape[1]), axis=1)
    row, slot = keys >> bits, keys & ((1 << bits) - 1)
    owner = row // part
    # Different rows are numbered along a device's slots, then from the first of each owner.
    number = np.cumsum(np.diff(row, axis=1, prepend=-1) != 0, axis=1) - 1
    first_of_owner = np.diff(owner, axis=1, prepend=-1) != 0
    first = np.maximum.accumulate(np.where(first_of_owner, number, 0), axis=1)
    return _Needs(row, slot, owner, number - first)
