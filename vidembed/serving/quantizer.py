"""Vectors in few bits: each coordinate becomes one of 2^k levels, packed into bytes.

The quantiser of CDML's serving side (KDD 2018, section 4.2): 256 dimensions of 4 bits are 128
bytes. Where products of packed vectors are wanted, each byte is looked up in a table.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xxhash
from jax import lax
from numpy.typing import DTypeLike

from vidembed.serving.lloyd_max import lloyd_max

BITS = (1, 2, 4, 8)
BLOCK_ROWS = 1 << 15
_HEAD = struct.Struct("<8sIII")
_MAGIC = b"vidquan1"


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantizer:
    """A codebook of scalars, for all dimensions or one for each.

    Codes have the layout of faiss's product quantiser of one dimension a part: the bits of
    dimension 0 are the lowest of byte 0. Dimensions that leave the last byte unfilled are followed
    by zeros.
    """

    levels: np.ndarray
    """f32[1 or D, 2^bits], ascending."""
    dimensions: int
    """D."""

    def __post_init__(self) -> None:
        levels = np.asarray(self.levels, np.float32)
        object.__setattr__(self, "levels", levels)
        books, sizes = (1, self.dimensions), [1 << bits for bits in BITS]
        if levels.ndim != 2 or len(levels) not in books or levels.shape[1] not in sizes:
            raise ValueError(
                f"levels must be [1 or {self.dimensions}, one of {sizes}], found "
                f"{list(levels.shape)}"
            )
        if not np.isfinite(levels).all() or (np.diff(levels) < 0).any():
            raise ValueError("levels must be finite and ascend within each codebook")

    @classmethod
    def fit(
        cls,
        vectors: np.ndarray,
        *,
        bits: int,
        shared: bool = True,
        mesh: jax.sharding.Mesh | None = None,
    ) -> "Quantizer":
        """The quantiser of least mean squared error for vectors f32[N, D] (`lloyd_max`), on the
        mesh, of all devices if None. Raises ValueError for other bits than `BITS`, for no vectors,
        and for values that are not finite."""
        if bits not in BITS:
            raise ValueError(f"{bits} bits a dimension: choose one of {BITS}")
        _check(vectors)
        if not len(vectors):
            raise ValueError("a quantiser cannot be fitted to no vectors at all")
        levels = lloyd_max(vectors, 1 << bits, shared=shared, mesh=mesh)
        return cls(levels=levels, dimensions=vectors.shape[1])

    @property
    def bits(self) -> int:
        """Of a dimension."""
        return self.levels.shape[1].bit_length() - 1

    @property
    def shared(self) -> bool:
        """Whether one codebook serves all dimensions."""
        return len(self.levels) == 1

    @property
    def bytes_per_vector(self) -> int:
        """Of a code."""
        return -(-self.dimensions * self.bits // 8)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """The nearest level of each coordinate, packed: f32[N, D] → u8[N, bytes].

        Half-way between two levels the lower one. Raises ValueError for another width, and for
        values that are not finite.
        """
        self._of_width(vectors, self.dimensions, "vectors")
        _check(vectors)
        return _in_blocks(partial(_encode, jnp.asarray(self.levels)), vectors, np.float32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The levels that codes u8[N, bytes] stand for: f32[N, D]."""
        self._of_width(codes, self.bytes_per_vector, "codes")
        numbers = _numbers(codes, self.bits)[:, : self.dimensions]
        if self.shared:
            return self.levels[0][numbers]
        return self.levels[np.arange(self.dimensions), numbers]

    def scores(self, queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Dot products of queries f32[Q, D], not quantised, with the vectors of codes u8[N, bytes]:
        f32[Q, N].

        A query makes a table of 256 entries for each byte of a code, the products with all that the
        byte may stand for; a score is the sum of what a code's bytes find there. For the paper's
        product of two codes, ask with decoded queries. For unit vectors divide by `lengths`.
        """
        self._of_width(queries, self.dimensions, "queries")
        self._of_width(codes, self.bytes_per_vector, "codes")
        tables = self._tables(np.asarray(queries, np.float32), self.levels)
        found = _in_blocks(partial(_look_up, tables), codes, np.uint8)
        return np.ascontiguousarray(found.T)

    def lengths(self, codes: np.ndarray) -> np.ndarray:
        """Euclidean lengths of what codes u8[N, bytes] stand for, f32[N], by lookup as well.

        A code of a unit vector has no unit length. Where all vectors share a direction, as those of
        a trained network do, errors of length outweigh what tells neighbours apart: scores that are
        not divided by it lose several times as much.
        """
        self._of_width(codes, self.bytes_per_vector, "codes")
        tables = self._tables(np.ones((1, self.dimensions), np.float32), np.square(self.levels))
        return np.sqrt(_in_blocks(partial(_look_up, tables), codes, np.uint8)[:, 0])

    def _tables(self, queries: np.ndarray, of: np.ndarray) -> jax.Array:
        """Queries times what each byte stands for, f32[bytes, 256, Q]; of: f32[1 or D, 2^bits]."""
        per_byte, bits = 8 // self.bits, self.bits
        wide = np.zeros((len(queries), self.bytes_per_vector * per_byte), np.float32)
        wide[:, : self.dimensions] = queries
        parts = wide.T.reshape(-1, per_byte, 1, len(queries))
        numbers = _numbers(np.arange(256, dtype=np.uint8)[:, None], bits).T
        levels = np.zeros((wide.shape[1], 1 << bits), np.float32)
        levels[: self.dimensions] = of
        values = levels.reshape(-1, per_byte, 1 << bits)
        each = [values[:, i, numbers[i], None] * parts[:, i] for i in range(per_byte)]
        return jnp.asarray(sum(each))

    def to_bytes(self) -> bytes:
        """For `from_bytes`: sizes and levels, with a digest."""
        head = _HEAD.pack(_MAGIC, self.dimensions, *self.levels.shape)
        data = head + self.levels.astype("<f4").tobytes()
        return data + xxhash.xxh3_64_digest(data)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Quantizer":
        """What `to_bytes` made; ValueError for anything else, cut and flipped bytes included."""
        body, digest = data[:-8], data[-8:]
        if body[:8] != _MAGIC or len(body) < _HEAD.size or xxhash.xxh3_64_digest(body) != digest:
            raise ValueError(
                f"these {len(data):,} bytes are no quantiser, or a damaged one: restore the file "
                "from a copy, or fit the quantiser anew"
            )
        _, dimensions, *shape = _HEAD.unpack_from(body)
        levels = np.frombuffer(body, "<f4", offset=_HEAD.size).reshape(shape)
        return cls(levels=levels, dimensions=dimensions)

    def _of_width(self, rows: np.ndarray, width: int, name: str) -> None:
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(
                f"{name} of this quantiser ({self.dimensions} dimensions of {self.bits} bits) are "
                f"[N, {width}], found {list(rows.shape)}"
            )


def _check(vectors: np.ndarray) -> None:
    if vectors.ndim != 2:
        raise ValueError(f"vectors must be [N, D], found {list(vectors.shape)}")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(vectors)} vectors have values that are not finite (rows "
            f"{', '.join(map(str, bad[:10]))}): they have no code; leave them out"
        )


def _numbers(codes: np.ndarray, bits: int) -> np.ndarray:
    """What is packed in each byte, lowest bits first: u8[N, bytes] → u8[N, bytes · 8 / bits]."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return (codes[:, :, None] >> shifts & (1 << bits) - 1).reshape(len(codes), -1)


@jax.jit
def _encode(levels: jax.Array, rows: jax.Array) -> jax.Array:
    size = levels.shape[1]
    bits, per_byte = size.bit_length() - 1, 8 // (size.bit_length() - 1)
    borders = (levels[:, 1:] + levels[:, :-1]) / 2
    numbers = _below(borders, rows) if size <= 16 else _bisect(borders, rows)
    numbers = jnp.pad(numbers, [(0, 0), (0, -rows.shape[1] % per_byte)])
    parts = numbers.reshape(len(rows), -1, per_byte)
    shifts = jnp.arange(0, 8, bits, dtype=jnp.uint8)[None, None]
    return jnp.sum(parts << shifts, axis=2, dtype=jnp.uint8)


def _below(borders: jax.Array, rows: jax.Array) -> jax.Array:
    """How many of the borders lie below each value, u8[N, D]: all are compared with."""
    found = jnp.zeros(rows.shape, jnp.uint8)
    for column in range(borders.shape[1]):
        found += (rows > borders[None, :, column]).astype(jnp.uint8)
    return found


def _bisect(borders: jax.Array, rows: jax.Array) -> jax.Array:
    """The same with one comparison for each bit of the answer."""
    books, size = borders.shape
    flat = borders.reshape(-1)
    first = size * jnp.arange(books, dtype=jnp.int32)[None]
    found, step = jnp.zeros(rows.shape, jnp.int32), (size + 1) // 2
    while step:
        found += jnp.where(rows > flat[first + found + step - 1], step, 0)
        step //= 2
    return found.astype(jnp.uint8)


@jax.jit
def _look_up(tables: jax.Array, codes: jax.Array) -> jax.Array:
    """f32[bytes, 256, Q] at u8[N, bytes] → f32[N, Q]."""

    def add(scores: jax.Array, of: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        table, byte = of
        return scores + jnp.take(table, byte.astype(jnp.int32), axis=0, mode="clip"), None

    nothing = jnp.zeros((len(codes), tables.shape[2]), jnp.float32)
    return lax.scan(add, nothing, (tables, codes.T))[0]


def _in_blocks(
    work: Callable[[np.ndarray], jax.Array], rows: np.ndarray, dtype: DTypeLike
) -> np.ndarray:
    """`work` of at most BLOCK_ROWS rows at a time, joined; the last block is padded, so that one
    compiled function serves all."""
    block = max(1, min(BLOCK_ROWS, len(rows)))
    done = []
    for start in range(0, max(1, len(rows)), block):
        some = np.asarray(rows[start : start + block], dtype)
        padded = np.pad(some, [(0, block - len(some)), (0, 0)])
        done.append(np.asarray(work(padded))[: len(some)])
    return np.concatenate(done)
