"""The relation graph: which videos are watched together, as a symmetric CSR of table rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import xxhash

from vidembed.records.split import LeakError as LeakError


@dataclass(frozen=True, kw_only=True, eq=False)
class RelationGraph:
    """Symmetric weighted graph over N table rows: every undirected edge is stored in both rows.

    offsets: i64[N+1], neighbours: i32[2E] (ascending within a row), weights: f32[2E]. The
    neighbours of row r are `neighbours[offsets[r]:offsets[r + 1]]`. No self loops, no repeats.
    Build it with `from_edges`; the constructor only checks that the three arrays fit together.
    """

    offsets: np.ndarray
    neighbours: np.ndarray
    weights: np.ndarray

    def __post_init__(self) -> None:
        dtypes = {"offsets": np.int64, "neighbours": np.int32, "weights": np.float32}
        for name, dtype in dtypes.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.ndim != 1:
                raise TypeError(
                    f"RelationGraph.{name} must be a flat {np.dtype(dtype)} array, found "
                    f"{array.dtype}{list(array.shape)}; use RelationGraph.from_edges"
                )
        if not len(self.offsets) or self.offsets[0] != 0:
            raise ValueError("RelationGraph.offsets must hold N+1 numbers and start with 0")
        ends = {int(self.offsets[-1]), len(self.neighbours), len(self.weights)}
        if len(ends) > 1 or np.any(np.diff(self.offsets) < 0):
            raise ValueError(
                f"RelationGraph: offsets must ascend to the number of neighbours; they end at "
                f"{self.offsets[-1]} with {len(self.neighbours)} neighbours and "
                f"{len(self.weights)} weights"
            )

    @staticmethod
    def from_edges(
        source: np.ndarray, target: np.ndarray, weight: np.ndarray, *, nodes: int
    ) -> "RelationGraph":
        """Build a graph of `nodes` rows from undirected edges: source, target i[E], weight f[E].

        Weights of a repeated pair, in either direction, are added. Raises ValueError for self
        loops, rows outside [0, nodes), and weights that are not finite and positive.
        """
        source, target = np.asarray(source, np.int64), np.asarray(target, np.int64)
        weight = np.asarray(weight, np.float32)
        if not source.shape == target.shape == weight.shape or source.ndim != 1:
            raise ValueError(
                f"edges need one target and one weight per source, found {source.shape}, "
                f"{target.shape} and {weight.shape}"
            )
        if len(source):
            low = int(min(source.min(), target.min()))
            high = int(max(source.max(), target.max()))
            if low < 0 or high >= nodes:
                raise ValueError(f"edge ends must be rows in [0, {nodes}), found {low} to {high}")
            _refuse(source == target, "self loops", source, target, weight)
            _refuse(~(weight > 0) | ~np.isfinite(weight), "bad weights", source, target, weight)
        both = scipy.sparse.coo_array(
            (
                np.concatenate([weight, weight]),
                (np.concatenate([source, target]), np.concatenate([target, source])),
            ),
            shape=(nodes, nodes),
        ).tocsr()
        return RelationGraph(
            offsets=both.indptr.astype(np.int64),
            neighbours=both.indices.astype(np.int32),
            weights=both.data.astype(np.float32),
        )

    @property
    def nodes(self) -> int:
        """N: the rows of the table, with or without edges."""
        return len(self.offsets) - 1

    @property
    def edges(self) -> int:
        """E: the number of undirected edges."""
        return len(self.neighbours) // 2

    def degrees(self) -> np.ndarray:
        """Number of neighbours per row, i64[N]."""
        return np.diff(self.offsets)

    def strengths(self) -> np.ndarray:
        """Sum of edge weights per row, f64[N]."""
        return np.bincount(self.rows(), self.weights, minlength=self.nodes).astype(np.float64)

    def rows(self) -> np.ndarray:
        """The row that each entry of `neighbours` belongs to, i32[2E]."""
        return np.repeat(np.arange(self.nodes, dtype=np.int32), self.degrees())

    def within(self, mask: np.ndarray) -> "RelationGraph":
        """The edges with both ends in mask bool[N]; rows keep their numbers."""
        mask = self.mask(mask)
        return self._only(mask[self.rows()] & mask[self.neighbours])

    def between(self, mask: np.ndarray) -> "RelationGraph":
        """The edges with one end in mask bool[N] and one outside it; rows keep their numbers."""
        mask = self.mask(mask)
        return self._only(mask[self.rows()] != mask[self.neighbours])

    def capped(self, max_degree: int) -> "RelationGraph":
        """Keep the edges among the `max_degree` strongest of either end; rows keep their numbers.

        Ties go to the neighbour with the smaller row. Returns this graph itself if no row exceeds
        the cap. Only the rows above the cap are sorted.
        """
        if max_degree < 1:
            raise ValueError(f"max_degree must be at least 1, found {max_degree}")
        degrees = self.degrees()
        above = np.flatnonzero(degrees > max_degree)
        if not len(above):
            return self
        counts = degrees[above]
        row = np.repeat(np.arange(len(above)), counts)
        rank = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        entry = self.offsets[above][row] + rank
        # Stable, so equal weights stay in order of neighbour.
        order = np.lexsort((-self.weights[entry], row))
        strong = np.ones(len(self.neighbours), np.bool_)
        strong[entry[order[rank >= max_degree]]] = False
        # The transpose has the same entries, each with the value from the edge's other end.
        shape = (self.nodes, self.nodes)
        ends = scipy.sparse.csr_array((strong, self.neighbours, self.offsets), shape=shape)
        return self._only(strong | ends.tocsc().data)

    def matrix(self) -> scipy.sparse.csr_array:
        """The same graph as scipy's f32[N, N]; its arrays are shared, not copied."""
        shape = (self.nodes, self.nodes)
        return scipy.sparse.csr_array((self.weights, self.neighbours, self.offsets), shape=shape)

    def report(self) -> Mapping[str, Any]:
        """Statistics to check before training: size, degrees, components, coverage."""
        degrees = self.degrees()
        linked = degrees > 0
        count, component = scipy.sparse.csgraph.connected_components(self.matrix(), directed=False)
        sizes = np.bincount(component, minlength=count)
        giant = int(sizes.max()) if count else 0
        bounds = [0] + [2**power for power in range(int(degrees.max(initial=0)).bit_length() + 1)]
        return {
            "nodes": self.nodes,
            "edges": self.edges,
            "isolated_nodes": int(np.sum(~linked)),
            "coverage": float(np.mean(linked)) if self.nodes else 0.0,
            "components": int(np.sum(sizes > 1)),
            "giant_component_nodes": giant if giant > 1 else 0,
            "giant_component_share": giant / max(int(linked.sum()), 1) if giant > 1 else 0.0,
            "degree_mean": float(degrees[linked].mean()) if linked.any() else 0.0,
            "degree_median": float(np.median(degrees[linked])) if linked.any() else 0.0,
            "degree_max": int(degrees.max(initial=0)),
            "degree_histogram": {
                str(low) if high - low == 1 else f"{low}-{high - 1}": int(
                    np.sum((degrees >= low) & (degrees < high))
                )
                for low, high in pairwise(bounds)
            },
            "weight_min": float(self.weights.min(initial=np.inf)) if self.edges else 0.0,
            "weight_max": float(self.weights.max(initial=0.0)),
            "weight_sum": float(self.weights.sum(dtype=np.float64)) / 2,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the content: equal for equal graphs, in whatever order edges were given."""
        digest = xxhash.xxh3_128()
        for array in (self.offsets, self.neighbours, self.weights):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def mask(self, mask: np.ndarray, name: str = "a mask") -> np.ndarray:
        """Return `mask` as bool[N]; raise ValueError if its dtype or shape differs."""
        mask = np.asarray(mask)
        if mask.shape != (self.nodes,) or mask.dtype != bool:
            raise ValueError(f"{name} must be bool[{self.nodes}], found {mask.dtype}{mask.shape}")
        return mask

    def _only(self, chosen: np.ndarray) -> "RelationGraph":
        degrees = np.bincount(self.rows()[chosen], minlength=self.nodes)
        return RelationGraph(
            offsets=np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64),
            neighbours=self.neighbours[chosen],
            weights=self.weights[chosen],
        )


def _refuse(
    is_bad: np.ndarray, what: str, source: np.ndarray, target: np.ndarray, weight: np.ndarray
) -> None:
    if not is_bad.any():
        return
    examples = ", ".join(
        f"{source[i]}-{target[i]} ({weight[i]})" for i in np.flatnonzero(is_bad)[:5]
    )
    raise ValueError(
        f"{int(is_bad.sum())} of {len(is_bad)} edges are {what} (row-row (weight): {examples}); a "
        "relation graph holds no self loops and only finite, positive weights: filter the edges, "
        "or read them with graph.edges.read_edges"
    )


def check_no_leak(graph: RelationGraph, is_train: np.ndarray) -> None:
    """Raise LeakError, naming rows, if a training edge has an end outside is_train bool[N]."""
    is_train = graph.mask(is_train, "is_train")
    rows, neighbours = graph.rows(), graph.neighbours
    leaks = np.flatnonzero((rows < neighbours) & ~(is_train[rows] & is_train[neighbours]))
    if not len(leaks):
        return

    def name(row: int) -> str:
        return f"{row} ({'train' if is_train[row] else 'evaluation'})"

    pairs = "; ".join(f"{name(rows[i])} - {name(neighbours[i])}" for i in leaks[:10])
    raise LeakError(
        f"{len(leaks)} of {graph.edges} training edges touch the evaluation split: {pairs}"
        f"{'; ...' if len(leaks) > 10 else ''}. Train on graph.within(is_train)"
    )
