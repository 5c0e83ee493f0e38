"""Features of frames on disk, one file per video and backbone, so that no video is decoded twice.

FOLDER/BACKBONE/ID.npz holds `times` f64[T], the start of each frame or window in seconds, `values`
f32[T, D], and what they were made from. IDs are hashed, because an id may hold any bytes.
"""

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import xxhash
from etils import epath

from vidembed import files


class FrameFeatures(NamedTuple):
    """Times in seconds f64[T] and features f32[T, D] of a video's frames or windows. T is 0 for a
    video without this kind of stream. remarks: what could not be decoded."""

    times: np.ndarray
    values: np.ndarray
    remarks: tuple[str, ...] = ()


class FeatureStore:
    """The features of many videos under one backbone's settings.

    made_with: the backbone's space and how its input is taken; features made otherwise are in
    another folder.
    """

    def __init__(self, folder: epath.PathLike, made_with: dict[str, Any]) -> None:
        text = json.dumps(made_with, sort_keys=True)
        name = str(made_with["space"]).replace("/", "-")
        self.folder = epath.Path(folder) / f"{name}-{xxhash.xxh32_hexdigest(text.encode())}"
        self._made_with = made_with

    @staticmethod
    def at(folder: epath.PathLike) -> "FeatureStore":
        """The features in a folder of one backbone, to read: what such a store's `folder` is."""
        store = FeatureStore.__new__(FeatureStore)
        store.folder, store._made_with = epath.Path(folder), {}
        return store

    def write(self, video_id: str, origin: dict[str, Any], features: FrameFeatures) -> None:
        """Store the features of a video; whole or not at all.

        origin: what identifies the file's contents, such as its size and time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {"id": video_id, "origin": origin, "remarks": features.remarks}
        text = json.dumps(about).encode()
        buffer = io.BytesIO()
        np.savez(
            buffer,
            times=features.times.astype(np.float64),
            values=features.values.astype(np.float32),
            about=np.frombuffer(text, np.uint8),
        )
        files.write_bytes(self._place(video_id), buffer.getvalue())

    def read(self, video_id: str) -> FrameFeatures | None:
        """The features of a video; None if there are none, or if they are damaged."""
        return self._read(video_id, None, lambda of: (of["times"], of["values"]))

    def made_before(self, video_id: str, origin: dict[str, Any]) -> bool:
        """Whether the features of a video are stored, made from this file; reads no features."""
        return self._read(video_id, origin, lambda of: ()) is not None

    def shape(self, video_id: str) -> tuple[int, int] | None:
        """(T, D) of a stored video, from the header of its file; None if there is none."""
        try:
            with (
                self._place(video_id).open("rb") as file,
                zipfile.ZipFile(file) as of,
                of.open("values.npy") as values,
            ):
                version = np.lib.format.read_magic(values)
                if version == (1, 0):
                    shape = np.lib.format.read_array_header_1_0(values)[0]
                else:
                    shape = np.lib.format.read_array_header_2_0(values)[0]
                frames, width = shape
                return int(frames), int(width)
        except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def ids(self) -> list[str]:
        """The ids of all stored videos, in alphabetical order. Raises ValueError for files that are
        damaged."""
        found, damaged = [], []
        for place in sorted(self.folder.glob("*.npz")):
            try:
                with place.open("rb") as file, np.load(file, allow_pickle=False) as of:
                    found.append(str(json.loads(of["about"].tobytes())["id"]))
            except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
                damaged.append(place.name)
        if damaged:
            raise ValueError(
                f"{self.folder}: {len(damaged):,} of {len(found) + len(damaged):,} files are not "
                f"stored features, or damaged, such as {damaged[0]}: remove them, and extract "
                "these videos again"
            )
        return sorted(found)

    def origin(self, video_id: str) -> dict[str, Any]:
        """The size and the time of change of a video's file. Raises OSError."""
        about = self._place(video_id).stat()
        return {"size": int(about.length), "modified": float(about.mtime)}

    def remarks(self, video_id: str) -> tuple[str, ...]:
        """What could not be decoded of a stored video."""
        about = self._read(video_id, None, lambda of: ())
        return () if about is None else about.remarks

    def _read(
        self, video_id: str, origin: dict[str, Any] | None, arrays: Callable[[Any], Sequence[Any]]
    ) -> FrameFeatures | None:
        try:
            with self._place(video_id).open("rb") as file, np.load(file, allow_pickle=False) as of:
                about = json.loads(of["about"].tobytes())
                if about["id"] != video_id or (origin is not None and about["origin"] != origin):
                    return None
                times, values = arrays(of) or (np.zeros(0), np.zeros((0, 0), np.float32))
                return FrameFeatures(times, values, tuple(about["remarks"]))
        except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def _place(self, video_id: str) -> epath.Path:
        return self.folder / f"{xxhash.xxh3_128_hexdigest(video_id.encode())}.npz"
