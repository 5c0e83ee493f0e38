"""Which videos a batch of triplets holds: a pure function of seed and step, drawn in O(1) each."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vidembed.graph.relation import RelationGraph

Sampling = Literal["uniform", "weight"]


def raw_draws(seed: int, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Random words u64[shape] of this seed and step alone (Philox, a counter-based generator).

    Raw words, because NumPy promises their stream for ever, while what `Generator` makes of them
    may change with a release, and with it every batch of a resumed run.
    """
    key = np.array([seed, step], np.uint64)
    return np.random.Philox(key=key).random_raw(int(np.prod(shape))).reshape(shape)


def unit(raw: np.ndarray) -> np.ndarray:
    """The upper 53 bits of raw words as f64[...] in [0, 1); the lower 11 are free for other use."""
    return (raw >> np.uint64(11)) * 2.0**-53


def below(raw: np.ndarray, limit: int) -> np.ndarray:
    """Whole numbers i64[...] uniform over [0, limit), unevenness at most limit / 2^53."""
    return (unit(raw) * limit).astype(np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class AliasTable:
    """Draws from n unequal weights in O(1): a column uniformly, then it or its alias.

    keep: f32[n], the chance of staying in the column; alias: i32[n] (i64 from 2^31 on).
    Walker, "An efficient method for generating discrete random variables", 1977.
    """

    keep: np.ndarray
    alias: np.ndarray

    @staticmethod
    def of(weights: np.ndarray) -> "AliasTable":
        """Table of weights f[n], finite and not negative. Vectorised: 12.5 M weights in seconds.

        The columns below their fair share ("light") are filled, in order, from those above
        ("heavy"), in order; where one ends and the next begins follows from prefix sums of what
        the light lack and the heavy have over (Hübschle-Schneider & Sanders, "Parallel weighted
        random sampling", 2019). A heavy column that has given itself below 1 is filled by the next.
        """
        n = len(weights)
        # Summed in order, as NumPy's sum is not: the table must be the same on every machine.
        total = np.cumsum(weights, dtype=np.float64)[-1]
        if not (np.isfinite(total) and total > 0 and weights.min() >= 0):
            raise ValueError(
                f"edge weights must be finite, not negative and not all zero, found sum {total}; "
                "clean the edges, or sample them uniformly"
            )
        fair = weights.astype(np.float64) * (n / total)
        keep = np.ones(n, np.float32)
        alias = np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)
        light, heavy = np.flatnonzero(fair < 1), np.flatnonzero(fair >= 1)
        if not len(heavy):  # all equal, and rounded below 1
            return AliasTable(keep=keep, alias=alias)
        lacked = np.concatenate([[0.0], np.cumsum(1 - fair[light])])
        given = np.cumsum(fair[heavy] - 1)

        # A light column's giver is the first whose total reaches past all that was lacked before.
        giver = np.searchsorted(given, lacked[:-1], side="right")
        keep[light] = fair[light]
        alias[light] = heavy[np.minimum(giver, len(heavy) - 1)]

        # The light column that takes a giver below 1, and by how much; the last giver stays at 1.
        overdrawn = np.searchsorted(lacked, given[:-1], side="left")
        spent = overdrawn < len(lacked)
        keep[heavy[:-1][spent]] = 1 - (lacked[overdrawn[spent]] - given[:-1][spent])
        alias[heavy[:-1][spent]] = heavy[1:][spent]
        return AliasTable(keep=keep, alias=alias)

    def pick(self, column: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Index i64[n] for a uniform column i64[n] and an independent chance f64[n] in [0, 1)."""
        return np.where(chance < self.keep[column], column, self.alias[column])


@dataclass(frozen=True, kw_only=True, eq=False)
class TripletSampler:
    """Rows of anchors and positives from the edges of a graph, of negatives from the train rows.

    edges: i32[E, 2], each undirected edge once; train: i32[T]; table: None samples uniformly.
    Memory: 8 bytes an edge, and 8 more for the table.
    """

    edges: np.ndarray
    train: np.ndarray
    table: AliasTable | None

    @staticmethod
    def of(graph: RelationGraph, is_train: np.ndarray, sampling: Sampling) -> "TripletSampler":
        """Sampler over a graph whose edges all lie within is_train bool[N]."""
        source = graph.rows()
        once = source < graph.neighbours
        edges = np.stack([source[once], graph.neighbours[once]], axis=1)
        return TripletSampler(
            edges=edges,
            train=np.flatnonzero(is_train).astype(np.int32),
            table=AliasTable.of(graph.weights[once]) if sampling == "weight" else None,
        )

    def rows(self, seed: int, step: int, triplets: int) -> np.ndarray:
        """Rows i32[3, B] of batch `step`: negatives, positives, anchors.

        An edge uniformly or in proportion to its weight, either end its anchor with chance 1/2; a
        negative uniformly over the train rows, independent of the edge, so now and then it is the
        anchor, the positive or a neighbour: the forbidden pairs say so.
        """
        raw = raw_draws(seed, step, (2 if self.table is None else 3, triplets))
        edge = below(raw[0], len(self.edges))
        if self.table is not None:
            edge = self.table.pick(edge, unit(raw[2]))
        # One gather of 8 bytes an edge: the list is far larger than the caches.
        ends = self.edges.view(np.int64)[edge, 0].view(np.int32).reshape(triplets, 2)
        turn = (raw[0] & np.uint64(1)).astype(np.intp)
        triplet = np.arange(triplets)
        rows = np.empty((3, triplets), np.int32)
        rows[0] = self.train[below(raw[1], len(self.train))]
        rows[1] = ends[triplet, 1 - turn]
        rows[2] = ends[triplet, turn]
        return rows
