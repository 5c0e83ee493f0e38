"""Draw the videos of a batch of triplets, as a pure function of seed and step, in O(1) each."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from vidembed.graph.relation import RelationGraph
from vidembed.graph.siblings import Siblings

Sampling = Literal["uniform", "weight"]
Anchors = Literal["edges", "videos"]


def raw_draws(seed: int, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Random words u64[shape] that depend only on seed and step, from the generator Philox.

    Raw words, because NumPy guarantees their stream, while the distributions of `Generator` may
    change with a release, and with them every batch of a resumed run.
    """
    if not 0 <= step < 2**64:
        raise ValueError(f"a step must be from 0 on, found {step}")
    key = np.array([seed, step], np.uint64)
    return np.random.Philox(key=key).random_raw(int(np.prod(shape))).reshape(shape)


def unit(raw: np.ndarray) -> np.ndarray:
    """The upper 53 bits of raw words as f64[...] in [0, 1); the lower 11 bits remain free."""
    return (raw >> np.uint64(11)) * 2.0**-53


def below(raw: np.ndarray, limit: int | np.ndarray) -> np.ndarray:
    """Integers i64[...] uniform over [0, limit), with a bias of at most limit / 2^53."""
    return (unit(raw) * limit).astype(np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class AliasTable:
    """Draw from n unequal weights in O(1): a uniform column, then that column or its alias.

    keep: f32[n], probability of staying in the column; alias: i32[n] (i64 from 2^31 on).
    Walker, "An efficient method for generating discrete random variables", 1977.
    """

    keep: np.ndarray
    alias: np.ndarray

    @staticmethod
    def of(weights: np.ndarray) -> "AliasTable":
        """Build the table of weights f[n], finite and not negative; 12.5 M weights take seconds.

        Columns below their fair share ("light") are filled, in order, from those above ("heavy"),
        in order. Which heavy column fills which light one follows from prefix sums of the deficits
        and the surpluses (Hübschle-Schneider & Sanders, "Parallel weighted random sampling", 2019).
        A heavy column that has given itself below 1 is filled by the next.
        """
        n = len(weights)
        # Summed in order, unlike NumPy's sum: the table must be the same on every machine.
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
        deficits = np.concatenate([[0.0], np.cumsum(1 - fair[light])])
        surpluses = np.cumsum(fair[heavy] - 1)

        # A light column's giver is the first whose total exceeds all earlier deficits.
        giver = np.searchsorted(surpluses, deficits[:-1], side="right")
        keep[light] = fair[light]
        alias[light] = heavy[np.minimum(giver, len(heavy) - 1)]

        # Find the light column that takes a giver below 1, and by how much; the last stays at 1.
        overdrawn = np.searchsorted(deficits, surpluses[:-1], side="left")
        spent = overdrawn < len(deficits)
        keep[heavy[:-1][spent]] = 1 - (deficits[overdrawn[spent]] - surpluses[:-1][spent])
        alias[heavy[:-1][spent]] = heavy[1:][spent]
        return AliasTable(keep=keep, alias=alias)

    def pick(self, column: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Indices i64[n] for uniform columns i64[n] and independent chances f64[n] in [0, 1)."""
        return np.where(chance < self.keep[column], column, self.alias[column])


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgePairs:
    """Draws the two ends of an edge as anchor and positive.

    edges: i32[E, 2], each undirected edge once. table: draws edges by weight; None draws them
    uniformly. 8 bytes per edge, 8 more for the table.
    """

    edges: np.ndarray
    table: AliasTable | None

    @staticmethod
    def of(graph: RelationGraph, sampling: Sampling) -> "EdgePairs":
        source = graph.rows()
        once = source < graph.neighbours
        return EdgePairs(
            edges=np.stack([source[once], graph.neighbours[once]], axis=1),
            table=AliasTable.of(graph.weights[once]) if sampling == "weight" else None,
        )

    @property
    def words(self) -> int:
        """Random words per pair."""
        return 1 if self.table is None else 2

    def draw(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(positives, anchors) i32[B] each from raw u64[words, B]."""
        edge = below(raw[0], len(self.edges))
        if self.table is not None:
            edge = self.table.pick(edge, unit(raw[1]))
        # One gather of 8 bytes per edge: the list is far larger than the caches.
        ends = self.edges.view(np.int64)[edge, 0].view(np.int32).reshape(-1, 2)
        turn = (raw[0] & np.uint64(1)).astype(np.intp)
        pair = np.arange(len(ends))
        return ends[pair, 1 - turn], ends[pair, turn]


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoPairs:
    """Draws an anchor uniformly from the videos with relations i32[A], and one of its relations."""

    anchors: np.ndarray
    graph: RelationGraph
    words: ClassVar[int] = 2

    @staticmethod
    def of(graph: RelationGraph) -> "VideoPairs":
        return VideoPairs(
            anchors=np.flatnonzero(graph.degrees()).astype(np.int32),
            graph=graph,
        )

    def draw(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(positives, anchors) i32[B] each from raw u64[words, B]."""
        # `take` in mode "wrap" does not check indices, which saves a third here.
        anchors = self.anchors.take(below(raw[0], len(self.anchors)), mode="wrap")
        row = anchors.astype(np.intp)
        begin = self.graph.offsets.take(row, mode="wrap")
        row += 1
        degree = self.graph.offsets.take(row, mode="wrap") - begin
        begin += below(raw[1], degree)
        return self.graph.neighbours.take(begin, mode="wrap"), anchors


@dataclass(frozen=True, kw_only=True, eq=False)
class TripletSampler:
    """Draws rows of anchors and positives from a graph, and negatives from train rows i32[T].

    siblings: draws negatives by level; None draws them from all train rows.
    """

    pairs: EdgePairs | VideoPairs
    train: np.ndarray
    siblings: Siblings | None = None

    @staticmethod
    def of(
        graph: RelationGraph,
        is_train: np.ndarray,
        *,
        sampling: Sampling = "uniform",
        anchors: Anchors = "edges",
        siblings: Siblings | None = None,
    ) -> "TripletSampler":
        """Build a sampler for a graph whose edges all lie within is_train bool[N]."""
        return TripletSampler(
            pairs=VideoPairs.of(graph) if anchors == "videos" else EdgePairs.of(graph, sampling),
            train=np.flatnonzero(is_train).astype(np.int32),
            siblings=siblings,
        )

    def draw(
        self, seed: int, step: int, triplets: int, *, level: int = 0
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw rows i32[3, B] of batch `step`; with siblings also the levels drawn at bool[L+1, B].

        By edges: an edge uniformly or in proportion to its weight; either end is the anchor with
        probability 1/2. By videos: an anchor uniformly, a positive uniformly among its neighbours.
        Without siblings a negative is uniform over the train rows and independent of the pair, so
        it may be the anchor, the positive or a neighbour: the forbidden pairs mark these.
        """
        raw = raw_draws(seed, step, (1 + self.pairs.words, triplets))
        # Word 1 draws the negative, as it did when pairs took only one word.
        rows = np.empty((3, triplets), np.int32)
        rows[1], rows[2] = self.pairs.draw(raw[[0, *range(2, len(raw))]])
        if self.siblings is None:
            rows[0] = self.train[below(raw[1], len(self.train))]
            return rows, None
        rows[0], drawn_at = self.siblings.draw(unit(raw[1]), rows[2], level)
        return rows, drawn_at == np.arange(self.siblings.levels + 1)[:, None]


def anchor_chances(graph: RelationGraph, anchors: Anchors, sampling: Sampling) -> np.ndarray:
    """Relative frequency of each row as an anchor, f64[N]."""
    if anchors == "videos":
        return (graph.degrees() > 0).astype(np.float64)
    return graph.degrees().astype(np.float64) if sampling == "uniform" else graph.strengths()
