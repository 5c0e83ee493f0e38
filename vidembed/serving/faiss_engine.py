"""Engines based on faiss: the paper's 4-bit codes with fast scan, HNSW, and IVF.

Each finds allowed candidates with small codes, and scores these again with the kept vectors. faiss
is imported when first needed, and reads only verified bytes.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidembed.serving.quantizer import Quantizer
from vidembed.serving.segment import Segment, top

FEW, FEW_OF = 2000, 32
"""At most FEW allowed rows, or one in FEW_OF, are scored directly: an engine that skips the others
is not faster, and would walk nearly all of a graph to find them."""
CODES = 16


def faiss_module() -> Any:
    """Import faiss, or raise ImportError that says how to install it."""
    try:
        with warnings.catch_warnings():
            # Warnings about SWIG's types on Python 3.12 and later.
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
    """CDML's quantiser: 4 bits per dimension, scanned by faiss 66 times faster than by tables.

    levels: the 16 values of all dimensions or of each, f32[1 or D, 16], as in `Quantizer.levels`;
    None fits one codebook for all dimensions to the vectors built.
    effort: candidates scored again per requested result.

    Memory: half a byte per dimension and 8 bytes per vector, besides the kept vectors, of which a
    search reads k·effort per query.
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
                f"[1 or D, {CODES}], found {list(levels.shape)}"
            )
        # Tuples can be compared and stored as JSON.
        object.__setattr__(self, "levels", tuple(map(tuple, levels.tolist())))

    def build(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """See Engine.build."""
        faiss = faiss_module()
        levels = self.levels or Quantizer.fit(vectors, bits=4).levels
        width, levels = vectors.shape[1], np.asarray(levels, np.float32)
        if len(levels) not in (1, width):
            raise ValueError(f"levels have {len(levels)} dimensions, the vectors {width}")
        # An IVF index of one list: unlike the plain index of such codes, it supports filters.
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
        """See Engine.search."""

        def candidates(faiss: Any, index: Any, share: float, sel: Any) -> np.ndarray:
            parameters = faiss.SearchParametersIVF(nprobe=1, sel=sel)
            return index.search(queries, min(k * self.effort, len(segment)), params=parameters)[1]

        return _refined(segment, queries, k, allowed, candidates)


@dataclass(frozen=True, kw_only=True)
class Hnsw:
    """A graph of near vectors, in 8 bits per value: searches visit few, but memory is large.

    effort: candidates kept during a search (faiss's efSearch; at least twice k). links: edges per
    vector, twice as many at the bottom layer. build_effort: faiss's efConstruction.

    faiss cannot remove vectors from a graph: a search passes through rows that are not allowed, and
    keeps more candidates the fewer are allowed.
    """

    effort: int = 256
    links: int = 32
    build_effort: int = 160

    def build(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """See Engine.build."""
        faiss = faiss_module()
        kind = f"HNSW{self.links},SQ8"
        index = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.build_effort
        index.train(vectors)
        return _stored(index, vectors)

    def search(
        self, segment: Segment, queries: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See Engine.search."""

        def candidates(faiss: Any, index: Any, share: float, sel: Any) -> np.ndarray:
            sight = min(len(segment), round(max(self.effort, 2 * k) / share))
            parameters = faiss.SearchParametersHNSW(efSearch=sight, sel=sel)
            return index.search(queries, min(2 * k, len(segment)), params=parameters)[1]

        return _refined(segment, queries, k, allowed, candidates)


@dataclass(frozen=True, kw_only=True)
class Ivf:
    """Vectors in lists by their nearest centre, in 8 bits per value; scans the nearest lists.

    effort: number of lists scanned (faiss's nprobe). lists: number of lists; None means four times
    the square root of the number of vectors.
    """

    effort: int = 32
    lists: int | None = None

    def build(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """See Engine.build."""
        faiss = faiss_module()
        rows = len(vectors)
        # faiss wants at least 39 vectors per list.
        lists = max(1, min(self.lists or round(4 * rows**0.5), rows // 39))
        kind = f"IVF{lists},SQ8"
        index = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        # A quarter of faiss's training vectors per list, and fewer than half of its iterations.
        index.cp.max_points_per_centroid, index.cp.niter = 64, 10
        index.cp.min_points_per_centroid = 1  # otherwise faiss warns about one list of few vectors
        index.train(vectors)
        return _stored(index, vectors)

    def search(
        self, segment: Segment, queries: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See Engine.search."""

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
    """Score candidates again with the kept vectors; search exactly where there are too few.

    candidates(faiss, index, share of allowed rows, selector or None) → rows i64[Q, n], -1 for no
    candidate.
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
    best, best_rows = top(np.where(rows < 0, -np.inf, scores), rows, k)
    too_few = (best > -np.inf).sum(axis=1) < min(k, count)
    if too_few.any():
        best[too_few], best_rows[too_few] = segment.nearest(
            queries[too_few], k, np.flatnonzero(allowed)
        )
    return best, best_rows
