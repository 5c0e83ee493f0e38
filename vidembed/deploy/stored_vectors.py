"""Vectors on disk, read: what `embed` wrote in each of its forms, or an index."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from etils import epath

from vidembed.deploy.vector_files import MAKER, made_as, numpy_digest, written_to
from vidembed.files import local_path
from vidembed.records import tabular
from vidembed.records.bytecode import dequantise
from vidembed.records.table import FeatureTable
from vidembed.records.table_folder import table_state
from vidembed.serving import given
from vidembed.serving.index import Index


class VectorsError(ValueError):
    """Vectors that cannot be read, or do not say what made them."""


FORMS = "what `python -m vidembed embed` wrote (OUT.parquet, OUT.npy, a table), or an index"
VECTORS = tabular.Kind(what="vectors", give=FORMS, refused=VectorsError)


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredVectors:
    """N vectors of one space with their ids, which are unique."""

    ids: np.ndarray
    """S[N]"""
    vectors: np.ndarray
    """f32[N, D], finite."""
    space: str

    @property
    def digest(self) -> str:
        """Of ids, vectors and space."""
        digest = xxhash.xxh3_128(f"{self.space} {self.ids.dtype} {self.vectors.shape}".encode())
        digest.update(np.ascontiguousarray(self.ids).data)
        digest.update(np.ascontiguousarray(self.vectors).data)
        return digest.hexdigest()


def read_vectors(path: str | os.PathLike[str]) -> StoredVectors:
    """The vectors at a place, in memory.

    Raises VectorsError where there are none, for none at all, and where their space is not known;
    ValueError for ids that occur twice and for values that are not finite; what reading a table or
    an index raises.
    """
    name = os.fspath(path)
    if name.endswith(".parquet"):
        ids, vectors = _parquet(epath.Path(path))
    elif name.endswith(".npy"):
        ids, vectors = _numpy(local_path(path))
    elif table_state(path) == "finished":
        return _table(name)
    elif os.path.isdir(path):
        index = Index.open(path)
        ids = index.ids
        return _checked(name, ids, index.vectors_of(ids)[0], index.space)
    else:
        raise VectorsError(f"{name}: there are no vectors; give {FORMS}")
    return _checked(name, ids, vectors, (made_as(path) or {}).get("space"))


def _parquet(path: epath.Path) -> tuple[np.ndarray, np.ndarray]:
    table = tabular.read_table(path, VECTORS, ["video_id", "vector"])
    kind = table.schema.field("vector").type
    if not pa.types.is_fixed_size_list(kind) or table["vector"].null_count:
        raise VectorsError(f"{path}: column vector is {kind}, or has gaps; give {FORMS}")
    flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    ids = given.names(table["video_id"].to_pylist())
    return ids, flat.astype(np.float32).reshape(len(table), kind.list_size)


def _numpy(path: Path) -> tuple[np.ndarray, np.ndarray]:
    missing = [str(place) for place in written_to(path) if not Path(place).exists()]
    if missing:
        raise VectorsError(f"{path}: {', '.join(missing)} is not there; give {FORMS}")
    with tabular.reading(epath.Path(path), VECTORS):
        try:
            vectors = np.load(path)
        except (ValueError, EOFError) as error:
            raise VectorsError(f"{path}: is cut, or no NumPy array: {error}") from error
    ids, said = Path(written_to(path)[1]).read_bytes(), made_as(path) or {}
    seen = xxhash.xxh3_128(np.ascontiguousarray(vectors).data)
    if said and (vectors.dtype != "<f4" or said.get("digest") != numpy_digest(seen, ids, said)):
        raise VectorsError(
            f"{path}: it, its ids or its JSON are not as they were written: embed again"
        )
    return given.names(ids.split(b"\n")[:-1]), vectors


def _table(name: str) -> StoredVectors:
    table = FeatureTable.open(name)
    if len(table.features) != 1:
        raise VectorsError(
            f"{name} is a table of {', '.join(table.features)}: give one with a single modality, "
            "as `python -m vidembed embed` writes it"
        )
    [(modality, features)] = table.features.items()
    return _checked(name, table.ids, dequantise(features), table.space[modality])


def _checked(name: str, ids: np.ndarray, vectors: Any, space: str | None) -> StoredVectors:
    if not space:
        raise VectorsError(
            f"{name} does not say which space its vectors are of, as those of `{MAKER}` do: give "
            f"{FORMS}"
        )
    ids = given.unique_names(ids)
    vectors = given.finite(vectors, f"vectors of {name}", width=None, ids=ids)
    if not len(ids):
        raise VectorsError(f"{name} holds no vectors at all")
    return StoredVectors(ids=ids, vectors=vectors, space=space)
