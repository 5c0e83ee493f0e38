"""Forbidden pairs: the videos of a batch that each anchor must never take as its negative.

Without them rounding alone makes the positive its own negative for a third of the anchors, and
related videos are pushed apart. A dense mask of 7,200 anchors and 21,600 slots would take 155 MB,
so the pairs are one flat list.

A compiled step needs arrays of fixed length, so the list has one of two lengths: ordinary batches
do not pay for what hubs need occasionally. A batch chooses by its number of pairs, which depends
only on the step, so all hosts choose the same.
"""

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vidembed.graph.relation import RelationGraph

# Neighbours are fetched in windows of this many, one copy of 128 bytes each; fetching and dropping
# entries of the next row is cheaper than computing the position of each neighbour.
WINDOW = 32
# A neighbour is first looked up in a table by 18 bits of its row number, which fits the cache for
# any number of videos; about one in twelve passes without being in the batch.
SIEVE = 1 << 18


class BatchPairs(NamedTuple):
    """The forbidden pairs of one batch, except each anchor's pairs with itself and its positive.

    first_slot: i32[3, B], the first slot of each slot's video. anchor: i64[n] ascending, slot:
    i32[n]: first slots of the anchor's other relations in the batch, each once, by row number.
    """

    first_slot: np.ndarray
    anchor: np.ndarray
    slot: np.ndarray

    @property
    def total(self) -> int:
        """Number of all pairs: two per anchor, plus its other relations."""
        return 2 * self.first_slot.shape[1] + len(self.anchor)

    def flat(self, capacity: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (pairs i32[2, P], negative_allowed bool[B]), padded to P = `capacity` pairs.

        pairs: number of the anchor and first slot of a forbidden video, in order of anchor: itself,
        its positive, then its other relations; padding is (B, 3B). negative_allowed: whether the
        anchor may take the negative of its own triplet.
        """
        batch = self.first_slot.shape[1]
        negative, positive, anchor_slot = self.first_slot
        numbers = np.arange(batch)
        counts = 2 + np.bincount(self.anchor, minlength=batch)
        begin = np.cumsum(counts) - counts
        pairs = np.empty((2, capacity), np.int32)
        anchors, slots = pairs[0, : self.total], pairs[1, : self.total]
        anchors[:] = np.repeat(numbers, counts)
        slots[begin] = anchor_slot
        slots[begin + 1] = positive
        slots[np.arange(2, 2 + len(self.anchor)) + 2 * self.anchor] = self.slot
        pairs[0, self.total :] = batch
        pairs[1, self.total :] = self.first_slot.size
        allowed = (negative != anchor_slot) & (negative != positive)
        allowed[self.anchor[negative[self.anchor] == self.slot]] = False
        return pairs, allowed


class _Scratch(threading.local):
    """Memory of one thread, one entry per graph node; no content is used across calls.

    `where` still holds values of earlier batches: an entry counts only if the batch has that video
    at that slot.
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
        # Overlapping windows as opaque items, each copied as one. Only index this array: whatever
        # makes it contiguous (np.take) would copy the graph 32 times.
        self._windows = np.ndarray(
            (self._last + 1,),
            f"V{4 * WINDOW}",
            np.ascontiguousarray(neighbours),
            strides=(4,),
        )
        self._scratch = _Scratch(graph.nodes)

    def of(self, rows: np.ndarray) -> BatchPairs:
        """The pairs of a batch of rows i32[3, B] (negatives, positives, anchors)."""
        batch = rows.shape[1]
        flat = rows.reshape(-1).astype(np.intp)
        where, sieve = self._scratch.where, self._scratch.sieve
        # Assignment to repeated indices has no defined order; `minimum.at` has a defined result.
        where[flat] = rows.size
        np.minimum.at(where, flat, np.arange(rows.size, dtype=np.int32))
        first_slot = where[flat]

        window_anchor, start, begin, end = self._window_bounds(flat[2 * batch :])
        entries = self._windows[begin].view(np.int32)
        marks = flat & (SIEVE - 1)
        sieve[marks] = True
        # Mode "wrap" has no branch per entry, and all indices are valid: a third faster here.
        marked = sieve.take(np.bitwise_and(entries, SIEVE - 1, dtype=np.intp), mode="wrap")
        place = np.flatnonzero(marked)
        sieve[marks] = False

        # Of what passed the sieve, keep: in the batch, in the anchor's row, not its positive.
        video = entries[place]
        slot = where[video]
        window = place // WINDOW
        anchor = window_anchor[window]
        position = begin[window] + place % WINDOW
        # Clip, because an entry left by a larger batch may be past the end of this one.
        real = flat.take(slot, mode="clip") == video
        real &= (position >= start[window]) & (position < end[window])
        real &= slot != first_slot[batch : 2 * batch][anchor]
        place = np.flatnonzero(real)  # twice as fast as masks, because the outcome is irregular
        return BatchPairs(first_slot.reshape(3, batch), anchor[place], slot[place])

    def _window_bounds(
        self, anchors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Windows over the anchors' neighbours, i64[W] each: anchor, start, where read, row end."""
        low, high = self._offsets[anchors], self._offsets[anchors + 1]
        windows = -((low - high) // WINDOW)
        anchor = np.repeat(np.arange(len(anchors)), windows)
        start = low[anchor]
        nth = np.arange(len(anchor)) - (np.cumsum(windows) - windows)[anchor]
        start += nth * WINDOW
        # A window never reads past the end of the array: it starts earlier and skips the overlap.
        return anchor, start, np.minimum(start, self._last), high[anchor]


# The ordinary length is sized from this many batches, times this factor.
SIZING_BATCHES, SIZING_SPARE = 8, 1.25
# Lengths are multiples of this.
ROUNDED_TO = 1024
# A batch exceeds the large length with at most this probability.
EXCEEDED = 1e-12
BYTES_PER_PAIR = 8
SHOWN_DEGREES = 3


@dataclass(frozen=True, kw_only=True)
class Capacities:
    """Capacity for pairs of an ordinary and of a large batch; equal if one is enough."""

    ordinary: int
    large: int

    @staticmethod
    def of(
        counts: Iterable[int],
        degrees: np.ndarray,
        chances: np.ndarray,
        *,
        triplets: int,
        max_forbidden_pairs: int,
    ) -> "Capacities":
        """Choose capacities from the pair counts of the first batches and from the graph.

        degrees: i64[N], relations per row. chances: f[N], proportional to how often a row is an
        anchor. Raises ValueError if a large batch may have more than `max_forbidden_pairs` pairs.
        """
        bound = most_pairs(degrees, chances, triplets)
        if bound > max_forbidden_pairs:
            top = np.sort(degrees)[: -1 - SHOWN_DEGREES : -1]
            raise ValueError(
                f"a batch of {triplets:,} triplets may have {bound:,} forbidden pairs "
                f"({bound * BYTES_PER_PAIR / 1e6:,.0f} MB on every host and device), above "
                f"max_forbidden_pairs {max_forbidden_pairs:,}; the largest degrees of the graph "
                f"are {', '.join(f'{degree:,}' for degree in top)}. Raise "
                "--feed.max-forbidden-pairs, choose a smaller --feed.batch-triplets, or make the "
                "edges with a higher `cowatch --min-weight`"
            )
        large = min(_rounded(bound), max_forbidden_pairs)
        ordinary = _rounded(math.ceil(max(counts) * SIZING_SPARE))
        return Capacities(ordinary=min(ordinary, large), large=large)

    def fitting(self, count: int, step: int) -> int:
        """The smaller capacity that holds the `count` pairs of batch `step`."""
        if count <= self.ordinary:
            return self.ordinary
        if count <= self.large:
            return self.large
        raise ValueError(
            f"batch {step} has {count:,} forbidden pairs, more than the {self.large:,} expected "
            f"from the degrees of the graph; none may be left out. Choose another "
            "--feed.batch-triplets or --seed, and please report it"
        )

    @property
    def note(self) -> str:
        """A sentence to show the user."""
        room = f"a batch has room for {self.ordinary:,} forbidden pairs"
        if self.ordinary == self.large:
            return room
        return f"{room}; one with more uses a second compiled step, for {self.large:,}"


def most_pairs(degrees: np.ndarray, chances: np.ndarray, triplets: int) -> int:
    """Upper bound on the forbidden pairs of a batch: the smaller of the certain maximum and a
    Bernstein bound on the sum over its anchors, which are drawn independently.

    An anchor has itself and at most its relations, of which a batch of B triplets holds 3B - 1.
    Bernstein: P(sum > B mean + t) <= exp(-t^2 / (2 B variance + 2 (most - mean) t / 3)).
    """
    drawn = chances > 0
    pairs = 1.0 + np.minimum(degrees[drawn], 3 * triplets - 1)
    share = chances[drawn] / chances.sum()
    most, mean = pairs.max(), share @ pairs
    variance = share @ np.square(pairs - mean)
    nats = -math.log(EXCEEDED)
    half = (most - mean) * nats / 3
    beyond = half + math.sqrt(half**2 + 2 * triplets * variance * nats)
    return math.ceil(min(triplets * most, triplets * mean + beyond))


def _rounded(count: int) -> int:
    return -(-count // ROUNDED_TO) * ROUNDED_TO
