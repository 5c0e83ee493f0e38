"""Features of the single frames of N videos, to cut windows from: of records, or of a store."""

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, get_args

import numpy as np
import xxhash

from vidembed.media.clip_frames import ClipFrames
from vidembed.media.feature_store import FeatureStore
from vidembed.records.bytecode import dequantise
from vidembed.records.frame_rows import Frames
from vidembed.records.record_index import ABSENT
from vidembed.records.tabular import LISTED

Motion = Literal["none", "only", "beside"]
"""none: features of frames. only: absolute differences of the features of consecutive frames.
beside: features of a frame, then its difference from the one before."""
KEPT_BYTES = 512 << 20
"""Of stored features, so many stay in memory: opening a file takes longer than to cut its windows.
"""


class FramesError(ValueError):
    """Features of frames that are missing or damaged, or that are not those of the videos."""


class FrameSource(Protocol):
    """The frames of N videos as features of one modality."""

    @property
    def width(self) -> int:
        """F, the width of the features."""

    @property
    def lengths(self) -> np.ndarray:
        """i64[N]: the frames of each video; 0 for a video without any."""

    @property
    def fingerprint(self) -> str:
        """Digest of what identifies the features."""

    def read(self, row: int) -> np.ndarray:
        """The frames f32[T, F] of a video; safe from several threads."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordFrames:
    """A modality of frame-level TFRecords; its bytes are dequantised."""

    frames: Frames
    modality: str

    @property
    def width(self) -> int:
        """See `FrameSource`."""
        return self.frames.reader.format.widths[self.modality]

    @property
    def lengths(self) -> np.ndarray:
        """See `FrameSource`. A video that lacks the modality has no frames."""
        return np.where(self._has, self.frames.reader.lengths[self.frames.records], 0)

    @cached_property
    def _has(self) -> np.ndarray:
        index = self.frames.reader.index
        return np.asarray(index.vectors[self.modality][self.frames.records] != ABSENT)

    @cached_property
    def fingerprint(self) -> str:
        """See `FrameSource`; from the digests of the index."""
        digests = self.frames.reader.index.digests
        digest = xxhash.xxh3_128(repr((self.modality, sorted(digests.items()))).encode())
        digest.update(np.ascontiguousarray(self.frames.records, np.int64).tobytes())
        return digest.hexdigest()

    def read(self, row: int) -> np.ndarray:
        """See `FrameSource`. Raises RecordError for files that changed."""
        rows = self.frames.read(np.array([row]), [self.modality])[self.modality]
        return np.asarray(dequantise(rows.values[0, : int(rows.lengths[0])]))


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredFrames:
    """The features that extraction stored for each video, one file per video.

    stored_lengths: i64[N], and stored_width: the shapes of the files. What was read stays in
    memory, for as many videos as KEPT_BYTES hold.
    """

    store: FeatureStore
    ids: tuple[str, ...]
    stored_lengths: np.ndarray
    stored_width: int
    motion: Motion = "none"
    _kept: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    @staticmethod
    def open(
        folder: str | os.PathLike[str], ids: tuple[str, ...], motion: Motion = "none"
    ) -> "StoredFrames":
        """The features of these videos in a folder of a store: FOLDER/BACKBONE-DIGEST.

        Reads how many frames each video has. Raises FramesError, with names, if videos are missing
        or damaged, if their widths differ, and if none has a frame.
        """
        if motion not in get_args(Motion):
            raise ValueError(f"motion must be {', '.join(get_args(Motion))}, found {motion!r}")
        store = FeatureStore.at(folder)
        shapes = [store.shape(video) for video in ids]
        missing = [video for video, shape in zip(ids, shapes) if shape is None]
        if missing:
            raise FramesError(
                f"{os.fspath(folder)}: lacks the features of {len(missing):,} of {len(ids):,} "
                f"videos, or they are damaged: {_some(missing)}. Give the folder of one backbone "
                "(its files are named by digests), extract the missing videos, or remove them "
                "from the list"
            )
        known = [shape or (0, 0) for shape in shapes]
        widths = {width for length, width in known if length}
        if len(widths) != 1:
            found = ", ".join(map(str, sorted(widths))) or "no frame at all"
            raise FramesError(f"{os.fspath(folder)}: features of one width expected, found {found}")
        lengths = np.array([length for length, _ in known], np.int64)
        return StoredFrames(
            store=store,
            ids=ids,
            stored_lengths=lengths,
            stored_width=widths.pop(),
            motion=motion,
        )

    @property
    def width(self) -> int:
        """See `FrameSource`."""
        return self.stored_width * (2 if self.motion == "beside" else 1)

    @cached_property
    def lengths(self) -> np.ndarray:
        """See `FrameSource`: with motion one frame less, unless there is only one."""
        if self.motion == "none":
            return self.stored_lengths
        return np.minimum(self.stored_lengths, np.maximum(self.stored_lengths - 1, 1))

    @property
    def space(self) -> str:
        """The name of the store's folder: the backbone, and a digest of how it was used; and what
        is read of it, if not the features themselves."""
        read = {"none": "", "only": ", motion", "beside": " with motion"}[self.motion]
        return self.store.folder.name + read

    @cached_property
    def fingerprint(self) -> str:
        """See `FrameSource`; from the backbone, the ids and the numbers of frames."""
        known = (self.space, self.width, self.ids, self.lengths.tolist())
        return xxhash.xxh3_128_hexdigest(repr(known).encode())

    def read(self, row: int) -> np.ndarray:
        """See `FrameSource`; not to be written to. Raises FramesError if the file has changed or is
        damaged."""
        if row in self._kept:
            return self._kept[row]
        features = self.store.read(self.ids[row])
        expected = (int(self.stored_lengths[row]), self.stored_width)
        if features is None or features.values.shape != expected:
            found = "nothing readable" if features is None else list(features.values.shape)
            raise FramesError(
                f"{self.store.folder}: {self.ids[row]}: {list(expected)} features expected, found "
                f"{found}: the store has changed since the run began; extract this video again"
            )
        values = moved(features.values, self.motion)
        values.flags.writeable = False
        if self._fits[row]:
            self._kept[row] = values
        return values

    def times(self, row: int) -> np.ndarray:
        """When the frames of a video begin, f64[T] in seconds; none if the file is damaged."""
        features = self.store.read(self.ids[row])
        return np.zeros(0) if features is None else features.times[-self.lengths[row] :]

    @cached_property
    def _fits(self) -> np.ndarray:
        """bool[N]: the first videos, as long as their features fit in memory."""
        return np.cumsum(self.lengths * self.width * 4) <= KEPT_BYTES


def moved(frames: np.ndarray, motion: Motion) -> np.ndarray:
    """Frames f32[T, F] with their motion: f32[T − 1, F], or f32[T − 1, 2F] if beside. A single
    frame has none: zeros."""
    if motion == "none":
        return frames
    before = frames[:-1] if len(frames) > 1 else frames
    after = frames[1:] if len(frames) > 1 else frames
    differences = np.abs(after - before)
    return differences if motion == "only" else np.concatenate([after, differences], axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedFrames:
    """The frames of video files, decoded when they are read: for embedding with a trained model."""

    files: tuple[str, ...]
    pictures: ClipFrames
    failures: dict[int, str] = field(default_factory=dict)
    """The videos, by row, that could not be decoded so far, and why."""

    def read(self, row: int) -> np.ndarray:
        """The frames u8[T, H, W, 3] of a video; none, and a failure, if it cannot be decoded."""
        try:
            return self.pictures.read(self.files[row])
        except (ValueError, OSError) as error:
            self.failures[row] = str(error)
            return np.zeros((0, self.pictures.height, self.pictures.width, 3), np.uint8)


def _some(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (" ..." if len(names) > LISTED else "")
