"""A feature table over frame-level TFRecords: frames in batches, pooled vectors as features."""

import dataclasses
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from etils import epath

from vidembed.records.arrays import TableError, describe
from vidembed.records.counts import shard_names
from vidembed.records.frame_pooling import FLOAT32, STATISTICS, pooled_name
from vidembed.records.frame_reader import FrameReader
from vidembed.records.frame_rows import Frames
from vidembed.records.record_index import ABSENT, Progress
from vidembed.records.record_layout import RecordLayout
from vidembed.records.record_table import RecordTable, indexed, row_numbers
from vidembed.records.remote import identities
from vidembed.records.space import named_spaces, stand_in
from vidembed.records.table_folder import fingerprint


@dataclass(frozen=True, kw_only=True, eq=False)
class PooledColumn:
    """A statistic f32[N, F] of the frames of a modality, computed when rows are indexed."""

    modality: str
    statistic: str
    reader: FrameReader
    ndim = 2
    dtype = FLOAT32

    @property
    def shape(self) -> tuple[int, int]:
        """(N, F)"""
        return len(self.reader.lengths), self.reader.format.widths[self.modality]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Rows [..., F], by any index of the first axis that NumPy accepts."""
        chosen = np.asarray(row_numbers(rows, len(self)))
        vectors = self.reader.pooled(self.modality, self.statistic, chosen.reshape(-1))
        return vectors.reshape(*chosen.shape, self.shape[1])

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TableError(
            f"{self.modality} of {len(self):,} videos is in records on disk, as frames: index the "
            "rows to pool"
        )


class FrameTable(RecordTable):
    """N videos in frame-level TFRecords: ids and labels in memory, frames on disk.

    `features` are `PooledColumn`s (visual, visual_deviation, visual_top5,
    visual_max, ...), or arrays that were
    added. `rows` gives the frames themselves.
    """

    @cached_property
    def reader(self) -> FrameReader:
        """Where the frames are."""
        return next(iter(self._columns.values())).reader

    @property
    def lengths(self) -> np.ndarray:
        """See `FeatureTable`; at most `max_frames`."""
        return self.reader.lengths

    @property
    def space(self) -> dict[str, str]:
        """See `FeatureTable`. Means have the space of their frames."""
        names, spaces = self.manifest.get("space", {}), super().space
        for name, column in self._columns.items():
            source = self.manifest.get("source", {})
            of_frames = names.get(column.modality) or stand_in(column.modality, column, source)
            mean = column.statistic == "mean"
            spaces[name] = of_frames if mean else f"{column.statistic} of {of_frames}"
        return spaces

    def new_rows(
        self, shape: tuple[int, ...], modalities: Collection[str] = ()
    ) -> dict[str, np.ndarray]:
        """See `FeatureTable`: u8[..., T, F] for the frames that `modalities` are pooled from, all
        if none are given; added arrays as they are."""
        read = [name for name in self.features if name in modalities] or list(self.features)
        rows = {}
        for name in read:
            if (column := self._columns.get(name)) is None:
                array = self.features[name]
                rows[name] = np.empty((*shape, array.shape[1]), array.dtype)
            else:
                size = (*shape, self.reader.steps, column.shape[1])
                rows[column.modality] = np.empty(size, np.uint8)
        return rows

    def rows(
        self, indices: np.ndarray, out: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Frames u8[..., T, F] of rows i[...] by modality, filled up with zeros after `lengths`,
        and rows of the added arrays. Raises RecordError for changed files."""
        indices = self._checked(indices)
        out = self.new_rows(indices.shape) if out is None else out
        frames = {n: array for n, array in out.items() if n in self.reader.format.widths}
        flat = {n: array.reshape(-1, *array.shape[-2:]) for n, array in frames.items()}
        self.reader.read(indices.reshape(-1), flat)
        for name in out.keys() - frames.keys():
            np.take(self.features[name], indices, axis=0, out=out[name], mode="clip")
        return dict(out)

    @cached_property
    def fingerprint(self) -> str:
        """See `FeatureTable`; from the digests of the index."""
        # Without the masks of the maximum, which repeat those of the mean: stored runs, from before
        # there was a maximum, know the data by this fingerprint.
        repeated = {f"present/{n}" for n, c in self._columns.items() if c.statistic == "max"}
        beside = {n: array for n, array in self._beside_features().items() if n not in repeated}
        entries = {name: describe(array) for name, array in beside.items()}
        frames = self.reader.index.digests
        entries |= {f"frames/{name}": entry for name, entry in frames.items()}
        added = self.features.keys() - self._columns.keys()
        entries |= {f"features/{name}": describe(self.features[name]) for name in sorted(added)}
        return fingerprint(entries)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the frames for the user."""
        counts, most = self.reader.index.lengths, self.reader.format.max_frames
        notes: tuple[str, ...] = (
            f"frames: {int(counts.sum()):,} of {len(self):,} videos, {self.reader.steps} each "
            "in a batch, filled up or cut",
        )
        if cut := int((counts > most).sum()):
            notes += (f"{cut:,} videos have more than {most} frames: the later ones are cut",)
        if empty := int((counts == 0).sum()):
            notes += (f"{empty:,} videos have no frame: all of their modalities count as missing",)
        return notes

    @property
    def _columns(self) -> dict[str, PooledColumn]:
        return {n: c for n, c in self.features.items() if isinstance(c, PooledColumn)}


def open_frames(
    pattern: str | os.PathLike[str],
    layout: RecordLayout,
    *,
    index: str | os.PathLike[str] = "",
    files: Sequence[epath.Path] | None = None,
    progress: Progress = lambda *_: None,
) -> FrameTable:
    """The videos of local frame-level TFRecords as a table; one pass over the files.

    files: only these of the files of `pattern`. Otherwise as `open_records`. Raises RecordError for
    records of video level, and for modalities with different numbers of frames.
    """
    origin, known = indexed(pattern, layout, index=index, files=files, progress=progress)
    format = layout.frame_format()
    reader = FrameReader(origin.files, known, format)
    columns: dict[str, Any] = {
        pooled_name(modality, statistic): PooledColumn(
            modality=modality, statistic=statistic, reader=reader
        )
        for modality in format.widths
        for statistic in STATISTICS
    }
    has = {name: known.vectors[column.modality] != ABSENT for name, column in columns.items()}
    return FrameTable(
        ids=known.ids,
        features=columns,
        present={name: mask for name, mask in has.items() if not mask.all()},
        label_offsets=known.label_offsets,
        label_values=known.label_values,
        manifest={
            "source": frame_source(origin.files, layout),
            "space": named_spaces(layout.space, list(format.widths)),
        },
        frames=Frames(reader=reader, records=np.arange(len(known.ids))),
    )


def frame_source(files: Sequence[epath.Path], layout: RecordLayout) -> dict[str, Any]:
    """The manifest's entry for these files and this layout, in JSON types."""
    format = json.loads(json.dumps(dataclasses.asdict(layout.frame_format())))
    options = {"format": format, "level": "frame"}
    return {"options": options, "shards": identities(files, shard_names(files))}
