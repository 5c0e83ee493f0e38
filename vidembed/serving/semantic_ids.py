"""Semantic IDs: a few numbers per video, the more of them in common the nearer the vectors.

Residual quantisation (Juang and Gray, 1982): the first code is the nearest centroid of a vector,
the next that of what is left of it, and so on. Generative retrieval reads such codes as the words
of an item (Rajput and others, NeurIPS 2023). Several videos may share all codes; a last number
tells them apart.
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
"""Of k-means at each level, at most."""
KIND = "codebooks of semantic IDs"
REMEDY = "restore it from a copy; IDs cannot be continued without the codebooks that made them"


class CodebookError(ValueError):
    """A file of codebooks that is damaged, or is something else."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Codebooks:
    """L codebooks, one per level, for vectors f32[N, D] of one space."""

    books: tuple[np.ndarray, ...]
    """Of each level f32[K, D]; K may differ."""
    space: str
    """What made the vectors."""
    seed: int
    """That they were fitted with."""

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
        """Codebooks of these sizes, each by k-means of what the levels before leave of the vectors.

        mesh: of all devices if None; any number gives equally good ones (`kmeans`). Its devices
        hold all vectors, 4 bytes a value. on_iteration: told how many of all iterations are done;
        a level may need fewer. Raises ValueError for vectors that are not finite, and for a size
        below 1 or above their number.
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
                    on_iteration=partial(_later, on_iteration, level * iterations),
                )
                books.append(book)
                rows, _ = _coded(rows, books[-1])
        return cls(books=tuple(books), space=space, seed=seed)

    @property
    def sizes(self) -> tuple[int, ...]:
        """K of each level."""
        return tuple(map(len, self.books))

    @property
    def digest(self) -> str:
        """Of the numbers and the space."""
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
        """Codes i32[N, L] of vectors f32[N, D]: at each level the nearest centroid, of equal ones
        the first. space: of the vectors; SpaceError if it is not that of the codebooks."""
        if space is not None and space != self.space:
            raise SpaceError(
                f"the vectors are of the space {space!r}, the codebooks of {self.space!r}: codes "
                "of one say nothing of the other; embed with the model that the codebooks were "
                "made with, or make new IDs for all videos"
            )
        vectors = given.finite(vectors, "vectors", width=self.books[0].shape[1])
        mesh = mesh or meshes.make_mesh(meshes.MeshShape())
        # Few sizes, so that few programs are compiled.
        block = min(BLOCK_ROWS, 1 << max(len(vectors) - 1, 0).bit_length())
        codes = np.zeros((len(vectors), len(self.books)), np.int32)
        with jax.set_mesh(mesh):
            for start in range(0, len(vectors), block):
                some = vectors[start : start + block]
                padded = np.pad(some, [(0, block - len(some)), (0, 0)])
                rows = meshes.place_rows(mesh, padded)
                for level, book in enumerate(self.books):
                    rows, found = _coded(rows, book)
                    codes[start : start + block, level] = np.asarray(found)[: len(some)]
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """What codes i[N, l] stand for, f32[N, D]; l < L are the first levels alone."""
        codes = np.asarray(codes)
        if codes.ndim != 2 or not 1 <= codes.shape[1] <= len(self.books):
            raise ValueError(f"codes must be [N, 1 to {len(self.books)}], got {list(codes.shape)}")
        if ((codes < 0) | (codes >= np.array(self.sizes)[None, : codes.shape[1]])).any():
            raise ValueError(f"codes must be from 0 to below the sizes, {list(self.sizes)}")
        return np.sum([book[code] for book, code in zip(self.books, codes.T)], axis=0)

    def quality(self, vectors: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
        """How well codes i32[N, L] stand for vectors f32[N, D], N ≥ 1.

        levels: of each `lost`, the share of the variance that its prefix does not reconstruct;
        `used`, how many of its codes occur; `perplexity`, 2 to the power of their entropy in bits;
        `prefixes`, how many different ones there are. unique: the share of the vectors that share
        their codes with no other. collisions: how many do. largest: of those that share all codes.
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
        """Write them to a file, whole or not at all, for `open`."""
        arrays = {f"book {level}": book for level, book in enumerate(self.books, 1)}
        write_blocks(path, {"kind": KIND, "space": self.space, "seed": self.seed}, arrays)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Codebooks":
        """What `save` wrote, every byte verified; CodebookError for anything else."""
        try:
            blocks = Blocks(path)
            if blocks.header.get("kind") != KIND:
                raise CodebookError(f"{path} holds no codebooks of semantic IDs: {REMEDY}")
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
    """A number i32[N] for each video that no other of the same codes i[N, L] has: 0, 1 and so on in
    the order of their ids S[N], by bytes.

    before: codes i[M, L] and numbers i[M] of other videos, which keep theirs; the count goes on
    after the largest number of each code.
    """
    old, given_out = before or (codes[:0], np.zeros(0, np.int32))
    group = np.unique(np.concatenate([old, codes]), axis=0, return_inverse=True)[1].reshape(-1)
    next_free = np.zeros(len(group), np.int64)
    np.maximum.at(next_free, group[: len(old)], given_out + 1)
    own = group[len(old) :]
    order = np.lexsort((ids, own))
    first = np.searchsorted(own[order], own[order])
    numbers = np.empty(len(ids), np.int32)
    numbers[order] = next_free[own[order]] + np.arange(len(ids)) - first
    return numbers


def _squares(of: np.ndarray) -> float:
    return float(np.square(of).sum(dtype=np.float64))


def _later(tell: Callable[[int], Any], before: int, done: int) -> None:
    tell(before + done)


@jax.jit
def _coded(rows: jax.Array, book: jax.Array) -> Any:
    """What a level leaves of rows f32[N@all devices, D], laid out alike, and their codes i32[N]."""

    def on_one_device(part: jax.Array, book: jax.Array) -> tuple[jax.Array, jax.Array]:
        code, _ = nearest(part, book)
        return part - jnp.take(book, code, axis=0, mode="clip"), code

    split, whole = meshes.everywhere_spec(0), meshes.batch_spec(None)
    return meshes.on_devices(on_one_device, (split, whole), (split, split))(rows, book)
