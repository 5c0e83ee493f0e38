"""How an index stores the vectors themselves: as float32, or in 8 bits per value.

Exact search, refinement and merging read them. The file is mapped, so a search reads only the rows
it needs.
"""

from collections.abc import Mapping

import numpy as np

KINDS = ("float32", "int8")
ROWS_AT_ONCE = 1 << 16


def keep(vectors: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    """The arrays to store for vectors f32[N, D].

    kind: "float32", 4 bytes per value; or "int8", 1 byte per value and 4 per vector. For int8 each
    row has its own step, its largest magnitude / 127, so storing again what `Kept` returns only
    changes the rounding of the step.
    """
    if kind not in KINDS:
        raise ValueError(f"vectors are kept as {' or '.join(KINDS)}, not as {kind!r}")
    if kind == "float32":
        return {"vectors": np.ascontiguousarray(vectors, np.float32)}
    codes = np.empty(vectors.shape, np.int8)
    steps = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        rows = np.asarray(vectors[start : start + ROWS_AT_ONCE], np.float32)
        step = np.abs(rows).max(axis=1, initial=0) / np.float32(127)
        steps[start : start + ROWS_AT_ONCE] = step
        scaled = rows / np.where(step > 0, step, 1)[:, None]
        codes[start : start + ROWS_AT_ONCE] = np.rint(scaled).astype(np.int8)
    return {"vectors": codes, "steps": steps}


class Kept:
    """The vectors stored by `keep`, read by row as float32."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._values, self._steps = arrays["vectors"], arrays.get("steps")

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Vectors f32[n, D] of a slice, or of rows i64[n] or bool[N]."""
        values = self._values[rows]
        if self._steps is None:
            return values
        return values.astype(np.float32) * self._steps[rows][..., None]
