"""Negatives from sibling clusters: near the anchor in the hierarchy, but not related to it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse

from vidembed.graph.hierarchy import Hierarchy, HierarchyError
from vidembed.graph.relation import RelationGraph

SiblingsOf = Literal["cluster", "video"]
ANCESTORS = {"cluster": 2, "video": 1}
"""The hierarchy level under which siblings of level 0 lie; each level is one above the last."""


def levels_of(rounds: int, siblings_of: SiblingsOf) -> int:
    """L: the sibling levels of a hierarchy of R rounds with an ancestor below all train videos."""
    return max(rounds + 1 - ANCESTORS[siblings_of], 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Siblings:
    """Draws videos under an ancestor of the anchor's, exactly uniform over those it may take.

    Sibling levels l = 0..L-1, 0 the hardest, and L for all train videos. GCML (CVPR'20) says
    "sibling clusters", which can be read in two ways:

    siblings_of "cluster" (default): at level l the videos under the (l+2)-th ancestor of the
    anchor (hierarchy level l+2), but its own level-1 cluster; L = R-1 for R rounds.
    siblings_of "video": those under the (l+1)-th ancestor, but the anchor itself; L = R.

    Never the anchor nor anything related to it, capped or not. Where a level has nothing that is
    allowed, the next one up is drawn from, finally all train videos (the paper does not say). Where
    even there nothing is left, the draw is the anchor itself: forbidden lists hold it, so that its
    triplet is dropped.

    Train videos lie in one order in which each cluster of every level is a range. What an anchor
    may take at all is a subsequence of that order, numbered from 0; under each ancestor it is a
    range of these numbers. Memory: 4 bytes for each end of an edge, 44 + 16 L a video.

    order: i32[T], rows of the train videos.
    offsets: i64[N] into before: i32[M+1], for each neighbour outside the own cluster how many
        allowed videos come before it; ends with one more number.
    bounds: i32[N, L+2, 4], for each row and level: how many videos are allowed, the number of the
        first, where in the row's part of `before` the neighbours under this ancestor begin, and
        how many they are; last its own cluster: where it begins in the order, its size, 0, 0.
    """

    order: np.ndarray
    offsets: np.ndarray
    before: np.ndarray
    bounds: np.ndarray
    hierarchy_fingerprint: str

    @staticmethod
    def of(
        hierarchy: Hierarchy,
        graph: RelationGraph,
        is_train: np.ndarray,
        *,
        relations: RelationGraph | None = None,
        siblings_of: SiblingsOf = "cluster",
        level: int = 0,
    ) -> "Siblings":
        """Index over the train graph and its hierarchy; is_train: bool[N].

        relations: all relations within the train partition, before the degree cap; none of them is
        drawn. None where the graph holds them all.

        Raises HierarchyError where the hierarchy is not of this graph, where sibling level `level`,
        the lowest that will be drawn at, is above L, and where no anchor has a sibling there or
        above.
        """
        hierarchy.check(graph, is_train)
        _refuse_level(level, hierarchy.levels, siblings_of)
        train = np.flatnonzero(is_train).astype(np.int32)
        # The last key counts most: the top level, then down; equal ones stay in order of row.
        order = train[np.lexsort(hierarchy.clusters[:, train])]
        place = np.zeros(graph.nodes, np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)

        def by_row(ranges: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
            begin, end = np.zeros((2, graph.nodes), np.int32)
            begin[order], end[order] = ranges
            return begin, end

        ranges = [by_row(_ranges(clusters[order])) for clusters in hierarchy.clusters]
        ranges.append(by_row((np.zeros_like(order), np.full_like(order, len(order)))))
        own_begin, own_end = (place, place + 1) if siblings_of == "video" else ranges[0]
        own = own_end - own_begin

        # Of each row's neighbours outside its own cluster the place in the order without that.
        row, at = _places(graph if relations is None else relations, place)
        outside = (at < own_begin[row]) | (at >= own_end[row])
        row, at = row[outside], at[outside]
        at -= np.where(at >= own_end[row], own[row], 0)
        degrees = np.bincount(row, minlength=graph.nodes)
        offsets = np.cumsum(degrees) - degrees
        padded = np.append(at, np.int32(0))

        bounds = np.zeros((graph.nodes, len(ranges) + 2 - ANCESTORS[siblings_of], 4), np.int32)
        bounds[:, -1, :2] = np.stack([own_begin, own], axis=1)
        for higher, (begin, end) in enumerate(ranges[ANCESTORS[siblings_of] - 1 :]):
            skipped = _at_most(padded, offsets, degrees, begin - 1)
            related = _at_most(padded, offsets, degrees, end - own - 1) - skipped
            allowed = end - own - begin - related
            bounds[:, higher] = np.stack([allowed, begin - skipped, skipped, related], axis=1)
        at -= (np.arange(len(at)) - offsets[row]).astype(np.int32)
        siblings = Siblings(
            order=order,
            offsets=offsets,
            before=np.append(at, np.int32(0)),
            bounds=bounds,
            hierarchy_fingerprint=hierarchy.fingerprint,
        )
        # All train videos count only where they are asked for.
        shares = siblings.shares(level, graph.degrees() > 0)
        if not shares[: max(siblings.levels, level + 1)].any():
            raise HierarchyError(_no_siblings(hierarchy, len(order), level))
        return siblings

    @property
    def levels(self) -> int:
        """L: the levels with an ancestor below all train videos."""
        return self.bounds.shape[1] - 2

    def draw(
        self, chance: np.ndarray, anchors: np.ndarray, level: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(rows i32[B], level drawn at i32[B], L for all train videos) of anchors i[B].

        chance: f64[B] in [0, 1), what the draw is made from: multiples of 2^-53 make it uneven by
        T / 2^53 at most. level: the one wanted; from L on it means all train videos.
        O(log degree) array operations, O(1) memory a draw.
        """
        # `take` that wraps asks nothing of an index: a fourth of the time of brackets here.
        anchors = anchors.astype(np.intp)
        bounds = self.bounds.take(anchors, axis=0, mode="wrap")
        drawn_at = self._climb(bounds, level)
        of_level = np.arange(0, bounds.shape[1] * len(anchors), bounds.shape[1]) + drawn_at
        picked = bounds.reshape(-1, 4).take(of_level, axis=0, mode="wrap")
        allowed, first, skipped, related = picked.T
        number = first + (chance * allowed).astype(np.int32)
        begin = self.offsets.take(anchors, mode="wrap") + skipped
        place = _at_most(self.before, begin, related, number)
        place += number + skipped
        own_begin, own = bounds[:, -1, 0], bounds[:, -1, 1]
        place += (place >= own_begin) * own
        # Where nothing is allowed the place may lie past the end.
        rows = self.order.take(place, mode="clip")
        return np.where(allowed > 0, rows, anchors).astype(np.int32), drawn_at.astype(np.int32)

    def shares(self, level: int, chances: np.ndarray) -> np.ndarray:
        """Shares f64[L+2] of the draws wanted at `level` that are made at each level 0..L-1, ...

        ... from all train videos, and not at all, for nothing is allowed. Exact, for anchors
        drawn with chances in proportion to f[N].
        """
        drawn_at = self._climb(self.bounds, level)
        drawn_at[self.bounds[:, self.levels, 0] == 0] = self.levels + 1
        return np.bincount(drawn_at, chances, self.levels + 2) / chances.sum()

    def _climb(self, bounds: np.ndarray, level: int) -> np.ndarray:
        """The first level from the wanted one on where something is allowed, else L."""
        found = np.full(len(bounds), self.levels, np.int64)
        for higher in range(self.levels - 1, level - 1, -1):
            found[bounds[:, higher, 0] > 0] = higher
        return found


def _ranges(clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each one's run of equal clusters i32[T] begins and ends, i64[T] each."""
    starts = np.flatnonzero(np.diff(clusters, prepend=-1))
    lengths = np.diff(starts, append=len(clusters))
    return np.repeat(starts, lengths), np.repeat(starts + lengths, lengths)


def _places(graph: RelationGraph, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row, place) of both ends of each edge, i32[2E], by row and then by place i32[N]."""
    links = scipy.sparse.csr_array(
        (np.ones(len(graph.neighbours), np.int8), place[graph.neighbours], graph.offsets),
        shape=(graph.nodes, graph.nodes),
    )
    links.sort_indices()
    return graph.rows(), links.indices.astype(np.int32)


def _at_most(
    values: np.ndarray, begin: np.ndarray, length: np.ndarray, limit: np.ndarray
) -> np.ndarray:
    """How many of the rising values[begin[i] : begin[i] + length[i]] are at most limit[i], i64.

    A binary search of all i at once; there must be one more value after the last range.
    """
    low, rest = begin.copy(), length.astype(np.int64)
    while rest.max(initial=0) > 1:
        half = rest >> 1
        probe = low + half
        probe -= 1
        low += half * (values.take(probe, mode="wrap") <= limit)
        rest -= half
    low += (rest > 0) & (values.take(low, mode="wrap") <= limit)
    return low - begin


def _refuse_level(level: int, rounds: int, siblings_of: SiblingsOf) -> None:
    if siblings_of not in ANCESTORS:
        raise ValueError(f"siblings_of must be one of {list(ANCESTORS)}, found {siblings_of!r}")
    if level < 0:
        raise ValueError(f"a sibling level is 0 (hardest) or more, found {level}")
    top = levels_of(rounds, siblings_of)
    if level > top or not top:
        exist = {0: "none exists", 1: "level 0 exists"}.get(top, f"levels 0 to {top - 1} exist")
        every = f", {top} means all train videos" if top else ""
        raise HierarchyError(
            f"there is no sibling level {level} of the anchor's {siblings_of} in clusters of "
            f"{rounds} rounds: {exist}{every}. Choose one that there is, or make a hierarchy by "
            f"`python -m vidembed cluster --rounds {level + ANCESTORS[siblings_of]}`"
        )


def _no_siblings(hierarchy: Hierarchy, videos: int, level: int) -> str:
    found = "; ".join(
        f"level {number}: {len(sizes):,} clusters, the largest of {sizes.max():,} "
        f"({100 * sizes.max() / videos:.1f} %)"
        for number in range(1, hierarchy.levels + 1)
        if len(sizes := hierarchy.sizes(number))
    )
    return (
        f"no anchor has a sibling at level {level} or above: of {videos:,} train videos, {found}. "
        "A cluster that holds nearly all videos leaves none beside it: make the hierarchy with "
        "fewer rounds, a higher min_similarity or a max_size. Clusters that never merge have no "
        "siblings: more rounds or a lower min_similarity. Or draw negatives from all train videos "
        "(UniformNegatives)"
    )
