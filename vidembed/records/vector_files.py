"""Vectors on disk, written as they come and there whole or not at all: Parquet, NumPy, or a table.

The name says which: `OUT.parquet` (video_id, vector), `OUT.npy` with `OUT.ids.txt` (an id a line)
and `OUT.json`, else the folder of a feature table, which is read like any other. Each says how its
vectors were made, so that the same command again finds them there.
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
from vidembed.records.table import FeatureTable, arrays_beside_features
from vidembed.records.table_folder import TableWriter, read_manifest, table_state
from vidembed.records.table_lock import writing
from vidembed.records.tabular import METADATA_KEY
from vidembed.records.youtube8m import offsets_of

MAKER = "vidembed embed"
OTHER_FORMS = (".csv", ".tsv", ".json", ".jsonl", ".npz", ".txt", ".tfrecord", ".h5", ".pkl")
"""Endings of files that are not written: a folder of such a name is not what was meant."""


def check_form(path: str | os.PathLike[str]) -> None:
    """Raises ValueError for a name that says another form than those that are written."""
    ending = Path(path).suffix.lower()
    if ending in OTHER_FORMS:
        raise ValueError(
            f"{path}: vectors are written as .parquet, as .npy, or as the folder of a feature "
            f"table, not as {ending}"
        )


class VectorFile(Protocol):
    """A place to which vectors are being written."""

    def add(self, videos: FeatureTable, vectors: np.ndarray) -> None:
        """The next vectors f32[n, D], of these n videos."""


def written_to(path: str | os.PathLike[str]) -> list[str | Path]:
    """What vectors at this place consist of: one or several files, or a folder."""
    if not os.fspath(path).endswith(".npy"):
        return [os.fspath(path)]
    place = files.local_path(path)
    return [place, _beside(place, ".ids.txt"), _beside(place, ".json")]


def made_as(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What vectors at this place say of how they were made: {} of what is none of ours, None where
    nothing is."""
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
    """Without the array, what lies beside its place is of a killed process, or of others."""
    place, *beside = map(Path, written_to(path))
    if not any(file.exists() for file in (place, *beside)):
        return None
    try:
        said = _ours(files.read_json(beside[-1]))
    except ValueError:
        said = {}
    return said if place.exists() or not said else None


@contextmanager
def vector_file(
    path: str | os.PathLike[str],
    size: int,
    made: Mapping[str, Any],
    *,
    modality: str,
    replacing: bool = False,
) -> Iterator[VectorFile]:
    """Takes vectors of `size` dimensions; they are there when the block ends well, else nothing is.

    made: how they are made, with the `space` that they are of. modality: what a feature table calls
    them. replacing: whether a table there is replaced, which stays until then; files are.
    """
    name, said = os.fspath(path), {"by": MAKER, **made}
    if name.endswith((".parquet", ".npy")):
        files.remove_unfinished(files.local_path(path).parent)
    if name.endswith(".parquet"):
        vectors = pa.list_(pa.float32(), size)
        schema = pa.schema([("video_id", pa.string()), ("vector", vectors)])
        schema = schema.with_metadata({METADATA_KEY: json.dumps(said).encode()})
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
            place.unlink(missing_ok=True)  # else it would stand beside others' ids for a moment
            ids = "".join(f"{i}\n" for i in array.ids).encode()
            said |= {"digest": numpy_digest(array.digest, ids, said)}
            files.write_json(_beside(place, ".json"), said)  # first: it says that both are ours
            files.write_bytes(_beside(place, ".ids.txt"), ids)
    else:
        space = {modality: str(made["space"])}
        with writing(path):
            table = TableWriter(path, source=said, space=space, replace=replacing)
            try:
                rows = _Table(table, modality)
                yield rows
                rows.finish()
            except BaseException:
                table.abandon()
                raise


def numpy_digest(vectors: xxhash.xxh3_128, ids: bytes, said: Mapping[str, Any]) -> str:
    """Of all three files of `OUT.npy`.

    vectors: what has seen the bytes of f32[N, D]. ids: their file. said: the JSON, whose
    own `digest` does not count.
    """
    rest = {name: value for name, value in said.items() if name != "digest"}
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
        """As long for any number of rows: NumPy leaves room for it to grow."""
        shape = (len(self.ids), self._size)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def add(self, videos: FeatureTable, vectors: np.ndarray) -> None:
        names = _text(videos.ids).to_pylist()
        if broken := [name for name in names if name.splitlines() != [name]]:
            raise ValueError(f"id {broken[0]!r} is not one line: write OUT.parquet or a table")
        self.ids += names
        data = np.ascontiguousarray(vectors, "<f4").data
        self.digest.update(data)
        self._file.write(data)

    def finish(self) -> None:
        self._file.seek(0)
        self._header()


class _Table:
    def __init__(self, writer: TableWriter, modality: str) -> None:
        self._writer, self._modality = writer, modality
        self._kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, videos: FeatureTable, vectors: np.ndarray) -> None:
        self._writer.append({self._modality: np.asarray(vectors, np.float32)})
        lengths = np.diff(videos.label_offsets)
        self._kept.append((videos.ids, lengths, videos.label_values))

    def finish(self) -> None:
        ids, lengths, values = (np.concatenate(parts) for parts in zip(*self._kept))
        self._writer.finish(arrays_beside_features(ids, offsets_of(lengths), values, {}))


def _text(ids: np.ndarray) -> pa.Array:
    try:
        return pa.array(ids, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"an id is no UTF-8 text ({error}): write the vectors as a table"
        ) from error


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name.removesuffix(".npy") + suffix)


def _ours(said: Any) -> dict[str, Any]:
    return said if isinstance(said, dict) and said.get("by") == MAKER else {}
