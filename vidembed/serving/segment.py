"""A segment: ids, vectors and what an engine made of them, in one file that never changes."""

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
    """What finds the nearest rows of a segment. A frozen dataclass of what JSON holds."""

    @property
    def effort(self) -> int:
        """More of it finds more and takes longer; what it counts, each engine says."""

    def build(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays to store beside f32[N, D]; N is 1 or more."""

    def search(
        self, segment: "Segment", queries: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(scores f32[Q, k], rows i64[Q, k]) of the nearest of the allowed rows, best first.

        queries: f32[Q, D]; k: at most N; allowed: bool[N]. Where fewer were found the end of a line
        has score −inf, and its rows mean nothing. Scores are products with the vectors as kept.
        """


class Segment:
    """N vectors with ids. Read whole and verified: ids, order, the engine's arrays; the vectors are
    mapped, and verified where a search takes them all (`whole`), or by `verify`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.blocks = Blocks(path)
        self.name = self.blocks.path.name
        self._loaded: dict[str, Any] = {}

    def __len__(self) -> int:
        return int(self.blocks.header["rows"])

    @cached_property
    def ids(self) -> np.ndarray:
        """S[N]."""
        return self.blocks.verified("ids")

    @cached_property
    def vectors(self) -> Kept:
        """The vectors as kept, mapped, to take rows of."""
        names = self._vector_arrays
        return Kept({name: self.blocks.array(name, scattered=True) for name in names})

    def vectors_at(self, rows: np.ndarray) -> np.ndarray:
        """The vectors f32[n, D] of rows i64[n], verified: each costs reading a MiB, once."""
        names = self._vector_arrays
        return Kept({name: self.blocks.verified_rows(name, rows) for name in names})[rows]

    def whole(self) -> np.ndarray:
        """All vectors f32[N, D], verified."""
        return Kept({name: self.blocks.verified(name) for name in self._vector_arrays})[:]

    @property
    def _vector_arrays(self) -> list[str]:
        return [name for name in ("vectors", "steps") if name in self.blocks.names]

    def engine_array(self, name: str) -> np.ndarray:
        """One of the arrays that the engine built, verified."""
        return self.blocks.verified(f"engine {name}")

    @property
    def engine_bytes(self) -> int:
        """Bytes of what the engine built."""
        names = [name for name in self.blocks.names if name.startswith("engine ")]
        return sum(self.blocks.array(name).nbytes for name in names)

    def loaded(self, name: str, load: Callable[[], T]) -> T:
        """What an engine made of the segment for searching it, made once."""
        if name not in self._loaded:
            self._loaded[name] = load()
        return self._loaded[name]

    def forget(self, name: str) -> None:
        """Free what an engine loaded."""
        self._loaded.pop(name, None)

    def has_loaded(self, name: str) -> bool:
        """Whether an engine has loaded it."""
        return name in self._loaded

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Row i64[n] of each id S[n]; -1 where there is none."""
        if not len(self):
            return np.full(len(ids), -1)
        order = self.blocks.verified("order")
        # Searching with ids that are wider than these would copy all of these.
        width = self.ids.dtype.itemsize
        fits = np.char.str_len(ids) <= width
        names = np.where(fits, ids, b"").astype(f"S{width}")
        place = np.searchsorted(self.ids, names, sorter=order)
        rows = order[np.minimum(place, len(order) - 1)].astype(np.int64)
        return np.where(fits & (self.ids[rows] == names), rows, -1)

    def score(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Products f32[Q, n] of queries f32[Q, D] with rows i64[Q, n] of their own."""
        scores = np.empty(rows.shape, np.float32)
        at_once = max(1, GATHERED // max(1, rows.shape[1]))
        for start in range(0, len(queries), at_once):
            some = slice(start, start + at_once)
            near = self.vectors[rows[some].reshape(-1)].reshape(*rows[some].shape, -1)
            scores[some] = np.matmul(near, queries[some, :, None])[..., 0]
        return scores

    def nearest(
        self, queries: np.ndarray, k: int, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """As Engine.search, exactly, reading rows i64[n] alone: for few of them."""
        best = np.full((len(queries), k), -np.inf, np.float32)
        where = np.zeros((len(queries), k), np.int64)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            scores = np.concatenate([best, queries @ self.vectors[some].T], axis=1)
            at = np.concatenate([where, np.broadcast_to(some, (len(queries), len(some)))], axis=1)
            best, where = top(scores, at, k)
        return best, where


def top(scores: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of every line of scores f32[Q, n] and their rows i64[Q, n], best first; of equal
    scores the one that stands first."""
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
    """One file of ids S[N], vectors f32[N, D] kept as `kind`, and what the engine built.

    flat: whether it is searched exactly, as what was added is until the next merge.
    """
    number = np.int32 if len(ids) < 2**31 else np.int64
    arrays = {"ids": ids, "order": np.argsort(ids, kind="stable").astype(number)}
    arrays |= {f"engine {name}": array for name, array in built.items()}
    # Last, so that a search which refines reads a contiguous part of the file.
    arrays |= keep(vectors, kind)
    write_blocks(path, {"kind": "segment", "rows": len(ids), "flat": flat}, arrays)
