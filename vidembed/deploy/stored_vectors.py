"""Read vectors from disk: from any format that `embed` writes, or from an index."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from vidembed.records.rows import float_rows
from vidembed.records.table import FeatureTable
from vidembed.records.table_folder import table_state
from vidembed.records.vector_files import MAKER, made_as, written_to
from vidembed.records.vectors import FORMS, VectorsError, read_vector_file
from vidembed.serving import given
from vidembed.serving.index import Index


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredVectors:
    """N vectors in one space, with unique ids."""

    ids: np.ndarray
    """S[N]"""
    vectors: np.ndarray
    """f32[N, D], finite."""
    space: str

    @property
    def digest(self) -> str:
        """Digest of ids, vectors and space."""
        digest = xxhash.xxh3_128(f"{self.space} {self.ids.dtype} {self.vectors.shape}".encode())
        digest.update(np.ascontiguousarray(self.ids).data)
        digest.update(np.ascontiguousarray(self.vectors).data)
        return digest.hexdigest()


def read_vectors(path: str | os.PathLike[str]) -> StoredVectors:
    """Read all vectors at a path into memory.

    Raises VectorsError if the path does not hold vectors, holds zero vectors, or does not name
    their space; ValueError for repeated ids and for values that are not finite; and whatever
    reading a table or an index raises.
    """
    name = os.fspath(path)
    if name.endswith((".parquet", ".npy")):
        missing = [place for place in map(Path, written_to(path)) if not place.exists()]
        if name.endswith(".npy") and missing:
            raise VectorsError(f"{path}: {missing[0]} does not exist; give {FORMS}")
        ids, vectors = read_vector_file(path)
    elif table_state(path) == "finished":
        return _table(name)
    elif os.path.isdir(path):
        index = Index.open(path)
        ids = index.ids
        return _checked(name, ids, index.vectors_of(ids)[0], index.space)
    else:
        raise VectorsError(f"{name} does not hold vectors; give {FORMS}")
    return _checked(name, ids, vectors, (made_as(path) or {}).get("space"))


def _table(name: str) -> StoredVectors:
    table = FeatureTable.open(name)
    if len(table.features) != 1:
        raise VectorsError(
            f"{name} is a table of {', '.join(table.features)}: give one with a single modality, "
            "as written by `python -m vidembed embed`"
        )
    [modality] = table.features
    return _checked(name, table.ids, float_rows(table, modality), table.space[modality])


def _checked(name: str, ids: np.ndarray, vectors: Any, space: str | None) -> StoredVectors:
    if not space:
        raise VectorsError(
            f"{name} does not name the space of its vectors, as files written by `{MAKER}` do; "
            f"give {FORMS}"
        )
    ids = given.unique_names(ids)
    vectors = given.finite(vectors, f"vectors of {name}", width=None, ids=ids)
    if not len(ids):
        raise VectorsError(f"{name} holds no vectors at all")
    return StoredVectors(ids=ids, vectors=vectors, space=space)
