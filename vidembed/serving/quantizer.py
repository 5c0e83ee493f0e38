"""Quantise vectors: each coordinate becomes one of 2^k levels, packed into bytes.

The quantiser of CDML's serving side (KDD 2018, section 4.2): 256 dimensions of 4 bits take 128
bytes. Products of packed vectors are computed by table lookup of each byte.
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
    """A scalar codebook for all dimensions, or one for each.

    Codes have the layout of faiss's product quantiser with one dimension per part: the bits of
    dimension 0 are the lowest of byte 0. The last byte is filled with zeros.
    """

    levels: np.ndarray
    """f32[1 or D, 2^bits], ascending."""
    dimensions: int
    """D, the dimension of the vectors."""

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
        """Fit the quantiser with the least mean squared error for vectors f32[N, D] (`lloyd_max`).

        mesh: None means all devices. Raises ValueError for bits not in `BITS`, for no vectors, and
        for values that are not finite.
        """
        if bits not in BITS:
            raise ValueError(f"{bits} bits per dimension: choose one of {BITS}")
        _check(vectors)
        if not len(vectors):
            raise ValueError("no vectors to fit a quantiser to: give at least one")
        levels = lloyd_max(vectors, 1 << bits, shared=shared, mesh=mesh)
        return cls(levels=levels, dimensions=vectors.shape[1])

    @property
    def bits(self) -> int:
        """Bits per dimension."""
        return self.levels.shape[1].bit_length() - 1

    @property
    def shared(self) -> bool:
        """Whether one codebook serves all dimensions."""
        return len(self.levels) == 1

    @property
    def bytes_per_vector(self) -> int:
        """Bytes per code."""
        return -(-self.dimensions * self.bits // 8)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Pack the nearest level of each coordinate: f32[N, D] → u8[N, bytes].

        Ties go to the lower level. Raises ValueError for another width, and for values that are
        not finite.
        """
        self._of_width(vectors, self.dimensions, "vectors")
        _check(vectors)
        return _in_blocks(partial(_encode, jnp.asarray(self.levels)), vectors, np.float32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Unpack codes u8[N, bytes] to their levels, f32[N, D]."""
        self._of_width(codes, self.bytes_per_vector, "codes")
        numbers = _numbers(codes, self.bits)[:, : self.dimensions]
        if self.shared:
            return self.levels[0][numbers]
        return self.levels[np.arange(self.dimensions), numbers]

    def scores(self, queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Dot products f32[Q, N] of unquantised queries f32[Q, D] with codes u8[N, bytes].

        Each query has a table of 256 products for each byte of a code, one per byte value; a score
        is the sum of the entries for a code's bytes. For the paper's product of two codes, pass
        decoded queries. For unit vectors divide by `lengths`.
        """
        self._of_width(queries, self.dimensions, "queries")
        self._of_width(codes, self.bytes_per_vector, "codes")
        tables = self._tables(np.asarray(queries, np.float32), self.levels)
        scores = _in_blocks(partial(_look_up, tables), codes, np.uint8)
        return np.ascontiguousarray(scores.T)

    def lengths(self, codes: np.ndarray) -> np.ndarray:
        """Euclidean lengths f32[N] of the vectors of codes u8[N, bytes], also by lookup.

        The code of a unit vector does not have unit length. If all vectors share a direction, as
        those of a trained network do, errors in length outweigh the differences between neighbours:
        scores not divided by the length lose several times as much.
        """
        self._of_width(codes, self.bytes_per_vector, "codes")
        tables = self._tables(np.ones((1, self.dimensions), np.float32), np.square(self.levels))
        return np.sqrt(_in_blocks(partial(_look_up, tables), codes, np.uint8)[:, 0])

    def _tables(self, queries: np.ndarray, levels: np.ndarray) -> jax.Array:
        """Products f32[bytes, 256, Q] of queries and levels f32[1 or D, 2^bits], per byte value."""
        per_byte, bits = 8 // self.bits, self.bits
        wide = np.zeros((len(queries), self.bytes_per_vector * per_byte), np.float32)
        wide[:, : self.dimensions] = queries
        parts = wide.T.reshape(-1, per_byte, 1, len(queries))
        numbers = _numbers(np.arange(256, dtype=np.uint8)[:, None], bits).T
        padded = np.zeros((wide.shape[1], 1 << bits), np.float32)
        padded[: self.dimensions] = levels
        values = padded.reshape(-1, per_byte, 1 << bits)
        terms = [values[:, i, numbers[i], None] * parts[:, i] for i in range(per_byte)]
        return jnp.asarray(sum(terms))

    def to_bytes(self) -> bytes:
        """Serialise sizes and levels, with a digest, for `from_bytes`."""
        head = _HEAD.pack(_MAGIC, self.dimensions, *self.levels.shape)
        data = head + self.levels.astype("<f4").tobytes()
        return data + xxhash.xxh3_64_digest(data)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Quantizer":
        """Restore the result of `to_bytes`; raises ValueError for other or damaged bytes."""
        body, digest = data[:-8], data[-8:]
        if body[:8] != _MAGIC or len(body) < _HEAD.size or xxhash.xxh3_64_digest(body) != digest:
            raise ValueError(
                f"these {len(data):,} bytes are no quantiser, or are damaged: restore the "
                "file from a copy, or fit the quantiser again"
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
    not_finite = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(not_finite):
        raise ValueError(
            f"{len(not_finite)} of {len(vectors)} vectors have values that are not finite (rows "
            f"{', '.join(map(str, not_finite[:10]))}): they have no code; leave them out"
        )


def _numbers(codes: np.ndarray, bits: int) -> np.ndarray:
    """Unpack each byte, lowest bits first: u8[N, bytes] → u8[N, bytes · 8 / bits]."""
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
    """The number of borders below each value, u8[N, D], by comparing with all."""
    count = jnp.zeros(rows.shape, jnp.uint8)
    for column in range(borders.shape[1]):
        count += (rows > borders[None, :, column]).astype(jnp.uint8)
    return count


def _bisect(borders: jax.Array, rows: jax.Array) -> jax.Array:
    """The same with one comparison per bit of the result."""
    books, size = borders.shape
    flat = borders.reshape(-1)
    first = size * jnp.arange(books, dtype=jnp.int32)[None]
    count, step = jnp.zeros(rows.shape, jnp.int32), (size + 1) // 2
    while step:
        count += jnp.where(rows > flat[first + count + step - 1], step, 0)
        step //= 2
    return count.astype(jnp.uint8)


@jax.jit
def _look_up(tables: jax.Array, codes: jax.Array) -> jax.Array:
    """Sum table entries: tables f32[bytes, 256, Q], codes u8[N, bytes] → f32[N, Q]."""

    def add(
        scores: jax.Array, table_and_byte: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, None]:
        table, byte = table_and_byte
        return scores + jnp.take(table, byte.astype(jnp.int32), axis=0, mode="clip"), None

    zeros = jnp.zeros((len(codes), tables.shape[2]), jnp.float32)
    return lax.scan(add, zeros, (tables, codes.T))[0]


def _in_blocks(
    work: Callable[[np.ndarray], jax.Array], rows: np.ndarray, dtype: DTypeLike
) -> np.ndarray:
    """Apply `work` to at most BLOCK_ROWS rows at a time and join the results. The last block is
    padded, so that one compiled function is enough."""
    block = max(1, min(BLOCK_ROWS, len(rows)))
    results = []
    for start in range(0, max(1, len(rows)), block):
        part = np.asarray(rows[start : start + block], dtype)
        padded = np.pad(part, [(0, block - len(part)), (0, 0)])
        results.append(np.asarray(work(padded))[: len(part)])
    return np.concatenate(results)
