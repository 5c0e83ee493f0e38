"""Engines that stand on faiss: the paper's 4-bit codes by fast scan, HNSW, IVF.

Each finds candidates on small codes, takes of them what is allowed, and scores those with the
vectors as kept. faiss is imported when it is first needed, and reads verified bytes alone.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidembed.serving.quantizer import Quantizer
from vidembed.serving.segment import Segment, top

FEW, FEW_OF = 2000, 32
"""So few allowed rows, or one of so many, are scored one by one: no engine that passes over the
others is faster, and a graph would be walked nearly whole to find them."""
CODES = 16


def faiss_module() -> Any:
    """The library, or ImportError that says how to install it."""
    try:
        with warnings.catch_warnings():
            # SWIG's types, on Python 3.12 and later.
            warnings.simplefilter("ignore", DeprecationWarning)
            import faiss
    except ImportError as error:
        raise ImportError(
            "this index needs faiss, which is not installed: pip install -e '.[serve]', or make "
            "the index with engine='exact'"
        ) from error
    return faiss


@dataclass(frozen=True, kw_only=True)
class FastScan:
    """CDML's quantiser: 4 bits a dimension, scanned by faiss 66 times faster than by tables.

    levels: the 16 values of all dimensions or of each, f32[1 or D, 16], as `Quantizer.levels` has
    them; None fits one codebook for all dimensions to what is built.
    effort: candidates that are scored again for each result asked for.

    Bytes: half of one a dimension and 8 a vector beside the vectors as kept, of which a search
    reads k·effort a query.
    """

    levels: Any = None
    effort: int = 4

    def __post_init__(self) -> None:
        if self.levels is None:
            return
        levels = np.asarray(self.levels, np.float32)
        if levels.ndim != 2 or levels.shape[1] != CODES or not np.isfinite(levels).all():
            raise ValueError(
                f"levels must be {CODES} finite values for all dimensions or for each, "
                f"[1 or D, {CODES}]; got {list(levels.shape)}"
            )
        # As tuples, which compare and are stored as JSON.
        object.__setattr__(self, "levels", tuple(map(tuple, levels.tolist())))

    def build(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """As Engine.build."""
        faiss = faiss_module()
        levels = self.levels or Quantizer.fit(vectors, bits=4).levels
        width, levels = vectors.shape[1], np.asarray(levels, np.float32)
        if len(levels) not in (1, width):
            raise ValueError(f"levels of {len(levels)} dimensions for vectors of {width}")
        # One list holds all: unlike the plain index of such codes, it takes filters.
        index = faiss.index_factory(width, f"IVF1,PQ{width}x4fs", faiss.METRIC_INNER_PRODUCT)
        index.by_residual = False
        index.quantizer.add(np.zeros((1, width), np.float32))
        levels = np.ascontiguousarray(np.broadcast_to(levels, (width, CODES)))
        faiss.copy_array_to_vector(levels.reshape(-1), index.pq.centroids)
        index.is_trained = True
        return _stored(index, vectors)

    def search(
        self, segment: Segment, queries: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """As Engine.search."""

        def candidates(faiss: Any, index: Any, share: float, sel: Any) -> np.ndarray:
            parameters = faiss.SearchParametersIVF(nprobe=1, sel=sel)
            return index.search(queries, min(k * self.effort, len(segment)), params=parameters)[1]

        return _refined(segment, queries, k, allowed, candidates)


@dataclass(frozen=True, kw_only=True)
class Hnsw:
    """A graph of near vectors, in 8 bits a value: few are looked at, and memory is large.

    effort: candidates that a search keeps in sight (faiss's efSearch; at least twice k). links:
    edges of a vector, twice as many at the bottom. build_effort: faiss's efConstruction.

    faiss cannot remove from a graph: rows that are not allowed are walked through, and with fewer
    allowed more are kept in sight.
    """

    effort: int = 256
    links: int = 32
    build_effort: int = 160

    def build(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """As Engine.build."""
        faiss = faiss_module()
        kind = f"HNSW{self.links},SQ8"
        index = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.build_effort
        index.train(vectors)
        return _stored(index, vectors)

    def search(
        self, segment: Segment, queries: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """As Engine.search."""

        def candidates(faiss: Any, index: Any, share: float, sel: Any) -> np.ndarray:
            sight = min(len(segment), round(max(self.effort, 2 * k) / share))
            parameters = faiss.SearchParametersHNSW(efSearch=sight, sel=sel)
            return index.search(queries, min(2 * k, len(segment)), params=parameters)[1]

        return _refined(segment, queries, k, allowed, candidates)


@dataclass(frozen=True, kw_only=True)
class Ivf:
    """Vectors in lists by their nearest centre, in 8 bits a value; the nearest lists are scanned.

    effort: lists that are scanned (faiss's nprobe). lists: how many there are; None is four times
    the root of the number of vectors.
    """

    effort: int = 32
    lists: int | None = None

    def build(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """As Engine.build."""
        faiss = faiss_module()
        rows = len(vectors)
        # faiss asks for 39 vectors a list at least.
        lists = max(1, min(self.lists or round(4 * rows**0.5), rows // 39))
        kind = f"IVF{lists},SQ8"
        index = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        # A quarter of faiss's vectors a list, and less than half of its iterations.
        index.cp.max_points_per_centroid, index.cp.niter = 64, 10
        index.cp.min_points_per_centroid = 1  # else it complains of one list for few
        index.train(vectors)
        return _stored(index, vectors)

    def search(
        self, segment: Segment, queries: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """As Engine.search."""

        def candidates(faiss: Any, index: Any, share: float, sel: Any) -> np.ndarray:
            parameters = faiss.SearchParametersIVF(nprobe=min(self.effort, index.nlist), sel=sel)
            return index.search(queries, min(2 * k, len(segment)), params=parameters)[1]

        return _refined(segment, queries, k, allowed, candidates)


def _stored(index: Any, vectors: np.ndarray) -> dict[str, np.ndarray]:
    index.add(vectors)
    return {"faiss": faiss_module().serialize_index(index)}


def _refined(
    segment: Segment,
    queries: np.ndarray,
    k: int,
    allowed: np.ndarray,
    candidates: Callable[[Any, Any, float, Any], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The best of the candidates by their vectors as kept; exact where candidates are wanting.

    candidates(faiss, index, share of rows that are allowed, selector or None) → rows i64[Q, n], -1
    where none was found.
    """
    count = int(allowed.sum())
    if count <= max(FEW, len(allowed) // FEW_OF):
        return segment.nearest(queries, k, np.flatnonzero(allowed))
    faiss = faiss_module()
    index = segment.loaded("faiss", lambda: faiss.deserialize_index(segment.engine_array("faiss")))
    sel = None
    if count < len(allowed):
        bits = np.packbits(allowed, bitorder="little")
        sel = faiss.IDSelectorBitmap(len(allowed), faiss.swig_ptr(bits))
    rows = candidates(faiss, index, count / len(allowed), sel)
    scores = segment.score(queries, np.maximum(rows, 0))
    best, where = top(np.where(rows < 0, -np.inf, scores), rows, k)
    wanting = (best > -np.inf).sum(axis=1) < min(k, count)
    if wanting.any():
        best[wanting], where[wanting] = segment.nearest(
            queries[wanting], k, np.flatnonzero(allowed)
        )
    return best, where
