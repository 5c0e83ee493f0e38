"""Vectors from files, joined with the videos of a table by id."""

import os
from dataclasses import dataclass

import numpy as np

from vidembed.records.rows import float_rows
from vidembed.records.table import FeatureTable
from vidembed.records.table_folder import table_state
from vidembed.records.vectors import read_vector_file

NAMED = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedVectors:
    """Vectors of some rows of a table.

    rows: i64[n] of the table, distinct. vectors: [n, K] as stored, not checked for NaN. notes: ids
    left out, with their number.
    """

    rows: np.ndarray
    vectors: np.ndarray
    notes: tuple[str, ...] = ()


def join(path: str | os.PathLike[str], table: FeatureTable, *, what: str) -> JoinedVectors:
    """The vectors of a Parquet or NumPy file, or of a table with a single modality, joined by id.

    what: the plural noun for the vectors in messages. Ids that the table lacks are left out and
    counted. Raises VectorsError for other files, and ValueError for repeated ids.
    """
    name = os.fspath(path)
    if name.endswith((".parquet", ".npy")):
        ids, vectors = read_vector_file(path)
    elif table_state(path) == "finished":
        ids, vectors = _of_table(name)
    else:
        raise ValueError(
            f"{name} holds no vectors: give Parquet (video_id, vector), X.npy with X.ids.txt, or a "
            "table with one modality"
        )
    if vectors.ndim != 2 or not vectors.shape[1] or len(ids) != len(vectors):
        raise ValueError(
            f"{name}: {len(ids):,} ids for vectors of the shape {list(vectors.shape)}: give one "
            "vector [K] per id"
        )
    rows = table.find(ids)
    known = rows >= 0
    notes: tuple[str, ...] = ()
    if not known.all():
        notes = (
            f"{int((~known).sum()):,} of {len(ids):,} {what} have ids that the table lacks, such "
            f"as {some(ids[~known], 1)}: left out",
        )
    rows, vectors = rows[known], vectors[known]
    repeated, counts = np.unique(rows, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"{name}: {int((counts > 1).sum()):,} ids occur more than once, such as "
            f"{some(table.ids[repeated[counts > 1]])}: give each video one vector"
        )
    return JoinedVectors(rows=rows, vectors=vectors, notes=notes)


def refuse_not_finite(
    name: str, vectors: np.ndarray, rows: np.ndarray, table: FeatureTable, *, what: str
) -> None:
    """Raise ValueError, naming videos, for vectors [n, K] of rows i64[n] with NaN or infinity."""
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{name}: {int(bad.sum()):,} of {len(rows):,} {what} hold NaN or infinite numbers "
            f"({some(table.ids[rows[bad]])}): leave them out"
        )


def some(ids: np.ndarray, most: int = NAMED) -> str:
    """The first ids, for a message."""
    first = ", ".join(bytes(i).decode(errors="replace") for i in ids[:most])
    return f"{first} ..." if len(ids) > most > 1 else first


def _of_table(name: str) -> tuple[np.ndarray, np.ndarray]:
    table = FeatureTable.open(name)
    if len(table.features) != 1:
        raise ValueError(
            f"{name} is a table of {', '.join(table.features)}: give one with a single modality"
        )
    [modality] = table.features
    present = table.has(modality)
    return table.ids[present], float_rows(table, modality, present)
