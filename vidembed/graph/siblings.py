"""Negatives from sibling clusters: near the anchor in the hierarchy, but not related to it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse

from vidembed.graph.hierarchy import Hierarchy, HierarchyError
from vidembed.graph.relation import RelationGraph

SiblingsOf = Literal["cluster", "video"]
ANCESTORS = {"cluster": 2, "video": 1}
"""The hierarchy level whose clusters hold the siblings of level 0; each next level is one up."""


def levels_of(rounds: int, siblings_of: SiblingsOf) -> int:
    """L: the number of sibling levels of a hierarchy of R rounds, without that of all videos."""
    return max(rounds + 1 - ANCESTORS[siblings_of], 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Siblings:
    """Draws videos below an ancestor of the anchor, exactly uniformly over the allowed ones.

    Sibling levels are l = 0..L-1, 0 the hardest; L means all train videos. GCML (CVPR'20) says
    "sibling clusters", which can be read in two ways:

    siblings_of "cluster" (default): level l holds the videos below the (l+2)-th ancestor of the
    anchor (hierarchy level l+2), except the anchor's level-1 cluster; L = R-1 for R rounds.
    siblings_of "video": those below the (l+1)-th ancestor, except the anchor itself; L = R.

    The anchor and videos related to it, capped or not, are never drawn. If a level allows no video,
    the draw moves up one level, finally to all train videos (the paper does not say). If even that
    allows none, the draw is the anchor itself: forbidden lists contain it, so its triplet is
    dropped.

    Train videos are ordered so that each cluster of every level is a range. The videos allowed for
    an anchor are a subsequence of that order, numbered from 0; those below each ancestor are a
    range of these numbers. Memory: 4 bytes per end of an edge, 44 + 16 L bytes per video.

    order: i32[T], rows of the train videos.
    offsets: i64[N] into before.
    before: i32[M+1], for each neighbour outside the anchor's own cluster, the number of allowed
        videos before it; one padding value at the end.
    bounds: i32[N, L+2, 4], for each row and level: the number of allowed videos, the number of the
        first, where the neighbours below this ancestor start in the row's part of `before`, and
        how many they are; last, the row's own cluster: its start in the order, its size, 0, 0.
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
        """Build the index from the train graph and its hierarchy; is_train: bool[N].

        relations: all relations within the train partition, before the degree cap; none of them is
        drawn. None if the graph holds them all. level: the lowest sibling level to be drawn from.

        Raises HierarchyError if the hierarchy was made from another graph, if `level` is above L,
        and if no anchor has a sibling at `level` or above.
        """
        hierarchy.check(graph, is_train)
        _refuse_level(level, hierarchy.levels, siblings_of)
        train = np.flatnonzero(is_train).astype(np.int32)
        # The last key sorts first: the top level, then down; ties stay in order of row.
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
        own_size = own_end - own_begin

        # Positions of each row's neighbours outside its cluster, in the order without that cluster.
        row, place_at = _places(graph if relations is None else relations, place)
        outside = (place_at < own_begin[row]) | (place_at >= own_end[row])
        row, place_at = row[outside], place_at[outside]
        place_at -= np.where(place_at >= own_end[row], own_size[row], 0)
        degrees = np.bincount(row, minlength=graph.nodes)
        offsets = np.cumsum(degrees) - degrees
        padded = np.append(place_at, np.int32(0))

        bounds = np.zeros((graph.nodes, len(ranges) + 2 - ANCESTORS[siblings_of], 4), np.int32)
        bounds[:, -1, :2] = np.stack([own_begin, own_size], axis=1)
        for higher, (begin, end) in enumerate(ranges[ANCESTORS[siblings_of] - 1 :]):
            skipped = _at_most(padded, offsets, degrees, begin - 1)
            related = _at_most(padded, offsets, degrees, end - own_size - 1) - skipped
            allowed = end - own_size - begin - related
            bounds[:, higher] = np.stack([allowed, begin - skipped, skipped, related], axis=1)
        place_at -= (np.arange(len(place_at)) - offsets[row]).astype(np.int32)
        siblings = Siblings(
            order=order,
            offsets=offsets,
            before=np.append(place_at, np.int32(0)),
            bounds=bounds,
            hierarchy_fingerprint=hierarchy.fingerprint,
        )
        # Draws from all train videos count only if `level` asks for them.
        shares = siblings.shares(level, graph.degrees() > 0)
        if not shares[: max(siblings.levels, level + 1)].any():
            raise HierarchyError(_no_siblings(hierarchy, len(order), level))
        return siblings

    @property
    def levels(self) -> int:
        """L: the number of sibling levels, without that of all train videos."""
        return self.bounds.shape[1] - 2

    def draw(
        self, chance: np.ndarray, anchors: np.ndarray, level: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw one sibling per anchor i[B]: rows i32[B] and the levels drawn at i32[B].

        chance: f64[B] uniform in [0, 1); multiples of 2^-53 make the draw uneven by at most
        T / 2^53. level: the requested level; L and above mean all train videos, returned as L.
        O(log degree) array operations, O(1) memory per draw.
        """
        # `take` in mode "wrap" does not check indices: a quarter of the time of brackets here.
        anchors = anchors.astype(np.intp)
        bounds = self.bounds.take(anchors, axis=0, mode="wrap")
        drawn_at = self._climb(bounds, level)
        of_level = np.arange(0, bounds.shape[1] * len(anchors), bounds.shape[1]) + drawn_at
        chosen = bounds.reshape(-1, 4).take(of_level, axis=0, mode="wrap")
        allowed, first, skipped, related = chosen.T
        number = first + (chance * allowed).astype(np.int32)
        begin = self.offsets.take(anchors, mode="wrap") + skipped
        place = _at_most(self.before, begin, related, number)
        place += number + skipped
        own_begin, own_size = bounds[:, -1, 0], bounds[:, -1, 1]
        place += (place >= own_begin) * own_size
        # If no video is allowed, the place may be past the end.
        rows = self.order.take(place, mode="clip")
        return np.where(allowed > 0, rows, anchors).astype(np.int32), drawn_at.astype(np.int32)

    def shares(self, level: int, chances: np.ndarray) -> np.ndarray:
        """Exact shares f64[L+2] of where draws requested at `level` end up.

        In order: levels 0..L-1, all train videos, and no draw because no video is allowed.
        chances: f[N], anchors are drawn in proportion to it.
        """
        drawn_at = self._climb(self.bounds, level)
        drawn_at[self.bounds[:, self.levels, 0] == 0] = self.levels + 1
        return np.bincount(drawn_at, chances, self.levels + 2) / chances.sum()

    def _climb(self, bounds: np.ndarray, level: int) -> np.ndarray:
        """The first level from `level` up that allows a video, else L; i64[B]."""
        climbed = np.full(len(bounds), self.levels, np.int64)
        for higher in range(self.levels - 1, level - 1, -1):
            climbed[bounds[:, higher, 0] > 0] = higher
        return climbed


def _ranges(clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of clusters i32[T], the start and end of its run of equal values, i64[T] each."""
    starts = np.flatnonzero(np.diff(clusters, prepend=-1))
    lengths = np.diff(starts, append=len(clusters))
    return np.repeat(starts, lengths), np.repeat(starts + lengths, lengths)


def _places(graph: RelationGraph, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row, place of the neighbour) i32[2E] for both ends of each edge, sorted; place: i32[N]."""
    links = scipy.sparse.csr_array(
        (np.ones(len(graph.neighbours), np.int8), place[graph.neighbours], graph.offsets),
        shape=(graph.nodes, graph.nodes),
    )
    links.sort_indices()
    return graph.rows(), links.indices.astype(np.int32)


def _at_most(
    values: np.ndarray, begin: np.ndarray, length: np.ndarray, limit: np.ndarray
) -> np.ndarray:
    """For each i, how many of the ascending values[begin[i]:begin[i] + length[i]] are <= limit[i].

    Returns i64. One binary search for all i at once; needs one more value after the last range.
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
            f"{rounds} rounds: {exist}{every}. Choose an existing level, or make a hierarchy with "
            f"`python -m vidembed cluster --rounds {level + ANCESTORS[siblings_of]}`"
        )


def _no_siblings(hierarchy: Hierarchy, videos: int, level: int) -> str:
    levels = "; ".join(
        f"level {number}: {len(sizes):,} clusters, the largest of {sizes.max():,} "
        f"({100 * sizes.max() / videos:.1f} %)"
        for number in range(1, hierarchy.levels + 1)
        if len(sizes := hierarchy.sizes(number))
    )
    return (
        f"no anchor has a sibling at level {level} or above: of {videos:,} train videos, {levels}. "
        "A cluster that holds nearly all videos leaves no siblings: make the hierarchy with fewer "
        "rounds, a higher min_similarity or a max_size. Clusters that never merge have no siblings "
        "either: use more rounds or a lower min_similarity. Or draw negatives from all train "
        "videos (UniformNegatives)"
    )
