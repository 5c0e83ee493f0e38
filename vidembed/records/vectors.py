"""Read files of vectors with their ids: Parquet (video_id, vector), or `X.npy` with `X.ids.txt`."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from etils import epath

from vidembed.files import local_path
from vidembed.records import tabular
from vidembed.records.columns import ids_of
from vidembed.records.vector_files import made_as, numpy_digest, written_to


class VectorsError(ValueError):
    """Vectors that cannot be read, or that lack the record of how they were made."""


FORMS = "what `python -m vidembed embed` wrote (OUT.parquet, OUT.npy, a table), or an index"
VECTORS = tabular.Kind(what="vectors", give=FORMS, refused=VectorsError)


def read_vector_file(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ids S[N] and vectors [N, D] as stored, from a Parquet or NumPy file of any origin.

    Does not check for repeated ids and NaN; the caller must. Raises VectorsError for another kind
    of file, a damaged file, and vectors of different lengths.
    """
    name = os.fspath(path)
    return _numpy(local_path(path)) if name.endswith(".npy") else _parquet(epath.Path(path))


def _parquet(path: epath.Path) -> tuple[np.ndarray, np.ndarray]:
    table = tabular.read_table(path, VECTORS, ["video_id", "vector"])
    ids = ids_of(path, table, "video_id", VECTORS)
    vectors = table["vector"].combine_chunks()
    kind = vectors.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (lists or pa.types.is_fixed_size_list(kind)) or not _is_number(kind.value_type):
        raise VectorsError(f"{path}: column vector is {kind}, but must hold lists of numbers")
    flat = vectors.flatten()
    if ids.null_count or vectors.null_count or flat.null_count:
        raise VectorsError(f"{path}: an id, a vector or a number in one is missing: leave it out")
    lengths = pc.list_value_length(vectors) if lists else [kind.list_size]
    widths = np.unique(np.asarray(lengths))
    if len(widths) > 1:
        raise VectorsError(
            f"{path}: vectors have {widths[0]} to {widths[-1]} numbers: give all of them the same "
            "length"
        )
    names = [name.encode() for name in ids.to_pylist()]
    width = int(widths[0]) if len(widths) else 0
    return np.array(names, "S"), flat.to_numpy(zero_copy_only=False).reshape(len(ids), width)


def _numpy(path: Path) -> tuple[np.ndarray, np.ndarray]:
    beside = Path(written_to(path)[1])
    missing = [str(place) for place in (path, beside) if not place.exists()]
    if missing:
        raise VectorsError(f"{path}: {', '.join(missing)} does not exist; give {FORMS}")
    with tabular.reading(epath.Path(path), VECTORS):
        try:
            vectors = np.load(path)
        except (ValueError, EOFError) as error:
            raise VectorsError(f"{path}: is truncated, or not a NumPy array: {error}") from error
    ids, record = beside.read_bytes(), made_as(path) or {}
    seen = xxhash.xxh3_128(np.ascontiguousarray(vectors).data)
    if record and (
        vectors.dtype != "<f4" or record.get("digest") != numpy_digest(seen, ids, record)
    ):
        raise VectorsError(
            f"{path}: it, its ids or its JSON have changed since they were written: embed again"
        )
    return np.array(ids.splitlines(), "S"), vectors


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
