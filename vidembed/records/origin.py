"""Find the input files of an import, their kind, and the reader for them."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike, fspath
from os.path import realpath
from typing import Any

import xxhash
from etils import epath

from vidembed.records import npz_rows, numpy_rows, parquet_rows, video_folders
from vidembed.records.counts import shard_names
from vidembed.records.formats import Modality, Reading, VideoLevel, name_of
from vidembed.records.kind import NPZ, NUMPY, PARQUET, RECORDS, kind_of
from vidembed.records.remote import identities, requests_to
from vidembed.records.shards import shards
from vidembed.records.youtube8m import Videos

Read = Callable[..., Iterator[Videos]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """The files of a pattern, all of one kind.

    kind: RECORDS, PARQUET, NUMPY or NPZ. shards: the files to read one after the other; for arrays
    only the file of ids, or the folder of folders. files: all files that are read. read: a reader
    like `read_videos`; None means `read_videos` itself. groups: name → files that are one part of
    the source, if they are too many to be named one by one.
    """

    kind: str
    shards: Sequence[epath.Path]
    files: Sequence[epath.Path]
    format: VideoLevel
    read: Read | None = None
    groups: Mapping[str, Sequence[epath.Path]] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """File names of the shards; full paths if a name occurs twice."""
        return shard_names(self.shards)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the last reading did to the features, for the user."""
        notes: tuple[str, ...] = getattr(self.read, "notes", ())
        return notes

    def identities(self) -> list[dict[str, Any]]:
        """{name, bytes, ends} of each file, or of each group of files: the same for a copy."""
        if not self.groups:
            return identities(self.files, shard_names(self.files))
        found = []
        for name, files in self.groups.items():
            each = identities(files, [file.name for file in files])
            digest = xxhash.xxh3_128(repr([tuple(one.values()) for one in each]).encode())
            size = sum(one["bytes"] for one in each)
            found.append({"name": name, "bytes": size, "ends": digest.hexdigest()})
        return found


def origin_of(pattern: str | PathLike[str], options: Reading) -> Origin:
    """Find the files of a pattern and detect their kind from their first bytes.

    Raises FileNotFoundError if nothing matches, and ValueError for files of several kinds, arrays
    without ids, or ids without arrays.
    """
    if folders := video_folders.modality_folders(pattern):
        return _of_folders(pattern, folders, options)
    files = shards(pattern)
    if options.ids is not None:
        if epath.Path(options.ids).is_dir():
            raise ValueError(
                f"{options.ids}: is a folder; give --ids a text file with one id per line, or .npy"
            )
        # A glob of arrays may also match the file of ids.
        files = [file for file in files if realpath(file) != realpath(options.ids)]
    with requests_to(pattern) as pool:
        kinds = list(pool.map(kind_of, files))
    detected = [*kinds]
    # The record reader reports files of any other kind.
    kinds = [kind if kind in (PARQUET, NUMPY, NPZ) else RECORDS for kind in kinds]
    if len({*kinds}) > 1:
        firsts = [kinds.index(kind) for kind in sorted({*kinds})]
        first = [f"{files[number]} is {detected[number]}" for number in firsts]
        raise ValueError(f"{fspath(pattern)}: expected files of one kind; {', '.join(first)}")
    kind = kinds[0] if kinds else NUMPY
    if (kind == NUMPY) != (options.ids is not None) or not files:
        raise ValueError(
            f"{fspath(pattern)}: --ids FILE holds the ids of .npy files, one line or item per row, "
            "and is required for these and only these; "
            + (f"{files[0]} is {detected[0]}" if files else "there is no array of features")
        )
    if kind == RECORDS:
        return Origin(kind=kind, shards=files, files=files, format=options.format())
    if kind == PARQUET:
        read: Read = parquet_rows.read_rows
        return Origin(kind=kind, shards=files, files=files, format=options.format(), read=read)
    if kind == NPZ:
        format = (
            options.format() if options.chosen else npz_rows.format_of(files[0], options.id_key)
        )
        read = npz_rows.read_rows
        return Origin(kind=kind, shards=files, files=files, format=format, read=read)
    ids, arrays = epath.Path(str(options.ids)), {file.stem: file for file in files}
    format = options.format() if options.chosen else _of_arrays(arrays.values())
    read = partial(numpy_rows.read_rows, arrays=arrays)
    return Origin(kind=kind, shards=[ids], files=[*files, ids], format=format, read=read)


def _of_folders(
    pattern: str | PathLike[str],
    folders: Mapping[str, Mapping[bytes, epath.Path]],
    options: Reading,
) -> Origin:
    """A folder per modality; a video that lacks a modality is masked unless options refuse it."""
    if options.ids is not None:
        raise ValueError(
            f"{fspath(pattern)}: the ids of videos are the names of their files: leave --ids out"
        )
    format = options.format() if options.chosen else video_folders.format_of(folders)
    format = dataclasses.replace(format, missing=options.missing or "mask")
    keys = [modality.key for modality in format.modalities]
    if absent := [key for key in keys if key not in folders]:
        raise ValueError(
            f"{fspath(pattern)}: no folder {', '.join(absent)} among {', '.join(folders)}: name "
            "those that are there (--modalities)"
        )
    groups = {key: [folders[key][name] for name in sorted(folders[key])] for key in keys}
    return Origin(
        kind=NUMPY,
        shards=[epath.Path(pattern)],
        files=[file for files in groups.values() for file in files],
        format=format,
        read=video_folders.FolderReader(folders),
        groups=groups,
    )


def _of_arrays(files: Iterable[epath.Path]) -> VideoLevel:
    """One modality per file, with its name and width."""
    widths = {file.stem: numpy_rows.read_features(file).shape[1] for file in files}
    modalities = tuple(Modality(name=name_of(n), key=n, width=w) for n, w in widths.items())
    return VideoLevel(modalities=modalities, labels_key=None)
