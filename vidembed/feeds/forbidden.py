"""Which videos of a batch an anchor must never take as its negative, as one flat list of pairs.

Without them rounding alone makes the positive its own negative for a third of the anchors, and
related videos are pushed apart. A dense mask of 7,200 anchors and 21,600 slots would be 155 MB.
"""

import threading
from typing import NamedTuple

import numpy as np

from vidembed.graph.relation import RelationGraph

# Neighbours are fetched in windows of this many, one copy of 128 bytes each; it costs less to
# fetch entries of the next row and drop them than to number each neighbour's place.
WINDOW = 32
# A neighbour is looked up first in a table of 2^18 bits of its row number, which stays in the
# cache however many videos there are; about one in twelve passes without being in the batch.
SIEVE = 1 << 18


class BatchPairs(NamedTuple):
    """The forbidden pairs of one batch; besides those listed an anchor has itself and its positive.

    first_slot: i32[3, B], the first slot of each slot's video. anchor: i64[n] rising, slot: i32[n]:
    first slots of the anchor's other relations in the batch, each once, by row number.
    """

    first_slot: np.ndarray
    anchor: np.ndarray
    slot: np.ndarray

    @property
    def total(self) -> int:
        """All pairs: two for each anchor, and its other relations."""
        return 2 * self.first_slot.shape[1] + len(self.anchor)

    def flat(self, capacity: int) -> tuple[np.ndarray, np.ndarray]:
        """(pairs i32[2, P], negative_allowed bool[B]) with room for P = `capacity` pairs.

        pairs: number of the anchor and first slot of what it must not take, in order of anchor:
        itself, its positive, then the others; the rest is (B, 3B). negative_allowed: whether the
        anchor may take the negative of its own triplet.
        """
        batch = self.first_slot.shape[1]
        negative, positive, own = self.first_slot
        numbers = np.arange(batch)
        counts = 2 + np.bincount(self.anchor, minlength=batch)
        begin = np.cumsum(counts) - counts
        pairs = np.empty((2, capacity), np.int32)
        anchors, slots = pairs[0, : self.total], pairs[1, : self.total]
        anchors[:] = np.repeat(numbers, counts)
        slots[begin] = own
        slots[begin + 1] = positive
        slots[np.arange(2, 2 + len(self.anchor)) + 2 * self.anchor] = self.slot
        pairs[0, self.total :] = batch
        pairs[1, self.total :] = self.first_slot.size
        allowed = (negative != own) & (negative != positive)
        allowed[self.anchor[negative[self.anchor] == self.slot]] = False
        return pairs, allowed


class _Scratch(threading.local):
    """Memory of one thread, as large as the graph has nodes; nothing in it outlives a call.

    `where` keeps what earlier batches left: an entry counts only if the batch has that video at
    that slot.
    """

    def __init__(self, nodes: int) -> None:
        self.where = np.zeros(nodes, np.int32)
        self.sieve = np.zeros(SIEVE, np.bool_)


class ForbiddenPairs:
    """Finds the forbidden pairs of batches over one graph; safe to call from several threads."""

    def __init__(self, graph: RelationGraph) -> None:
        neighbours = graph.neighbours
        if len(neighbours) < WINDOW:
            neighbours = np.pad(neighbours, (0, WINDOW - len(neighbours)))
        self._offsets = graph.offsets
        self._last = len(neighbours) - WINDOW
        # Overlapping windows as opaque items, so that one is copied whole. To be indexed only:
        # anything that wants it contiguous (np.take) would copy the graph 32 times.
        self._windows = np.ndarray(
            (self._last + 1,),
            f"V{4 * WINDOW}",
            np.ascontiguousarray(neighbours),
            strides=(4,),
        )
        self._scratch = _Scratch(graph.nodes)

    def of(self, rows: np.ndarray) -> BatchPairs:
        """The pairs of the batch rows i32[3, B] (negatives, positives, anchors)."""
        batch = rows.shape[1]
        flat = rows.reshape(-1).astype(np.intp)
        where, sieve = self._scratch.where, self._scratch.sieve
        # Assigning a repeated index has no promised order; `minimum.at` has a defined result.
        where[flat] = rows.size
        np.minimum.at(where, flat, np.arange(rows.size, dtype=np.int32))
        first_slot = where[flat]

        window_anchor, start, begin, end = self._window_bounds(flat[2 * batch :])
        entries = self._windows[begin].view(np.int32)
        marks = flat & (SIEVE - 1)
        sieve[marks] = True
        # "wrap", for indices known to be good, takes no branch an entry: a third faster here.
        marked = sieve.take(np.bitwise_and(entries, SIEVE - 1, dtype=np.intp), mode="wrap")
        place = np.flatnonzero(marked)
        sieve[marks] = False

        # What passed the sieve: really in the batch, within the anchor's row, not its positive.
        video = entries[place]
        slot = where[video]
        window = place // WINDOW
        anchor = window_anchor[window]
        position = begin[window] + place % WINDOW
        # Clipped, for an entry left by a larger batch may lie past the end of this one.
        real = flat.take(slot, mode="clip") == video
        real &= (position >= start[window]) & (position < end[window])
        real &= slot != first_slot[batch : 2 * batch][anchor]
        place = np.flatnonzero(real)  # twice as fast as masks where the outcome is irregular
        return BatchPairs(first_slot.reshape(3, batch), anchor[place], slot[place])

    def _window_bounds(
        self, anchors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Windows over the anchors' neighbours, i64[W] each: whose, from, where read, row's end."""
        low, high = self._offsets[anchors], self._offsets[anchors + 1]
        windows = -((low - high) // WINDOW)
        anchor = np.repeat(np.arange(len(anchors)), windows)
        start = low[anchor]
        nth = np.arange(len(anchor)) - (np.cumsum(windows) - windows)[anchor]
        start += nth * WINDOW
        # A window never reads past the array's end, but starts earlier and skips what it repeats.
        return anchor, start, np.minimum(start, self._last), high[anchor]
