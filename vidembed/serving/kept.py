"""How an index keeps the vectors themselves: as they are, or in 8 bits a value.

They are what exact search, refinement and merging read. A search that needs few of them reads few:
the file is mapped.
"""

from collections.abc import Mapping

import numpy as np

KINDS = ("float32", "int8")
ROWS_AT_ONCE = 1 << 16


def keep(vectors: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    """The arrays to store of vectors f32[N, D]: 4 bytes a value, or 1 and 4 a vector.

    int8: each row has its own step, its largest magnitude over 127, so that keeping again what
    `Kept` returns changes nothing but rounding of the step.
    """
    if kind not in KINDS:
        raise ValueError(f"vectors are kept as {' or '.join(KINDS)}, not as {kind!r}")
    if kind == "float32":
        return {"vectors": np.ascontiguousarray(vectors, np.float32)}
    codes = np.empty(vectors.shape, np.int8)
    steps = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        some = np.asarray(vectors[start : start + ROWS_AT_ONCE], np.float32)
        step = np.abs(some).max(axis=1, initial=0) / np.float32(127)
        steps[start : start + ROWS_AT_ONCE] = step
        scaled = some / np.where(step > 0, step, 1)[:, None]
        codes[start : start + ROWS_AT_ONCE] = np.rint(scaled).astype(np.int8)
    return {"vectors": codes, "steps": steps}


class Kept:
    """Vectors of `keep`, taken by row as float32."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._values, self._steps = arrays["vectors"], arrays.get("steps")

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """f32[n, D] of a slice, or of rows i64[n] or bool[N]."""
        values = self._values[rows]
        if self._steps is None:
            return values
        return values.astype(np.float32) * self._steps[rows][..., None]
