"""Where videos come from: which files, of which kind, and what reads them."""

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

    kind: RECORDS, PARQUET or NUMPY. shards: what is read one after the other, with their names;
    of arrays this is the file of ids alone. files: all that is read, with their names. read: as
    `read_videos`; None stands for that.
    """

    kind: str
    shards: Sequence[epath.Path]
    files: Sequence[epath.Path]
    format: VideoLevel
    read: Read | None = None

    @property
    def names(self) -> list[str]:
        """File names of the shards, whole paths where a name occurs twice."""
        return shard_names(self.shards)


def origin_of(pattern: str | PathLike[str], options: Reading) -> Origin:
    """What a pattern means, by the first bytes of its files.

    Raises FileNotFoundError where nothing matches, ValueError for files of several kinds, and for
    arrays without ids or ids without arrays.
    """
    files = shards(pattern)
    if options.ids is not None:
        if epath.Path(options.ids).is_dir():
            raise ValueError(
                f"{options.ids}: is a folder; --ids names a file, of text with an id a line or .npy"
            )
        # A glob of arrays may take the ids along.
        files = [file for file in files if realpath(file) != realpath(options.ids)]
    with requests_to(pattern) as pool:
        kinds = list(pool.map(kind_of, files))
    found = [*kinds]
    # What is of no kind that is known here, the reader of records names.
    kinds = [kind if kind in (PARQUET, NUMPY) else RECORDS for kind in kinds]
    if len({*kinds}) > 1:
        firsts = [kinds.index(kind) for kind in sorted({*kinds})]
        first = [f"{files[number]} is {found[number]}" for number in firsts]
        raise ValueError(f"{fspath(pattern)}: files of one kind are expected; {', '.join(first)}")
    kind = kinds[0] if kinds else NUMPY
    if (kind == NUMPY) != (options.ids is not None) or not files:
        raise ValueError(
            f"{fspath(pattern)}: --ids FILE names the ids of .npy files, a line or an item for "
            f"each row, and is given with these alone; "
            + (f"{files[0]} is {found[0]}" if files else "no array of features is there")
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
    """One modality for each file, of its name and width."""
    widths = {file.stem: numpy_rows.read_features(file).shape[1] for file in files}
    modalities = tuple(Modality(name=name_of(n), key=n, width=w) for n, w in widths.items())
    return VideoLevel(modalities=modalities, labels_key=None)
