"""A feature table whose features stay in TFRecord files and are read when they are indexed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from etils import epath

from vidembed.files import is_remote
from vidembed.records.arrays import TableError, describe
from vidembed.records.frame_index import builder_of
from vidembed.records.kind import RECORDS
from vidembed.records.origin import Origin, origin_of
from vidembed.records.record_index import ABSENT, Progress, RecordIndex
from vidembed.records.record_index_file import read_index
from vidembed.records.record_layout import RecordLayout
from vidembed.records.record_reader import RecordReader
from vidembed.records.space import named_spaces
from vidembed.records.table import DTYPES, FeatureTable
from vidembed.records.table_folder import fingerprint
from vidembed.records.usable import source_of


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordColumn:
    """One modality [N, F] of records on disk. Rows are read by indexing, and only then.

    entry: {dtype, shape, xxh3} of the whole array.
    """

    name: str
    reader: RecordReader
    entry: Mapping[str, Any]
    ndim = 2

    @property
    def dtype(self) -> np.dtype:
        """That of the rows."""
        return self.reader.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(N, F)"""
        rows, width = self.entry["shape"]
        return rows, width

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Rows [..., F], by any index of the first axis that NumPy accepts."""
        chosen = np.asarray(row_numbers(rows, len(self)))
        values = np.empty((chosen.size, self.shape[1]), self.dtype)
        self.reader.read(chosen.reshape(-1), {self.name: values})
        return values.reshape(*chosen.shape, self.shape[1])

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TableError(
            f"{self.name} of {len(self):,} videos is in records on disk, which memory need not "
            "hold: index the rows, or import the records into a table (python -m vidembed import)"
        )


class RecordTable(FeatureTable):
    """N videos in TFRecord files: ids and labels in memory, features on disk.

    As a FeatureTable, and with the same fingerprint as the one that `import` makes of the same
    records with the same dtype; but `features` are `RecordColumn`s, or arrays that were added.
    Memory is 24 bytes per video, 4 more per modality, and ids and labels.
    """

    features: dict[str, Any]

    @property
    def in_memory(self) -> bool:
        """False: a step cannot gather the features on the devices."""
        return False

    def rows(
        self, indices: np.ndarray, out: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """See `FeatureTable`; each record is read once. Raises RecordError for changed files."""
        indices = self._checked(indices)
        columns = {n: c for n, c in self.features.items() if isinstance(c, RecordColumn)}
        if out is None:
            out = self.new_rows(indices.shape)
        if columns:
            reader = next(iter(columns.values())).reader
            whole = {name: np.ascontiguousarray(out[name]) for name in columns}
            flat = {name: array.reshape(-1, array.shape[-1]) for name, array in whole.items()}
            reader.read(indices.reshape(-1), flat)
            for name, array in whole.items():
                if array is not out[name]:  # it was not contiguous
                    out[name][...] = array
        for name in self.features.keys() - columns.keys():
            np.take(self.features[name], indices, axis=0, out=out[name], mode="clip")
        return {name: out[name] for name in self.features}

    @cached_property
    def fingerprint(self) -> str:
        """See `FeatureTable`; from the digests of the index."""
        entries = {name: describe(array) for name, array in self._beside_features().items()}
        for name, column in self.features.items():
            is_column = isinstance(column, RecordColumn)
            entries[f"features/{name}"] = column.entry if is_column else describe(column)
        return fingerprint(entries)


def open_records(
    pattern: str | os.PathLike[str],
    layout: RecordLayout = RecordLayout(),
    *,
    index: str | os.PathLike[str] = "",
    progress: Progress = lambda *_: None,
) -> RecordTable:
    """The videos of local TFRecord files (a file, folder or glob) as a table; one pass over them.

    index: a local folder to keep the index of the records in, so that the pass is made once; by
    default it is kept in memory only. Raises ValueError for remote files and files of another
    kind, and RecordError or RefusedError, naming file and record, for faults that an import
    refuses too.
    """
    origin, known = indexed(pattern, layout, index=index, progress=progress)
    reader = RecordReader(origin.files, known, origin.format, DTYPES[layout.dtype])
    present = {name: vectors != ABSENT for name, vectors in known.vectors.items()}
    columns: dict[str, Any] = {
        name: RecordColumn(name=name, reader=reader, entry=entry)
        for name, entry in known.digests.items()
    }
    return RecordTable(
        ids=known.ids,
        features=columns,
        present={name: mask for name, mask in present.items() if not mask.all()},
        label_offsets=known.label_offsets,
        label_values=known.label_values,
        manifest={
            "source": source_of(origin, layout.importing()),
            "space": named_spaces(layout.space, list(origin.format.widths)),
        },
    )


def indexed(
    pattern: str | os.PathLike[str],
    layout: RecordLayout,
    *,
    index: str | os.PathLike[str] = "",
    files: Sequence[epath.Path] | None = None,
    progress: Progress = lambda *_: None,
) -> tuple[Origin, RecordIndex]:
    """The files of a pattern, or only `files` of them, and their index; see `open_records`."""
    pattern = os.fspath(pattern)
    if is_remote(pattern):
        raise ValueError(
            f"{pattern}: records are read at random while training, which takes one request each "
            "from a bucket: copy the files to a local disk, or import them into a table "
            "(python -m vidembed import)"
        )
    origin = origin_of(pattern, layout.importing())
    if origin.kind != RECORDS:
        raise ValueError(
            f"{pattern}: {origin.files[0]} is {origin.kind}: only TFRecord files are read while "
            "training; import these into a table (python -m vidembed import)"
        )
    if files is not None:
        origin = replace(origin, shards=files, files=files)
        pattern = os.fspath(files[0])
    make = partial(read_index, index) if index else builder_of(layout)
    return origin, make(pattern, origin.files, layout, progress=progress)


def row_numbers(rows: Any, size: int) -> Any:
    """Row numbers i64 from 0 on, of an index of one axis of `size`; raises IndexError."""
    if isinstance(rows, slice):
        return np.arange(*rows.indices(size))
    numbers = np.asarray(rows)
    if numbers.dtype == bool:
        if numbers.shape != (size,):
            raise IndexError(f"a mask must be bool[{size}], found bool{list(numbers.shape)}")
        return np.flatnonzero(numbers)
    if not numbers.size:
        return numbers.astype(np.int64)
    if numbers.min() < -size or numbers.max() >= size:
        raise IndexError(f"rows must lie in 0..{size - 1}, found {numbers.min()}..{numbers.max()}")
    return np.where(numbers < 0, numbers + size, numbers)
