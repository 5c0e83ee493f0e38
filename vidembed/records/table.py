"""The feature table: one row per video, in memory and on disk, with detection of damage.

On disk a table is a folder (local, gs:// or s3://) of Zarr v3 arrays and a `manifest.json`, which
is written last: a folder without one is an interrupted import and is never read as a table.
"""

import dataclasses
import functools
import os
from collections.abc import Collection, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed.records.arrays import TableError, describe, read_array
from vidembed.records.byte_ranges import ranges_of, with_ranges
from vidembed.records.bytecode import Range
from vidembed.records.frame_rows import Frames
from vidembed.records.rows import float_rows
from vidembed.records.space import stand_in
from vidembed.records.table_files import arrays_beside_features
from vidembed.records.table_folder import TableWriter, fingerprint, read_manifest
from vidembed.records.table_lock import writing

DTYPES = {
    "uint8": np.dtype(np.uint8),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
    "float32": np.dtype(np.float32),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """Row-aligned features, ids and labels of N videos, read from disk or made in memory.

    ids             S[N], unique
    features        name -> u8|bf16|f16|f32[N, F]; uint8 is quantised (vidembed.records.bytecode)
    present         name -> bool[N], only for modalities that some videos lack
    label_offsets   i64[N+1], label_values i32[L]: row i has label_values[offsets[i]:offsets[i+1]]
    ranges          name -> the range of its bytes, only for uint8 that is not YouTube-8M's
    manifest        source of the table and digests on disk; empty for a table made in memory
    frames          where the frames are that the features are pooled from, if they can be read
    """

    ids: np.ndarray
    features: dict[str, np.ndarray]
    label_offsets: np.ndarray
    label_values: np.ndarray
    present: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    ranges: dict[str, Range] = dataclasses.field(default_factory=dict)
    manifest: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    frames: Frames | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        rows = len(self.ids)
        if self.ids.ndim != 1 or self.ids.dtype.kind != "S":
            raise TableError(f"ids must be bytes S[N], got {self.ids.dtype}{list(self.ids.shape)}")
        if not self.features:
            raise TableError("a feature table needs at least one modality")
        for name, array in self.features.items():
            if array.ndim != 2 or len(array) != rows or array.dtype not in DTYPES.values():
                raise TableError(
                    f"features[{name!r}] must be [{rows}, F] of {', '.join(DTYPES)}; "
                    f"got {array.dtype}{list(array.shape)}"
                )
        for name, mask in self.present.items():
            if name not in self.features or mask.dtype != np.bool_ or mask.shape != (rows,):
                raise TableError(
                    f"present[{name!r}] must be bool[{rows}] of a modality among "
                    f"{', '.join(self.features)}; got {mask.dtype}{list(mask.shape)}"
                )
        for name, range in self.ranges.items():
            if name not in self.features or self.features[name].dtype != np.uint8:
                raise TableError(
                    f"ranges[{name!r}] {range} is for bytes, but the table has no such modality of "
                    f"uint8: it has {', '.join(f'{n} {a.dtype}' for n, a in self.features.items())}"
                )
        offsets, values = self.label_offsets, self.label_values
        if offsets.dtype != np.int64 or offsets.shape != (rows + 1,):
            raise TableError(
                f"label_offsets must be int64[{rows + 1}], got {offsets.dtype}{list(offsets.shape)}"
            )
        if values.dtype != np.int32 or values.ndim != 1:
            raise TableError(
                f"label_values must be int32[L], got {values.dtype}{list(values.shape)}"
            )
        if offsets[0] != 0 or offsets[-1] != len(values) or (offsets[1:] < offsets[:-1]).any():
            raise TableError(
                f"label_offsets must rise from 0 to {len(values)}, the number of label values"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def in_memory(self) -> bool:
        """Whether features are arrays, which devices can hold."""
        return True

    @property
    def widths(self) -> dict[str, int]:
        """Modality name -> F."""
        return {name: array.shape[1] for name, array in self.features.items()}

    @property
    def space(self) -> dict[str, str]:
        """Modality name -> its space: the name given at import, else a text that identifies it.

        Not part of the fingerprint: equal tables may have different names.
        """
        names, source = self.manifest.get("space", {}), self.manifest.get("source", {})
        return {
            modality: names.get(modality) or stand_in(modality, array, source)
            for modality, array in self.features.items()
        }

    def has(self, modality: str) -> np.ndarray:
        """Whether each row has the modality, bool[N]."""
        return self.present.get(modality, np.ones(len(self), np.bool_))

    def floats(self, modality: str, rows: Any = slice(None)) -> np.ndarray:
        """The values f32[n, F] of one modality, for some rows or all of them."""
        return float_rows(self, modality, rows)

    def rows(
        self, indices: np.ndarray, out: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Features of rows i[...] as stored, name -> [..., F].

        `out`, as `new_rows` makes it, is filled if given; page faults of new memory would cost more
        than the copy. Raises IndexError for a row outside 0..N-1.
        """
        indices = self._checked(indices)
        # The range is checked above; with any mode but "raise", take writes directly into `out`.
        return {
            name: np.take(
                array, indices, axis=0, out=None if out is None else out[name], mode="clip"
            )
            for name, array in self.features.items()
        }

    def new_rows(
        self, shape: tuple[int, ...], modalities: Collection[str] = ()
    ) -> dict[str, np.ndarray]:
        """Memory for `rows` of indices of this shape; modalities: those that are used, if known."""
        del modalities
        return {
            name: np.empty((*shape, array.shape[1]), array.dtype)
            for name, array in self.features.items()
        }

    @property
    def lengths(self) -> np.ndarray | None:
        """i32[N]: how many frames of each video `rows` gives, if it gives frames."""
        return None

    def _checked(self, indices: np.ndarray) -> np.ndarray:
        """Row numbers; raises IndexError for those outside 0..N-1."""
        indices = np.asarray(indices)
        if indices.size and (indices.min() < 0 or indices.max() >= len(self)):
            bad = indices[(indices < 0) | (indices >= len(self))]
            raise IndexError(
                f"{bad.size} row numbers lie outside 0..{len(self) - 1}, first {int(bad.flat[0])}"
            )
        return indices

    def labels(self, row: int) -> np.ndarray:
        """Labels i32[...] of one row."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} lies outside 0..{len(self) - 1}")
        return self.label_values[self.label_offsets[row] : self.label_offsets[row + 1]]

    def find(self, ids: Any) -> np.ndarray:
        """Row i64[...] of each id (bytes or text, any shape); -1 for unknown ids."""
        queries = np.asarray(ids)
        if queries.size and queries.dtype.kind not in "SUO":
            raise TypeError(f"ids are bytes or text, got {queries.dtype}")
        flat = queries.reshape(-1)
        names = pa.array(flat if queries.dtype.kind == "S" else flat.tolist(), pa.binary())
        rows = pc.index_in(names, value_set=self._unique_ids).fill_null(-1)
        return rows.to_numpy().astype(np.int64).reshape(queries.shape)

    @functools.cached_property
    def _unique_ids(self) -> pa.Array:
        ids = pa.array(self.ids, pa.binary())
        if (more := len(ids) - len(ids.unique())) > 0:
            counts = ids.value_counts()
            twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
            raise TableError(
                f"{more} ids occur more than once, first {twice.decode(errors='replace')}"
            )
        return ids

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hex digest of the content: equal for equal tables, independent of path and history."""
        if "arrays" in self.manifest:
            return fingerprint(self.manifest["arrays"])
        arrays = self._beside_features()
        arrays |= {f"features/{name}": array for name, array in self.features.items()}
        entries = {name: describe(array) for name, array in arrays.items()}
        return fingerprint(with_ranges(entries, self.ranges))

    def _beside_features(self) -> dict[str, np.ndarray]:
        return arrays_beside_features(self.ids, self.label_offsets, self.label_values, self.present)

    def write(self, path: str | os.PathLike) -> None:
        """Store the table in a new folder. Raises TableError if the folder holds one already."""
        known = {name: self.manifest.get(name, {}) for name in ("source", "space")}
        with writing(path):
            writer = TableWriter(path, **known, ranges=self.ranges)
            writer.append(self.features)
            writer.finish(self._beside_features())

    @staticmethod
    def open(path: str | os.PathLike, *, verify: bool = True) -> "FeatureTable":
        """Read a stored table into memory.

        Each chunk's crc32c is always checked; `verify` also checks the digest of every array.
        Raises TableError if something is missing, unfinished, damaged or altered, one line per
        array.
        """
        manifest = read_manifest(path)
        arrays, faults = {}, []
        for name, entry in manifest["arrays"].items():
            try:
                arrays[name] = read_array(path, entry.get("path", name), entry, verify=verify)
            except TableError as error:
                faults.append(str(error))
        if faults:
            raise TableError("\n".join(faults))
        ids = arrays.pop("ids")
        return FeatureTable(
            ids=ids.view(f"S{ids.shape[1]}").reshape(-1),
            features=_below("features/", arrays),
            present=_below("present/", arrays),
            label_offsets=arrays["label_offsets"],
            label_values=arrays["label_values"],
            ranges=ranges_of(manifest),
            manifest=manifest,
        )


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
