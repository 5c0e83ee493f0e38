"""A segment: ids, vectors and the arrays of an engine, in one immutable file."""

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np

from vidembed.serving.blocks import Blocks, write_blocks
from vidembed.serving.kept import Kept, keep

T = TypeVar("T")
ROWS_AT_ONCE = 1 << 16
# Refinement gathers this many vectors at a time.
GATHERED = 1 << 15


class Engine(Protocol):
    """Finds the nearest rows of a segment. A frozen dataclass with JSON values as options."""

    @property
    def effort(self) -> int:
        """Higher effort finds more and takes longer; each engine documents its unit."""

    def build(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays to store beside vectors f32[N, D], N ≥ 1."""

    def search(
        self, segment: "Segment", queries: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest allowed rows, best first: (scores f32[Q, k], rows i64[Q, k]).

        queries: f32[Q, D]; k: at most N; allowed: bool[N]. If fewer were found, the remaining
        scores are −inf, and their rows are meaningless. Scores are products with the kept vectors.
        """


class Segment:
    """N vectors with ids. Ids, order and the engine's arrays are read as a whole and verified. The
    vectors are mapped, and verified if a search reads them all (`whole`), or by `verify`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.blocks = Blocks(path)
        self.name = self.blocks.path.name
        self._loaded: dict[str, Any] = {}

    def __len__(self) -> int:
        return int(self.blocks.header["rows"])

    @cached_property
    def ids(self) -> np.ndarray:
        """Ids of the rows, S[N]."""
        return self.blocks.verified("ids")

    @cached_property
    def vectors(self) -> Kept:
        """The kept vectors, mapped, for reading single rows."""
        names = self._vector_arrays
        return Kept({name: self.blocks.array(name, scattered=True) for name in names})

    def vectors_at(self, rows: np.ndarray) -> np.ndarray:
        """Verified vectors f32[n, D] of rows i64[n]; each reads one MiB, once."""
        names = self._vector_arrays
        return Kept({name: self.blocks.verified_rows(name, rows) for name in names})[rows]

    def whole(self) -> np.ndarray:
        """All vectors f32[N, D], verified."""
        return Kept({name: self.blocks.verified(name) for name in self._vector_arrays})[:]

    @property
    def _vector_arrays(self) -> list[str]:
        return [name for name in ("vectors", "steps") if name in self.blocks.names]

    def engine_array(self, name: str) -> np.ndarray:
        """A verified array that the engine built."""
        return self.blocks.verified(f"engine {name}")

    @property
    def engine_bytes(self) -> int:
        """Total bytes of the arrays that the engine built."""
        names = [name for name in self.blocks.names if name.startswith("engine ")]
        return sum(self.blocks.array(name).nbytes for name in names)

    def loaded(self, name: str, load: Callable[[], T]) -> T:
        """The result of `load`, which an engine needs for searching, computed once."""
        if name not in self._loaded:
            self._loaded[name] = load()
        return self._loaded[name]

    def forget(self, name: str) -> None:
        """Free the result of `load`."""
        self._loaded.pop(name, None)

    def has_loaded(self, name: str) -> bool:
        """Whether `load` has been called for this name."""
        return name in self._loaded

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Row i64[n] of each id S[n]; -1 if it is absent."""
        if not len(self):
            return np.full(len(ids), -1)
        order = self.blocks.verified("order")
        # Searching with wider ids would copy all stored ids.
        width = self.ids.dtype.itemsize
        fits = np.char.str_len(ids) <= width
        names = np.where(fits, ids, b"").astype(f"S{width}")
        place = np.searchsorted(self.ids, names, sorter=order)
        rows = order[np.minimum(place, len(order) - 1)].astype(np.int64)
        return np.where(fits & (self.ids[rows] == names), rows, -1)

    def score(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Products f32[Q, n] of each query f32[Q, D] with its rows i64[Q, n]."""
        scores = np.empty(rows.shape, np.float32)
        at_once = max(1, GATHERED // max(1, rows.shape[1]))
        for start in range(0, len(queries), at_once):
            part = slice(start, start + at_once)
            near = self.vectors[rows[part].reshape(-1)].reshape(*rows[part].shape, -1)
            scores[part] = np.matmul(near, queries[part, :, None])[..., 0]
        return scores

    def nearest(
        self, queries: np.ndarray, k: int, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See Engine.search; exact, for few rows i64[n], and reads only these."""
        best = np.full((len(queries), k), -np.inf, np.float32)
        best_rows = np.zeros((len(queries), k), np.int64)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            scores = np.concatenate([best, queries @ self.vectors[part].T], axis=1)
            all_rows = np.concatenate(
                [best_rows, np.broadcast_to(part, (len(queries), len(part)))], axis=1
            )
            best, best_rows = top(scores, all_rows, k)
        return best, best_rows


def top(scores: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of each line of scores f32[Q, n], and their rows i64[Q, n], best first; ties go to
    the earlier one."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def write_segment(
    path: str | os.PathLike[str],
    ids: np.ndarray,
    vectors: np.ndarray,
    built: Mapping[str, np.ndarray],
    *,
    kind: str,
    flat: bool,
) -> None:
    """Write one file of ids S[N], vectors f32[N, D] stored as `kind`, and the engine's arrays.

    flat: whether it is searched exactly, as added rows are until the next merge.
    """
    number = np.int32 if len(ids) < 2**31 else np.int64
    arrays = {"ids": ids, "order": np.argsort(ids, kind="stable").astype(number)}
    arrays |= {f"engine {name}": array for name, array in built.items()}
    # Vectors come last, so that refinement reads a contiguous part of the file.
    arrays |= keep(vectors, kind)
    write_blocks(path, {"kind": "segment", "rows": len(ids), "flat": flat}, arrays)
