"""Read videos from Parquet: a column of ids, features as lists or numbered columns, labels."""

import re
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from etils import epath

from vidembed.records.example import MessageError
from vidembed.records.faults import ContentError, Faults, Skips
from vidembed.records.formats import Modality, VideoLevel, check_id, keys_found
from vidembed.records.youtube8m import Videos, offsets_of

_FAULTS = (pa.ArrowException, OSError, UnicodeDecodeError)
_INT32 = 2**31 - 1


def read_rows(
    file: str | PathLike[str],
    format: VideoLevel,
    *,
    skips: Skips | None = None,
    chunk_records: int = 2048,
) -> Iterator[Videos]:
    """The videos of one Parquet file in chunks, in the file's order; see also `read_videos`.

    An id is text, bytes or an integer. A modality is a column of lists of floats, or one column of
    floats per dimension, named by its key and a number (`v0`, `v1`, ... or `v_0`, ...). Labels are
    one integer or a list of integers; without their column, videos have no labels.
    """
    path = epath.Path(file)
    faults, row = Faults(path, skips), 0
    try:
        with path.open("rb") as stream:
            parquet = pq.ParquetFile(stream, page_checksum_verification=True)
            try:
                columns = _Columns(path, parquet.schema_arrow, format)
            except ContentError as error:
                faults.add(0, None, error.fault, content=True)
                return
            for batch in parquet.iter_batches(chunk_records, columns=columns.names):
                yield columns.videos(batch, row, faults)
                row += len(batch)
            if not row:
                faults.add(0, None, "the file holds no rows")
    except _FAULTS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a fault of disk or network, not of the file
        faults.add(row, None, f"cannot be read as Parquet: {error}")


def numbered(names: Sequence[str], key: str) -> list[str]:
    """The columns named by a key and a number, sorted by that number."""
    form = re.compile(re.escape(key) + r"[_.\-]?(\d+)")
    matches = [match for name in names if (match := form.fullmatch(name))]
    return [match[0] for match in sorted(matches, key=lambda match: int(match[1]))]


class _Columns:
    """The columns of a file that hold the parts of a format."""

    def __init__(self, path: epath.Path, schema: pa.Schema, format: VideoLevel) -> None:
        self.path, self.format, types = path, format, {f.name: f.type for f in schema}
        keys = [key for key in format.id_keys if key in types]
        if not keys:
            expected = " or ".join(format.id_keys)
            raise self._refused(
                f"no column of ids: expected {expected}, {keys_found(types)} (--id-key)"
            )
        self.id = keys[0]
        if not _is_id(_plain_type(types[self.id])):
            raise self._refused(f"column {self.id!r} is {types[self.id]}: ids are text or integers")
        self.labels = format.labels_key if format.labels_key in types else None
        if self.labels and not pa.types.is_integer(_item_type(types[self.labels])):
            raise self._refused(f"column {self.labels!r} is {types[self.labels]}: labels are "
                                "integers (--labels-key '' ignores them)")  # fmt: skip
        self.features: dict[str, list[str]] = {}
        for modality in format.modalities:
            key = modality.key
            names = [key] if key in types else numbered(list(types), key)
            lists = len(names) == 1 and _is_list(_plain_type(types[names[0]]))
            if not names and format.missing == "refuse":
                raise self._refused(
                    f"no column {key!r}, or {key}0, {key}1, ...: {keys_found(types)}"
                )
            for name in names:
                if not pa.types.is_floating(_item_type(types[name])):
                    raise self._refused(f"column {name!r} is {types[name]}: features are floats")
            if names and not lists and len(names) != modality.width:
                raise self._refused(
                    f"{len(names)} columns of numbers, {names[0]} to {names[-1]}, but "
                    f"{modality.name!r} has width {modality.width}"
                )
            self.features[modality.name] = names
        used = [self.id, *([self.labels] if self.labels else [])]
        self.names = [*used, *(name for names in self.features.values() for name in names)]

    def _refused(self, fault: str) -> ContentError:
        return ContentError(self.path, 0, None, fault)

    def videos(self, batch: pa.RecordBatch, first: int, faults: Faults) -> Videos:
        """The valid rows of a batch, whose first row is row `first` of the file."""
        n, wrong = len(batch), dict[int, str]()
        ids = _ids(_plain(batch.column(self.id)), wrong)
        counts, values = np.zeros(n, np.int64), np.empty(0, np.int64)
        if self.labels:
            counts, values = _labels(_plain(batch.column(self.labels)), wrong)
        features, present = {}, {}
        for modality in self.format.modalities:
            columns = [_plain(batch.column(name)) for name in self.features[modality.name]]
            rows, has_modality = _vectors(columns, modality, n, wrong)
            features[modality.name], present[modality.name] = rows, has_modality
            if self.format.missing == "refuse":
                for row in np.flatnonzero(~has_modality).tolist():
                    text = "--missing mask accepts such videos"
                    wrong.setdefault(row, f"modality {modality.name!r} is missing; {text}")
        for row, fault in sorted(wrong.items()):
            faults.add(first + row, None, fault, content=True)
        keep = np.ones(n, bool)
        keep[list(wrong)] = False
        return Videos(
            np.array([ids[row] for row in np.flatnonzero(keep).tolist()], np.bytes_),
            offsets_of(counts[keep]),
            values[np.repeat(keep, counts)].astype(np.int32),
            {name: rows[keep] for name, rows in features.items()},
            {name: has_modality[keep] for name, has_modality in present.items()},
        )


def _ids(column: pa.Array, wrong: dict[int, str]) -> list[bytes]:
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    ids = [b"" if v is None else v for v in column.cast(pa.large_binary()).to_pylist()]
    for row, video_id in enumerate(ids):
        try:
            check_id(video_id)
        except MessageError as error:
            wrong[row] = str(error)
    return ids


def _labels(column: pa.Array, wrong: dict[int, str]) -> tuple[np.ndarray, np.ndarray]:
    """How many labels each row has, i64[n], and all of them, i64[sum]."""
    if _is_list(column.type):
        counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
        flat = pc.list_flatten(column)
    else:
        counts = np.asarray(column.is_valid()).astype(np.int64)
        flat = column.drop_null()
    values = pc.fill_null(flat, -1).to_numpy(zero_copy_only=False)
    bad = (values < 0) | (values > _INT32)
    for row in np.repeat(np.arange(len(counts)), counts)[bad].tolist():
        wrong.setdefault(row, f"labels: expected classes from 0 to {_INT32}, and no null")
    return counts, np.where(bad, 0, values).astype(np.int64)


def _vectors(
    columns: list[pa.Array], modality: Modality, n: int, wrong: dict[int, str]
) -> tuple[np.ndarray, np.ndarray]:
    """The vectors f32[n, F], zero if the modality is missing, and whether it is present bool[n]."""
    rows, present = np.zeros((n, modality.width), np.float32), np.zeros(n, bool)
    has_null: Any = np.zeros(0, bool)
    if columns and _is_list(columns[0].type):
        lengths = pc.fill_null(pc.list_value_length(columns[0]), 0).to_numpy()
        present = lengths == modality.width
        for row in np.flatnonzero(~present & (lengths > 0)).tolist():
            expected = f"modality {modality.name!r} ({modality.key}): expected {modality.width}"
            wrong.setdefault(row, f"{expected} values, found {lengths[row]}")
        flat = pc.list_flatten(columns[0].filter(pa.array(present)))
        with np.errstate(over="ignore"):  # overflow to infinity is counted later
            rows[present] = _numbers(flat).reshape(-1, modality.width)
        has_null = ~np.asarray(flat.is_valid()).reshape(-1, modality.width).all(1)
    elif columns:
        valid: Any = np.stack([np.asarray(column.is_valid()) for column in columns], axis=1)
        present = valid.any(axis=1)
        with np.errstate(over="ignore"):
            rows[:] = np.stack([_numbers(column) for column in columns], axis=1)
        rows[~present], has_null = 0, ~valid.all(axis=1)[present]
    for row in np.flatnonzero(present)[has_null].tolist():
        wrong.setdefault(row, f"modality {modality.name!r} ({modality.key}): a value is null")
    return rows, present


def _numbers(column: pa.Array) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _plain(column: pa.Array) -> pa.Array:
    """The column decoded from dictionary encoding and from extension types."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _plain_type(kind: pa.DataType) -> pa.DataType:
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _item_type(kind: pa.DataType) -> pa.DataType:
    kind = _plain_type(kind)
    return kind.value_type if _is_list(kind) else kind


def _is_id(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind)
        or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
        or types.is_integer(kind)
    )  # fmt: skip
