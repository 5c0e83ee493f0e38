"""Semantic IDs: a few codes per video; videos with near vectors share more of the first codes.

Residual quantisation (Juang and Gray, 1982): the first code is the nearest centroid of a vector,
the next the nearest centroid of the residual, and so on. Generative retrieval reads such codes as
the words of an item (Rajput and others, NeurIPS 2023). If several videos share all codes, a final
number distinguishes them.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xxhash

from vidembed.distributed import mesh as meshes
from vidembed.records.space import SpaceError
from vidembed.serving import given
from vidembed.serving.blocks import Blocks, DamagedIndexError, write_blocks
from vidembed.serving.kmeans import kmeans, nearest

BLOCK_ROWS = 1 << 16
ITERATIONS = 25
"""Maximum k-means iterations per level."""
KIND = "codebooks of semantic IDs"
REMEDY = "restore it from a copy; IDs cannot be continued without the codebooks that made them"


class CodebookError(ValueError):
    """A file of codebooks that is damaged, or of another kind."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Codebooks:
    """L codebooks, one per level, for vectors f32[N, D] of one space."""

    books: tuple[np.ndarray, ...]
    """One f32[K, D] per level; K may differ."""
    space: str
    """The space of the vectors: the model that made them."""
    seed: int
    """The seed they were fitted with."""

    @classmethod
    def fit(
        cls,
        vectors: np.ndarray,
        sizes: Sequence[int],
        *,
        space: str,
        seed: int = 0,
        iterations: int = ITERATIONS,
        mesh: jax.sharding.Mesh | None = None,
        on_iteration: Callable[[int], Any] = lambda done: None,
    ) -> "Codebooks":
        """Fit codebooks of these sizes, each by k-means of the residuals of the earlier levels.

        mesh: None means all devices; any number gives equally good codebooks (`kmeans`). The
        devices hold all vectors, 4 bytes per value. on_iteration: called with the number of
        finished iterations over all levels; a level may need fewer. Raises ValueError for vectors
        that are not finite, and for a size below 1 or above their number.
        """
        vectors = given.finite(vectors, "vectors", width=None)
        if not sizes or min(sizes) < 1 or max(sizes) > len(vectors):
            raise ValueError(
                f"sizes are {list(sizes)} for {len(vectors):,} vectors: give one size per level, "
                "from 1 to the number of vectors"
            )
        if iterations < 1:
            raise ValueError(f"iterations is {iterations}: k-means needs 1 or more")
        mesh, books = mesh or meshes.make_mesh(meshes.MeshShape()), []
        with jax.set_mesh(mesh):
            rows = meshes.place_rows(mesh, vectors)
            for level, size in enumerate(sizes):
                book = kmeans(
                    rows,
                    len(vectors),
                    size,
                    seed=(seed, level),
                    iterations=iterations,
                    on_iteration=partial(_report_total, on_iteration, level * iterations),
                )
                books.append(book)
                rows, _ = _coded(rows, books[-1])
        return cls(books=tuple(books), space=space, seed=seed)

    @property
    def sizes(self) -> tuple[int, ...]:
        """K per level."""
        return tuple(map(len, self.books))

    @property
    def digest(self) -> str:
        """Digest of the codebooks and the space."""
        digest = xxhash.xxh3_128(f"{self.space}\n{[book.shape for book in self.books]}".encode())
        for book in self.books:
            digest.update(np.ascontiguousarray(book, "<f4").data)
        return digest.hexdigest()

    def encode(
        self,
        vectors: np.ndarray,
        *,
        space: str | None = None,
        mesh: jax.sharding.Mesh | None = None,
    ) -> np.ndarray:
        """Codes i32[N, L] of vectors f32[N, D]: the nearest centroid at each level, ties to the
        first. space: of the vectors; SpaceError if it differs from that of the codebooks."""
        if space is not None and space != self.space:
            raise SpaceError(
                f"the vectors are of the space {space!r}, the codebooks of {self.space!r}: their "
                "codes cannot be compared; embed with the model that the codebooks were made with, "
                "or make new IDs for all videos"
            )
        vectors = given.finite(vectors, "vectors", width=self.books[0].shape[1])
        mesh = mesh or meshes.make_mesh(meshes.MeshShape())
        # Use few sizes, so that few programs are compiled.
        block = min(BLOCK_ROWS, 1 << max(len(vectors) - 1, 0).bit_length())
        codes = np.zeros((len(vectors), len(self.books)), np.int32)
        with jax.set_mesh(mesh):
            for start in range(0, len(vectors), block):
                part = vectors[start : start + block]
                padded = np.pad(part, [(0, block - len(part)), (0, 0)])
                rows = meshes.place_rows(mesh, padded)
                for level, book in enumerate(self.books):
                    rows, level_codes = _coded(rows, book)
                    codes[start : start + block, level] = np.asarray(level_codes)[: len(part)]
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Reconstruct vectors f32[N, D] from codes i[N, l]; l < L uses only the first levels."""
        codes = np.asarray(codes)
        if codes.ndim != 2 or not 1 <= codes.shape[1] <= len(self.books):
            raise ValueError(f"codes must be [N, 1 to {len(self.books)}], got {list(codes.shape)}")
        if ((codes < 0) | (codes >= np.array(self.sizes)[None, : codes.shape[1]])).any():
            raise ValueError(f"codes must be 0 or more, and below the sizes {list(self.sizes)}")
        return np.sum([book[code] for book, code in zip(self.books, codes.T)], axis=0)

    def quality(self, vectors: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
        """How well codes i32[N, L] represent vectors f32[N, D], N ≥ 1.

        levels: for each, `lost`, the share of the variance that its prefix does not reconstruct;
        `used`, the number of its codes that occur; `perplexity`, 2 to the power of their entropy in
        bits; `prefixes`, the number of distinct prefixes. unique: the share of vectors whose codes
        no other vector has. collisions: the number of the others. largest: the size of the largest
        group with equal codes.
        """
        blocks = [slice(first, first + BLOCK_ROWS) for first in range(0, len(codes), BLOCK_ROWS)]
        mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        variance = sum(_squares(vectors[rows] - mean[None]) for rows in blocks)
        levels = []
        for level in range(1, codes.shape[1] + 1):
            prefix = codes[:, :level]
            left = sum(_squares(vectors[rows] - self.decode(prefix[rows])) for rows in blocks)
            shares = np.unique(codes[:, level - 1], return_counts=True)[1] / len(codes)
            counts = np.unique(prefix, axis=0, return_counts=True)[1]
            levels.append(
                {
                    "lost": left / variance if variance else 0.0,
                    "used": len(shares),
                    "perplexity": float(np.exp(-(shares * np.log(shares)).sum())),
                    "prefixes": len(counts),
                }
            )
        collisions = int(counts[counts > 1].sum())
        unique, largest = 1 - collisions / len(codes), int(counts.max())
        return {"levels": levels, "unique": unique, "collisions": collisions, "largest": largest}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the codebooks to a file, whole or not at all, for `open`."""
        arrays = {f"book {level}": book for level, book in enumerate(self.books, 1)}
        write_blocks(path, {"kind": KIND, "space": self.space, "seed": self.seed}, arrays)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Codebooks":
        """Read what `save` wrote, verifying every byte; raises CodebookError for other files."""
        try:
            blocks = Blocks(path)
            if blocks.header.get("kind") != KIND:
                raise CodebookError(f"{path} does not hold codebooks of semantic IDs: {REMEDY}")
            books = tuple(blocks.verified(name).copy() for name in blocks.names)
        except DamagedIndexError as error:
            raise CodebookError(f"{path} is damaged: {error.fault}; {REMEDY}") from error
        header = blocks.header
        return cls(books=books, space=str(header["space"]), seed=int(header["seed"]))


def numbered(
    codes: np.ndarray,
    ids: np.ndarray,
    before: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Number the videos with equal codes i[N, L]: i32[N], 0, 1 ... in byte order of their ids S[N].

    before: codes i[M, L] and numbers i[M] of other videos, which keep their numbers; counting
    continues after the largest number of each code.
    """
    old_codes, old_numbers = before or (codes[:0], np.zeros(0, np.int32))
    group = np.unique(np.concatenate([old_codes, codes]), axis=0, return_inverse=True)[1].reshape(
        -1
    )
    next_free = np.zeros(len(group), np.int64)
    np.maximum.at(next_free, group[: len(old_codes)], old_numbers + 1)
    new_group = group[len(old_codes) :]
    order = np.lexsort((ids, new_group))
    first = np.searchsorted(new_group[order], new_group[order])
    numbers = np.empty(len(ids), np.int32)
    numbers[order] = next_free[new_group[order]] + np.arange(len(ids)) - first
    return numbers


def _squares(array: np.ndarray) -> float:
    return float(np.square(array).sum(dtype=np.float64))


def _report_total(report: Callable[[int], Any], before: int, done: int) -> None:
    report(before + done)


@jax.jit
def _coded(rows: jax.Array, book: jax.Array) -> Any:
    """Residuals of rows f32[N@all devices, D] after one level, split alike, and codes i32[N]."""

    def on_one_device(part: jax.Array, book: jax.Array) -> tuple[jax.Array, jax.Array]:
        code, _ = nearest(part, book)
        return part - jnp.take(book, code, axis=0, mode="clip"), code

    split, whole = meshes.everywhere_spec(0), meshes.batch_spec(None)
    return meshes.on_devices(on_one_device, (split, whole), (split, split))(rows, book)
