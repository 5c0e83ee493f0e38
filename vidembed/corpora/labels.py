"""Sparse labels of videos: the classes that each video belongs to, and the names of the classes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xxhash


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """The classes of N videos, by row: row i has `values[offsets[i]:offsets[i + 1]]`.

    Class numbers are in 0..C-1, ascending and distinct within a row. A row may have none.
    """

    offsets: np.ndarray
    """i64[N + 1]"""
    values: np.ndarray
    """i32[L]"""
    names: tuple[str, ...]
    """The name of each class; their number is C."""

    def __post_init__(self) -> None:
        values, offsets = self.values, self.offsets
        if len(values) and not 0 <= values.min() <= values.max() < self.classes:
            raise ValueError(
                f"class numbers must lie in 0..{self.classes - 1}, found {values.min()} to "
                f"{values.max()}"
            )
        within = np.ones(max(len(values) - 1, 0), bool)
        starts = offsets[(offsets > 0) & (offsets < len(values))]
        within[starts - 1] = False
        if (np.diff(values)[within] <= 0).any():
            raise ValueError("the classes of a row must be ascending and distinct")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return len(self.names)

    @cached_property
    def per_row(self) -> np.ndarray:
        """i64[N]: the number of classes of each row."""
        return np.diff(self.offsets)

    def of(self, rows: np.ndarray) -> "Labels":
        """The labels of rows i64[n], in their order."""
        counts = self.per_row[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        places = np.repeat(self.offsets[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Labels(offsets=offsets, values=self.values[places], names=self.names)

    def padded(self, rows: np.ndarray, width: int) -> np.ndarray:
        """i32[n, width]: the classes of rows i64[n], padded with -1; further ones are cut off."""
        picked = self.of(rows)
        places = np.arange(width)
        filled = places < picked.per_row[:, None]
        table = np.full((len(rows), width), -1, np.int32)
        at = picked.offsets[:-1, None] + places
        table[filled] = picked.values[at[filled]]
        return table

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """i64[C]: the number of videos of each class among rows i64[n]."""
        return np.bincount(self.of(rows).values, minlength=self.classes)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of labels and names."""
        digest = xxhash.xxh3_128("\n".join(self.names).encode())
        for array in (self.offsets.astype(np.int64), self.values.astype(np.int32)):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()
