"""Which videos of a batch an anchor must never take as its negative, as sparse lists.

Without them rounding alone makes the positive its own negative for a third of the anchors, and
related videos are pushed apart. A dense mask of 7,200 anchors and 21,600 slots would be 155 MB.
"""

import logging
import threading
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from vidembed.graph.relation import RelationGraph

logger = logging.getLogger(__name__)

# The width of the lists is sized from this many batches, with this much to spare.
SIZING_BATCHES, SIZING_SPARE = 8, 1.5
# Never wider than this by itself: a hub's list may take in a tenth of the batch, and every anchor
# pays for the longest (7,200 lists of 256 are 7 MB).
WIDEST_SIZED = 256
# Neighbours are fetched in windows of this many, one copy of 128 bytes each; it costs less to
# fetch entries of the next row and drop them than to number each neighbour's place.
WINDOW = 32
# A neighbour is looked up first in a table of 2^18 bits of its row number, which stays in the
# cache however many videos there are; about one in twelve passes without being in the batch.
SIEVE = 1 << 18


class ForbiddenLists(NamedTuple):
    """first_slot i32[3, B], forbidden i32[B, K] and the number of pairs that found no place."""

    first_slot: np.ndarray
    forbidden: np.ndarray
    overflow: int


class _Hits(NamedTuple):
    """Videos of the batch that are neighbours of its anchors, in order of anchor; no positives."""

    first_slot: np.ndarray  # i32[3B]
    anchor: np.ndarray  # i64[n]
    slot: np.ndarray  # i32[n]
    counts: np.ndarray  # i64[B], hits of each anchor


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
        self.longest_possible = 1 + int(graph.degrees().max(initial=0))
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

    def lists(self, rows: np.ndarray, width: int) -> ForbiddenLists:
        """Lists of the batch rows i32[3, B] (negatives, positives, anchors), `width` K an anchor.

        forbidden[i] holds flat slots 0..3B-1, each the first occurrence of its video: the anchor
        itself, its positive, then its neighbours by row number; the rest is 3B. What does not fit
        is counted; anchor and positive always fit.
        """
        batch = rows.shape[1]
        hits = self._hits(rows)
        forbidden = np.full((batch, width), rows.size, np.int32)
        first = hits.first_slot.reshape(3, batch)
        forbidden[:, 0] = first[2]
        forbidden[:, 1] = first[1]
        begin = np.cumsum(hits.counts) - hits.counts
        column = np.arange(2, 2 + len(hits.anchor)) - begin[hits.anchor]
        anchor, slot, overflow = hits.anchor, hits.slot, 0
        if 2 + hits.counts.max() > width:
            fits = column < width
            overflow = int(np.count_nonzero(~fits))
            anchor, slot, column = anchor[fits], slot[fits], column[fits]
        forbidden.reshape(-1)[anchor * width + column] = slot
        return ForbiddenLists(first, forbidden, overflow)

    def widest(self, rows: np.ndarray) -> int:
        """The longest list of the batch rows i32[3, B]: the least K that loses nothing."""
        return 2 + int(self._hits(rows).counts.max())

    def _hits(self, rows: np.ndarray) -> _Hits:
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
        kept = np.flatnonzero(real)  # twice as fast as masks where the outcome is irregular
        anchor, slot = anchor[kept], slot[kept]
        return _Hits(first_slot, anchor, slot, np.bincount(anchor, minlength=batch))

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


def sized_width(pairs: ForbiddenPairs, batches: Iterable[np.ndarray]) -> int:
    """K that these batches, rows i32[3, B] each, fill to two thirds; a multiple of 8.

    No more than the graph can ever ask for, nor than WIDEST_SIZED. The log says what was found.
    """
    longest = max(pairs.widest(rows) for rows in batches)
    most = min(int(longest * SIZING_SPARE), pairs.longest_possible, WIDEST_SIZED)
    width = 8 * -(-most // 8)
    if longest <= width:
        logger.info(
            "forbidden lists hold %d videos an anchor; the longest of the first batches has %d, "
            "the graph admits %d",
            *(width, longest, pairs.longest_possible),
        )
    else:
        logger.warning(
            "forbidden lists hold only %d videos an anchor; the longest of the first batches has "
            "%d, for the graph has hubs. What does not fit is counted as overflow; a larger "
            "max_forbidden holds it, at its cost in memory and mining",
            *(width, longest),
        )
    return width
