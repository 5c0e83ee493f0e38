"""Pooled rows of extracted videos as a feature table: a new one, or appended to one."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from vidembed.media.feature_store import FeatureStore, FrameFeatures
from vidembed.media.pooling import Pooling, pool, pooled_width
from vidembed.media.whitening import Whitening
from vidembed.records.bytecode import Range
from vidembed.records.table import DTYPES
from vidembed.records.table_append import TableExtension
from vidembed.records.table_files import arrays_beside_features
from vidembed.records.table_folder import TableWriter
from vidembed.records.table_lock import writing
from vidembed.records.window_ids import Window

BLOCK_ROWS = 2048
MAX_CLIPPED_SHARE = 0.01
"""Of an append, outside the range that the table's bytes have: more is warned of."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A modality of the table: the pooled features of one backbone, whitened or not."""

    modality: str
    store: FeatureStore
    pooling: Pooling
    width: int
    """Of the backbone's features."""
    space: str
    """Of the backbone's features."""
    rate: float | None = None
    """Frames per second, which decides how far apart consecutive frames are."""
    seconds: float = 0.0
    """What one of the backbone's features covers: a window of sound or a clip; 0 for a frame."""
    rows_whitening: Whitening | None = None
    """Applied to pooled rows."""
    frames_whitening: Whitening | None = None
    """Applied to the features of frames, before they are pooled."""

    @property
    def row_width(self) -> int:
        """The size of a row."""
        if self.rows_whitening is not None:
            return self.rows_whitening.size
        return pooled_width(self.frame_width, self.pooling)

    @property
    def frame_width(self) -> int:
        """The size of the features of a frame, before they are pooled."""
        return self.width if self.frames_whitening is None else self.frames_whitening.size

    @property
    def made_by(self) -> str:
        """The pooling; of motion with its rate."""
        at = f" at {self.rate:g}/s" if self.pooling == "motion" and self.rate else ""
        return self.pooling + at

    @property
    def row_space(self) -> str:
        """What made a row: the backbone's space, the pooling, and the components."""
        parts = [self.space]
        if self.frames_whitening is not None:
            parts.append(f"pca {self.frames_whitening.size} {self.frames_whitening.digest}")
        parts.append(self.made_by)
        if self.rows_whitening is not None:
            parts.append(f"pca {self.rows_whitening.size} {self.rows_whitening.digest}")
        return " / ".join(parts)

    def frames(self, video_id: str) -> FrameFeatures:
        """The features of a video's frames, with components if these are of frames."""
        features = self.store.read(video_id)
        if features is None:
            raise ValueError(
                f"{self.store.folder}: the features of {video_id!r} are damaged or were removed: "
                "remove this folder, and run the same command again"
            )
        if self.frames_whitening is None or not len(features.values):
            return features
        return features._replace(values=self.frames_whitening(features.values))

    def row(self, values: np.ndarray) -> np.ndarray | None:
        """The row f32[row_width] of the features f32[T, D] of `frames`; None without any."""
        row = pool(values, self.pooling) if len(values) else None
        if row is None or self.rows_whitening is None:
            return row
        return self.rows_whitening(row[None])[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of a table: ids, features f32[n, row_width] and present bool[n] by modality."""

    ids: list[str]
    features: dict[str, np.ndarray]
    present: dict[str, np.ndarray]


def rows_of(columns: Sequence[Column], videos: Iterable[str], window: float | None = None) -> Rows:
    """One row per video that has a modality; with `window`, one per window of so many seconds in
    which a frame begins. It has the frames that begin in it or, of a modality in which none does,
    the last one before if that lasts into it (3 s of sound cover windows of 1 s)."""
    ids: list[str] = []
    rows: dict[str, list[np.ndarray | None]] = {column.modality: [] for column in columns}
    for video in videos:
        frames = {column.modality: column.frames(video) for column in columns}
        numbers = {name: _numbers(of.times, window) for name, of in frames.items()}
        for name, number in _parts(video, numbers.values(), window):
            made = {}
            for column in columns:
                of, begun = frames[column.modality], numbers[column.modality]
                chosen = np.flatnonzero(begun == number)
                if window is not None and not len(chosen):
                    lasting = of.times + column.seconds > number * window
                    chosen = np.flatnonzero(lasting & (begun < number))[-1:]
                made[column.modality] = column.row(of.values[chosen])
            if any(row is not None for row in made.values()):
                ids.append(name)
                for modality, row in made.items():
                    rows[modality].append(row)
    features, present = {}, {}
    for column in columns:
        of_column, missing = rows[column.modality], np.zeros(column.row_width, np.float32)
        filled = [missing if row is None else row for row in of_column]
        features[column.modality] = np.array(filled, np.float32).reshape(-1, column.row_width)
        present[column.modality] = np.array([row is not None for row in of_column], np.bool_)
    return Rows(ids=ids, features=features, present=present)


def _numbers(times: np.ndarray, window: float | None) -> np.ndarray:
    """The number i64[T] of the window in which each frame begins; 0 without windows. A frame within
    a millionth of a window before its border counts as after it, as times are rounded."""
    if window is None:
        return np.zeros(len(times), np.int64)
    return np.floor(times / window + 1e-6).astype(np.int64)


def _parts(
    video: str, numbers: Iterable[np.ndarray], window: float | None
) -> Iterator[tuple[str, int]]:
    """(id, number) of the whole video, or of its windows that have a frame."""
    if window is None:
        yield video, 0
        return
    for number in sorted({number for of in numbers for number in of.tolist()}):
        yield Window(video, number * window, (number + 1) * window).id, number


def write_table(
    path: str | os.PathLike[str],
    columns: Sequence[Column],
    rows: Rows,
    *,
    source: Mapping[str, Any],
    dtype: str = "uint8",
    append: bool = False,
    replace: bool = False,
) -> list[str]:
    """Write the rows, with ids, as a new table or append them; returns warnings.

    source: what the table was made from, for its manifest. With uint8, the range of a modality's
    bytes is that of its values; an append keeps the table's. Raises TableError and SpaceError if
    the table holds something else, and ValueError if no video has a row.
    """
    features, present, count = rows.features, rows.present, len(rows.ids)
    if not count:
        raise ValueError(f"{path}: no video has any of {[column.modality for column in columns]}")
    spaces = {column.modality: column.row_space for column in columns}
    warnings: list[str] = []
    with writing(path):
        writer: TableWriter | TableExtension
        if append:
            widths = {column.modality: column.row_width for column in columns}
            writer = TableExtension(path, source=source, space=spaces, widths=widths, dtype=dtype)
            ranges = {name: writer.ranges.get(name, Range()) for name in features}
            known = set(writer.ids.astype(str).tolist())
            if twice := [id for id in rows.ids if id in known]:
                raise ValueError(
                    f"{path} has got {len(twice):,} of these rows meanwhile, first {twice[0]!r}, "
                    "from another process: run the same command again"
                )
        else:
            ranges = {
                name: Range.covering(values[present[name]].min(), values[present[name]].max())
                for name, values in features.items()
                if present[name].any()
            }
            own = ranges if dtype == "uint8" else {}
            writer = TableWriter(path, source=source, space=spaces, replace=replace, ranges=own)
        try:
            for start in range(0, count, BLOCK_ROWS):
                part = slice(start, start + BLOCK_ROWS)
                writer.append(
                    {
                        name: ranges.get(name, Range()).quantise(values[part])
                        if dtype == "uint8"
                        else values[part].astype(DTYPES[dtype])
                        for name, values in features.items()
                    }
                )
            if append and dtype == "uint8":
                warnings += _clipped(features, present, ranges)
            names = np.array([id.encode() for id in rows.ids])
            empty = np.zeros(count + 1, np.int64), np.zeros(0, np.int32)
            masks = {name: mask for name, mask in present.items() if not mask.all()}
            report = {
                "rows": count, "records": count, "shards": 1, "skipped": 0, "duplicates": 0,
                "missing": {name: int((~mask).sum()) for name, mask in masks.items()},
                "findings": {},
            }  # fmt: skip
            digest = xxhash.xxh3_128_hexdigest(names.tobytes())
            listed = {"name": "video files", "records": count, "xxh3": digest}
            writer.finish(
                arrays_beside_features(names, *empty, masks),
                source={**source, "shards": [listed], "report": report},
            )
        except BaseException:
            writer.abandon()
            raise
    return warnings


def _clipped(
    features: Mapping[str, np.ndarray],
    present: Mapping[str, np.ndarray],
    ranges: Mapping[str, Range],
) -> list[str]:
    """Warnings of values beyond the range of a table that is appended to."""
    warnings = []
    for name, rows in features.items():
        values = rows[present[name]]
        share = ranges[name].clipped(values) / max(1, values.size)
        if share > MAX_CLIPPED_SHARE:
            warnings.append(
                f"{name}: {share:.1%} of the new values lie beyond the table's range "
                f"{ranges[name]} and were clipped: make the table anew, or with --dtype float16"
            )
    return warnings
