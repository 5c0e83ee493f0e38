"""Find the input files of an import, their kind, and the reader for them."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from os import PathLike, fspath
from os.path import realpath

from etils import epath

from vidembed.records import numpy_rows, parquet_rows
from vidembed.records.counts import shard_names
from vidembed.records.formats import Modality, Reading, VideoLevel, name_of
from vidembed.records.kind import NUMPY, PARQUET, RECORDS, kind_of
from vidembed.records.remote import requests_to
from vidembed.records.shards import shards
from vidembed.records.youtube8m import Videos

Read = Callable[..., Iterator[Videos]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """The files of a pattern, all of one kind.

    kind: RECORDS, PARQUET or NUMPY. shards: the files to read one after the other; for arrays only
    the file of ids. files: all files that are read. read: a reader like `read_videos`; None means
    `read_videos` itself.
    """

    kind: str
    shards: Sequence[epath.Path]
    files: Sequence[epath.Path]
    format: VideoLevel
    read: Read | None = None

    @property
    def names(self) -> list[str]:
        """File names of the shards; full paths if a name occurs twice."""
        return shard_names(self.shards)


def origin_of(pattern: str | PathLike[str], options: Reading) -> Origin:
    """Find the files of a pattern and detect their kind from their first bytes.

    Raises FileNotFoundError if nothing matches, and ValueError for files of several kinds, arrays
    without ids, or ids without arrays.
    """
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
    kinds = [kind if kind in (PARQUET, NUMPY) else RECORDS for kind in kinds]
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
    ids, arrays = epath.Path(str(options.ids)), {file.stem: file for file in files}
    format = options.format() if options.chosen else _of_arrays(arrays.values())
    read = partial(numpy_rows.read_rows, arrays=arrays)
    return Origin(kind=kind, shards=[ids], files=[*files, ids], format=format, read=read)


def _of_arrays(files: Iterable[epath.Path]) -> VideoLevel:
    """One modality per file, with its name and width."""
    widths = {file.stem: numpy_rows.read_features(file).shape[1] for file in files}
    modalities = tuple(Modality(name=name_of(n), key=n, width=w) for n, w in widths.items())
    return VideoLevel(modalities=modalities, labels_key=None)
