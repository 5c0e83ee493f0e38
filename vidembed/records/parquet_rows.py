"""Parquet files as videos: a column of ids, features as lists or as numbered columns, labels."""

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
from vidembed.records.formats import Modality, VideoLevel, check_id, found
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
    """The videos of one Parquet file in chunks, in the file's order; as `read_videos`.

    An id is text, bytes or a whole number. A modality is a column of lists of floats, or as many
    columns of floats that are named by its key and a number (`v0`, `v1`, ... or `v_0`, ...).
    Labels are whole numbers, one or a list; a file without their column has none.
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
                faults.add(0, None, "the file holds no row")
    except _FAULTS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk or the network, and no fault of the file
        faults.add(row, None, f"cannot be read as Parquet: {error}")


def numbered(names: Sequence[str], key: str) -> list[str]:
    """The columns that are named by a key and a number, by that number."""
    form = re.compile(re.escape(key) + r"[_.\-]?(\d+)")
    matches = [match for name in names if (match := form.fullmatch(name))]
    return [match[0] for match in sorted(matches, key=lambda match: int(match[1]))]


class _Columns:
    """Which columns of a file hold what the format asks for."""

    def __init__(self, path: epath.Path, schema: pa.Schema, format: VideoLevel) -> None:
        self.path, self.format, there = path, format, {f.name: f.type for f in schema}
        keys = [key for key in format.id_keys if key in there]
        if not keys:
            asked = " or ".join(format.id_keys)
            raise self._refused(f"no column of ids: expected {asked}, {found(there)} (--id-key)")
        self.id = keys[0]
        if not _is_id(_plain_type(there[self.id])):
            raise self._refused(f"column {self.id!r} is {there[self.id]}: ids are text or integers")
        self.labels = format.labels_key if format.labels_key in there else None
        if self.labels and not pa.types.is_integer(_item_type(there[self.labels])):
            raise self._refused(f"column {self.labels!r} is {there[self.labels]}: labels are whole "
                                "numbers (--labels-key '' does without)")  # fmt: skip
        self.features: dict[str, list[str]] = {}
        for modality in format.modalities:
            key = modality.key
            names = [key] if key in there else numbered(list(there), key)
            lists = len(names) == 1 and _is_list(_plain_type(there[names[0]]))
            if not names and format.missing == "refuse":
                raise self._refused(f"no column {key!r}, or {key}0, {key}1, ...: {found(there)}")
            for name in names:
                if not pa.types.is_floating(_item_type(there[name])):
                    raise self._refused(f"column {name!r} is {there[name]}: features are floats")
            if names and not lists and len(names) != modality.width:
                raise self._refused(
                    f"{len(names)} columns {names[0]} to {names[-1]} are numbers, "
                    f"{modality.name!r} has a width of {modality.width}"
                )
            self.features[modality.name] = names
        used = [self.id, *([self.labels] if self.labels else [])]
        self.names = [*used, *(name for names in self.features.values() for name in names)]

    def _refused(self, fault: str) -> ContentError:
        return ContentError(self.path, 0, None, fault)

    def videos(self, batch: pa.RecordBatch, first: int, faults: Faults) -> Videos:
        """The sound rows of a batch, whose first is row `first` of the file."""
        n, wrong = len(batch), dict[int, str]()
        ids = _ids(_plain(batch.column(self.id)), wrong)
        counts, values = np.zeros(n, np.int64), np.empty(0, np.int64)
        if self.labels:
            counts, values = _labels(_plain(batch.column(self.labels)), wrong)
        features, present = {}, {}
        for modality in self.format.modalities:
            columns = [_plain(batch.column(name)) for name in self.features[modality.name]]
            rows, there = _vectors(columns, modality, n, wrong)
            features[modality.name], present[modality.name] = rows, there
            if self.format.missing == "refuse":
                for row in np.flatnonzero(~there).tolist():
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
            {name: there[keep] for name, there in present.items()},
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
    """f32[n, F], zero where the modality is not there, bool[n]."""
    rows, there = np.zeros((n, modality.width), np.float32), np.zeros(n, bool)
    holes: Any = np.zeros(0, bool)
    if columns and _is_list(columns[0].type):
        lengths = pc.fill_null(pc.list_value_length(columns[0]), 0).to_numpy()
        there = lengths == modality.width
        for row in np.flatnonzero(~there & (lengths > 0)).tolist():
            expected = f"modality {modality.name!r} ({modality.key}): expected {modality.width}"
            wrong.setdefault(row, f"{expected} values, found {lengths[row]}")
        flat = pc.list_flatten(columns[0].filter(pa.array(there)))
        with np.errstate(over="ignore"):  # infinity, which is counted
            rows[there] = _numbers(flat).reshape(-1, modality.width)
        holes = ~np.asarray(flat.is_valid()).reshape(-1, modality.width).all(1)
    elif columns:
        valid: Any = np.stack([np.asarray(column.is_valid()) for column in columns], axis=1)
        there = valid.any(axis=1)
        with np.errstate(over="ignore"):
            rows[:] = np.stack([_numbers(column) for column in columns], axis=1)
        rows[~there], holes = 0, ~valid.all(axis=1)[there]
    for row in np.flatnonzero(there)[holes].tolist():
        wrong.setdefault(row, f"modality {modality.name!r} ({modality.key}): a value is null")
    return rows, there


def _numbers(column: pa.Array) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _plain(column: pa.Array) -> pa.Array:
    """Without the dictionary of a categorical column, and without what an extension adds."""
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
