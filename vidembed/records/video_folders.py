"""Read videos from one folder per modality, with one `.npy` file per video, named after it.

`object/video0.npy` is f[F], or f[T, F] of T frames or segments, whose mean is taken.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from os import PathLike

import numpy as np
from etils import epath

from vidembed.files import is_unfinished
from vidembed.records.example import MessageError
from vidembed.records.faults import ContentError, Faults, Skips
from vidembed.records.formats import Modality, VideoLevel, check_id, name_of, refuse_missing
from vidembed.records.shards import is_glob, shards
from vidembed.records.youtube8m import Videos

SUFFIX = ".npy"


def modality_folders(pattern: str | PathLike[str]) -> dict[str, dict[bytes, epath.Path]]:
    """Folder name → id of a video → its file, for a folder of such folders; else {}.

    A folder that itself has feature files is none. Hidden files and folders are not read.
    """
    place = epath.Path(pattern)
    if is_glob(pattern) or not place.is_dir():
        return {}
    folders = {
        folder.name: {
            file.name.removesuffix(SUFFIX).encode(): file
            for file in folder.iterdir()
            if file.name.endswith(SUFFIX) and not _is_hidden(file) and not is_unfinished(file.name)
        }
        for folder in sorted(place.iterdir())
        if folder.is_dir() and not _is_hidden(folder)
    }
    folders = {name: files for name, files in folders.items() if files}
    return {} if not folders or _has_features(place) else folders


def _is_hidden(path: epath.Path) -> bool:
    # A Mac leaves `._video0.npy` beside a copied video0.npy.
    return path.name.startswith(".")


def _has_features(place: epath.Path) -> bool:
    try:
        return bool(shards(place))
    except FileNotFoundError:
        return False


def format_of(folders: Mapping[str, Mapping[bytes, epath.Path]]) -> VideoLevel:
    """One modality per folder, with its name and the width of its first video; videos may lack
    modalities. Raises ContentError if that file cannot be read."""
    modalities = []
    for key, files in folders.items():
        first = files[min(files)]
        try:
            width = len(_vector(first)[0])
        except MessageError as error:
            raise ContentError(first, 0, None, str(error)) from error
        modalities.append(Modality(name=name_of(key), key=key, width=width))
    return VideoLevel(modalities=tuple(modalities), labels_key=None, missing="mask")


class FolderReader:
    """A reader like `read_videos`, of the videos of all folders in the order of their ids."""

    def __init__(self, folders: Mapping[str, Mapping[bytes, epath.Path]]) -> None:
        self._folders = folders
        self._averaged: Counter[str] = Counter()
        self._most = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What the last reading did to the features."""
        if not self._averaged:
            return ()
        counts = ", ".join(f"{count:,} of {name}" for name, count in self._averaged.items())
        return (f"files with several rows (up to {self._most:,}), whose mean is taken: {counts}",)

    def __call__(
        self,
        place: epath.Path,
        format: VideoLevel,
        *,
        skips: Skips | None = None,
        chunk_records: int = 2048,
    ) -> Iterator[Videos]:
        """The videos in chunks. A file that cannot be read, of another width or without floats is a
        RecordError, and so is a video that lacks a modality, unless the format masks it; `skips`
        skips such videos."""
        self._averaged, self._most = Counter(), 0
        read = [self._folders[modality.key] for modality in format.modalities]
        names = sorted({name for files in read for name in files})
        for start in range(0, len(names), chunk_records):
            yield self._chunk(names[start : start + chunk_records], start, format, place, skips)

    def _chunk(
        self,
        names: list[bytes],
        start: int,
        format: VideoLevel,
        place: epath.Path,
        skips: Skips | None,
    ) -> Videos:
        features = {m.name: np.zeros((len(names), m.width), np.float32) for m in format.modalities}
        present = {m.name: np.zeros(len(names), bool) for m in format.modalities}
        keep = np.ones(len(names), bool)
        for row, name in enumerate(names):
            file = place
            try:
                check_id(name)
                for modality in format.modalities:
                    file = self._folders[modality.key].get(name, place)
                    if file != place:
                        vector = self._read(file, modality)
                        features[modality.name][row] = vector
                        present[modality.name][row] = True
                    elif format.missing == "refuse":
                        of_video = {k: name for k, files in self._folders.items() if name in files}
                        raise refuse_missing(modality, of_video)
            except MessageError as error:
                keep[row] = False
                Faults(file, skips).add(start + row, None, str(error), content=True)
        kept = [name for name, valid in zip(names, keep.tolist()) if valid]
        return Videos(
            np.array(kept, np.bytes_),
            np.zeros(len(kept) + 1, np.int64),
            np.empty(0, np.int32),
            {name: rows[keep] for name, rows in features.items()},
            {name: mask[keep] for name, mask in present.items()},
        )

    def _read(self, file: epath.Path, modality: Modality) -> np.ndarray:
        """f32[F] of one file. Raises MessageError."""
        vector, rows = _vector(file)
        if len(vector) != modality.width:
            raise MessageError(
                f"has width {len(vector)}, but {modality.name!r} needs {modality.width}"
            )
        if rows > 1:
            self._averaged[modality.name] += 1
            self._most = max(self._most, rows)
        return vector


def _vector(file: epath.Path) -> tuple[np.ndarray, int]:
    """(f32[F], T) of one file; T is 0 if it is not the mean of rows. Raises MessageError."""
    try:
        with file.open("rb") as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
            more = stream.read(1)
    except OSError:
        raise
    except Exception as error:  # the header is a Python literal and can fail in many ways
        raise MessageError(f"cannot be read as .npy: {error}") from error
    if array.dtype.kind != "f" or array.ndim not in (1, 2) or not array.size or more:
        raise MessageError(
            f"holds {array.dtype}{list(array.shape)}{' and more bytes' if more else ''}; expected "
            "floats, [width] or [frames, width]"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN are counted later
        if array.ndim == 1:
            return array.astype(np.float32), 0
        return array.mean(axis=0, dtype=np.float64).astype(np.float32), len(array)
