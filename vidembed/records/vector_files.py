"""Write vectors incrementally, whole or not at all, as Parquet, NumPy, or a feature table.

The name decides: `OUT.parquet` (video_id, vector), `OUT.npy` with `OUT.ids.txt` (one id per line)
and `OUT.json`, else the folder of a feature table. Each records how its vectors were made, so that
the same command recognises them when it runs again.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from etils import epath

from vidembed import files
from vidembed.records.table import FeatureTable
from vidembed.records.table_folder import read_manifest, table_state
from vidembed.records.tabular import METADATA_KEY
from vidembed.records.vector_table import VectorTable, vector_table

MAKER = "vidembed embed"
OTHER_FORMS = (".csv", ".tsv", ".json", ".jsonl", ".npz", ".txt", ".tfrecord", ".h5", ".pkl")
"""File name endings that are refused: a folder with such a name is surely not intended."""


def check_form(path: str | os.PathLike[str]) -> None:
    """Raise ValueError for a name with the ending of an unsupported format."""
    ending = Path(path).suffix.lower()
    if ending in OTHER_FORMS:
        raise ValueError(
            f"{path}: vectors are written as .parquet, as .npy, or as the folder of a feature "
            f"table, not as {ending}"
        )


class VectorFile(Protocol):
    """An output to which vectors are being written."""

    def add(self, videos: FeatureTable, vectors: np.ndarray) -> None:
        """Write the next vectors f32[n, D], of these n videos."""


def written_to(path: str | os.PathLike[str]) -> list[str | Path]:
    """The paths that make up an output of vectors: one or several files, or a folder."""
    if not os.fspath(path).endswith(".npy"):
        return [os.fspath(path)]
    place = files.local_path(path)
    return [place, _beside(place, ".ids.txt"), _beside(place, ".json")]


def made_as(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The record of how the vectors at this path were made: {} for foreign files, None if there is
    nothing."""
    name = os.fspath(path)
    if not name.endswith((".parquet", ".npy")):
        if table_state(path) == "finished":
            return _ours(read_manifest(path)["source"])
        return None
    if name.endswith(".npy"):
        return _made_as_numpy(path)
    if not epath.Path(path).exists():
        return None
    try:
        metadata = pq.read_schema(files.local_path(path)).metadata or {}
        return _ours(json.loads(metadata.get(METADATA_KEY, b"{}")))
    except (pa.ArrowException, ValueError):
        return {}


def _made_as_numpy(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The record of a NumPy output. Without the array, files beside its path are leftovers of a
    killed process, or foreign."""
    place, *beside = map(Path, written_to(path))
    if not any(file.exists() for file in (place, *beside)):
        return None
    try:
        record = _ours(files.read_json(beside[-1]))
    except ValueError:
        record = {}
    return record if place.exists() or not record else None


@contextmanager
def vector_file(
    path: str | os.PathLike[str],
    size: int,
    made: Mapping[str, Any],
    *,
    modality: str,
    replacing: bool = False,
) -> Iterator[VectorFile]:
    """Open an output for vectors of `size` dimensions; it appears only if the block succeeds.

    made: the record of how they are made, with their `space`. modality: their name in a feature
    table. replacing: whether to replace an existing table, which stays until then; existing files
    are always replaced.
    """
    name, record = os.fspath(path), {"by": MAKER, **made}
    if name.endswith((".parquet", ".npy")):
        files.remove_unfinished(files.local_path(path).parent)
    if name.endswith(".parquet"):
        vectors = pa.list_(pa.float32(), size)
        schema = pa.schema([("video_id", pa.string()), ("vector", vectors)])
        schema = schema.with_metadata({METADATA_KEY: json.dumps(record).encode()})
        with (
            files.whole_file(files.local_path(path)) as unfinished,
            pq.ParquetWriter(unfinished, schema, write_page_checksum=True) as writer,
        ):
            yield _Parquet(writer, schema)
    elif name.endswith(".npy"):
        place = files.local_path(path)
        with files.whole_file(place) as unfinished:
            with open(unfinished, "wb") as file:
                array = _Numpy(file, size)
                yield array
                array.finish()
            place.unlink(missing_ok=True)  # otherwise it would be paired with new ids for a moment
            ids = "".join(f"{i}\n" for i in array.ids).encode()
            record |= {"digest": numpy_digest(array.digest, ids, record)}
            files.write_json(_beside(place, ".json"), record)  # first: it marks both files as ours
            files.write_bytes(_beside(place, ".ids.txt"), ids)
    else:
        space = {modality: str(made["space"])}
        with vector_table(path, record, space, replacing=replacing) as table:
            yield _Table(table, modality)


def numpy_digest(vectors: xxhash.xxh3_128, ids: bytes, record: Mapping[str, Any]) -> str:
    """The digest of all three files of `OUT.npy`.

    vectors: a digest already updated with the bytes of f32[N, D]. ids: the file of ids. record: the
    JSON file, of which `digest` is excluded.
    """
    rest = {name: value for name, value in record.items() if name != "digest"}
    vectors.update(json.dumps(rest, sort_keys=True).encode() + ids)
    return vectors.hexdigest()


class _Parquet:
    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer, self._schema = writer, schema

    def add(self, videos: FeatureTable, vectors: np.ndarray) -> None:
        flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
        rows = pa.FixedSizeListArray.from_arrays(flat, type=self._schema.field("vector").type)
        self._writer.write_table(pa.table([_text(videos.ids), rows], schema=self._schema))


class _Numpy:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self.ids: list[str] = []
        self.digest = xxhash.xxh3_128()
        self._file, self._size = file, size
        self._header()

    def _header(self) -> None:
        """Write the header, whose length does not depend on the number of rows: NumPy pads it."""
        shape = (len(self.ids), self._size)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def add(self, videos: FeatureTable, vectors: np.ndarray) -> None:
        names = _text(videos.ids).to_pylist()
        if broken := [name for name in names if name.splitlines() != [name]]:
            raise ValueError(
                f"id {broken[0]!r} contains a line break: write OUT.parquet or a table"
            )
        self.ids += names
        data = np.ascontiguousarray(vectors, "<f4").data
        self.digest.update(data)
        self._file.write(data)

    def finish(self) -> None:
        self._file.seek(0)
        self._header()


class _Table:
    def __init__(self, table: VectorTable, modality: str) -> None:
        self._table, self._modality = table, modality

    def add(self, videos: FeatureTable, vectors: np.ndarray) -> None:
        lengths, labels = np.diff(videos.label_offsets), videos.label_values
        self._table.add(videos.ids, {self._modality: vectors}, lengths=lengths, labels=labels)


def _text(ids: np.ndarray) -> pa.Array:
    try:
        return pa.array(ids, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"an id is not UTF-8 text ({error}): write the vectors as a table"
        ) from error


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name.removesuffix(".npy") + suffix)


def _ours(record: Any) -> dict[str, Any]:
    return record if isinstance(record, dict) and record.get("by") == MAKER else {}
