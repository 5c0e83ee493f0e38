"""Where the videos to embed are: a feature table or records, whole or one share, block by block."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vidembed.records.checks import Checks
from vidembed.records.faults import Skips
from vidembed.records.importing import Importing
from vidembed.records.kind import NUMPY
from vidembed.records.origin import origin_of
from vidembed.records.space import named_spaces
from vidembed.records.table import DTYPES, FeatureTable
from vidembed.records.table_folder import table_state
from vidembed.records.table_rows import as_stored, stored_as
from vidembed.records.usable import source_of, usable_videos

BLOCK_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class Share:
    """Part `number` of `of` equal ones, counted from 1; all of them make the whole, in order."""

    number: int = 1
    of: int = 1

    @staticmethod
    def parse(text: str) -> "Share":
        """From "i/n", i from 1; "" is the whole. Raises ValueError."""
        number, slash, of = (text or "1/1").partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise ValueError(f"shard {text!r} is not of the form I/N, as 1/4 to 4/4")
        return Share(number=int(number), of=int(of))

    def part(self, count: int) -> slice:
        """Its part of `count` things."""
        return slice(count * (self.number - 1) // self.of, count * self.number // self.of)

    def nothing_of(self, path: object, count: int, what: str) -> ValueError:
        """The error for a part that is empty."""
        return ValueError(
            f"{path} holds {count} {what}: there is nothing to embed in part {self.number} of "
            f"{self.of}"
        )


@dataclass(frozen=True, kw_only=True)
class VideosToEmbed:
    """identity: what the videos are, as JSON; equal for equal videos. total: how many there are, or
    None before records are read. blocks: the videos, a table at a time. inputs: the paths that are
    read."""

    identity: dict[str, Any]
    total: int | None
    blocks: Callable[[], Iterator[FeatureTable]] = field(repr=False)
    inputs: tuple[str | os.PathLike[str] | None, ...] = ()


def videos_to_embed(
    path: str | os.PathLike[str], options: Importing = Importing(), share: Share = Share()
) -> VideosToEmbed:
    """The videos of a feature table, or of TFRecords, Parquet or .npy files (one, a folder or a
    glob), as an import with these options would store them.

    Of a table a share is a range of rows, of records a range of files. Raises ValueError where a
    share holds nothing; the blocks raise what an import does.
    """
    if options.append:
        raise ValueError("--append adds to a table that is imported; vectors are written anew")
    named = {"part": f"{share.number}/{share.of}"}
    if table_state(path) in ("finished", "unfinished"):
        table = FeatureTable.open(path)
        rows = np.arange(len(table))[share.part(len(table))]
        if not len(rows):
            raise share.nothing_of(path, len(table), "videos")
        identity = {"table": table.fingerprint, "space": table.space} | named
        return VideosToEmbed(
            identity=identity,
            total=len(rows),
            blocks=lambda: _of_table(table, rows),
            inputs=(path,),
        )
    whole = origin_of(path, options)
    part = share.part(len(whole.shards))
    if not whole.shards[part]:
        raise share.nothing_of(path, len(whole.shards), "files")
    # Arrays are read beside their one file of ids, so that they have but one share.
    files = whole.files if whole.kind == NUMPY else whole.files[part]
    origin = replace(whole, shards=whole.shards[part], files=files)
    source = source_of(origin, options)
    # A share asks for its own files: what the others should hold is not looked at.
    pattern = str(path) if share.of == 1 else str(origin.shards[0])
    space = named_spaces(options.space, list(origin.format.widths))

    def of_records() -> Iterator[FeatureTable]:
        checks = Checks(origin.format.widths, stored_as(options.dtype))
        passing = usable_videos(pattern, origin, options, checks, Skips(), among={})
        with closing(passing):
            for videos in passing:
                yield FeatureTable(
                    ids=videos.ids,
                    features=as_stored(videos.features, DTYPES[options.dtype]),
                    present={m: mask for m, mask in videos.present.items() if not mask.all()},
                    label_offsets=videos.label_offsets,
                    label_values=videos.label_values,
                    manifest={"source": source, "space": space},
                )

    identity = source | {"space": space} | named
    inputs = (path, options.ids, options.counts)
    return VideosToEmbed(identity=identity, total=None, blocks=of_records, inputs=inputs)


def part_of_table(table: FeatureTable, rows: np.ndarray) -> FeatureTable:
    """The videos of these rows i64[n], in their order, of the same spaces."""
    lengths = np.diff(table.label_offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = np.repeat(table.label_offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return replace(
        table,
        ids=table.ids[rows],
        features=table.rows(rows),
        present={m: mask[rows] for m, mask in table.present.items()},
        label_offsets=offsets,
        label_values=table.label_values[values],
        manifest={name: table.manifest.get(name, {}) for name in ("source", "space")},
    )


def _of_table(table: FeatureTable, rows: np.ndarray) -> Iterator[FeatureTable]:
    for start in range(0, len(rows), BLOCK_ROWS):
        yield part_of_table(table, rows[start : start + BLOCK_ROWS])
