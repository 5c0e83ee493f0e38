"""Write vectors incrementally as a feature table, with one modality or several."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from vidembed.records.table_files import arrays_beside_features
from vidembed.records.table_folder import TableWriter
from vidembed.records.table_lock import writing
from vidembed.records.youtube8m import offsets_of


class VectorTable:
    """A feature table to which rows are being added; its ids and labels are in memory."""

    def __init__(self, writer: TableWriter) -> None:
        self._writer = writer
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(
        self,
        ids: np.ndarray,
        arrays: Mapping[str, np.ndarray],
        *,
        lengths: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ) -> None:
        """Write n rows: ids S[n], modality → f32[n, D]; of each the next `lengths` i64[n] of the
        labels i32[L], if they have some."""
        self._writer.append({name: np.asarray(of, np.float32) for name, of in arrays.items()})
        lengths = np.zeros(len(ids), np.int64) if lengths is None else lengths
        labels = np.zeros(0, np.int32) if labels is None else labels
        self._parts.append((ids, lengths, labels))

    def finish(self) -> None:
        """Write the rest, after which it is a table."""
        ids, lengths, values = (np.concatenate(parts) for parts in zip(*self._parts))
        self._writer.finish(arrays_beside_features(ids, offsets_of(lengths), values, {}))


@contextmanager
def vector_table(
    path: str | os.PathLike[str],
    record: Mapping[str, Any],
    space: Mapping[str, str],
    *,
    replacing: bool = False,
) -> Iterator[VectorTable]:
    """Open a table for vectors; it appears only if the block succeeds.

    record: its source. space: modality → the name of its space. replacing: whether to replace an
    existing table, which stays until then.
    """
    with writing(path):
        writer = TableWriter(path, source=record, space=space, replace=replacing)
        try:
            table = VectorTable(writer)
            yield table
            table.finish()
        except BaseException:
            writer.abandon()
            raise
