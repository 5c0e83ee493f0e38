"""Read the videos to embed block by block: from a feature table or records, all or one share."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from vidembed.deploy.frames import frame_blocks, frame_layout, holds_frames
from vidembed.records.checks import Checks
from vidembed.records.embeddings import with_embeddings
from vidembed.records.faults import Skips
from vidembed.records.frame_table import frame_source
from vidembed.records.import_ranges import chosen_ranges
from vidembed.records.importing import Importing
from vidembed.records.kind import NUMPY, RECORDS
from vidembed.records.origin import origin_of
from vidembed.records.space import named_spaces
from vidembed.records.stored_options import with_stored
from vidembed.records.table import DTYPES, FeatureTable
from vidembed.records.table_folder import table_state
from vidembed.records.table_rows import as_stored, stored_as
from vidembed.records.usable import source_of, usable_videos

BLOCK_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class Share:
    """Part `number`, counted from 1, of `of` equal consecutive parts."""

    number: int = 1
    of: int = 1

    @staticmethod
    def parse(text: str) -> "Share":
        """Parse "i/n", with i from 1; "" is the whole. Raises ValueError."""
        number, slash, of = (text or "1/1").partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise ValueError(f"shard {text!r} is not I/N with I from 1 to N, such as 1/4 to 4/4")
        return Share(number=int(number), of=int(of))

    def part(self, count: int) -> slice:
        """The range of this part among `count` items."""
        return slice(count * (self.number - 1) // self.of, count * self.number // self.of)

    def empty_error(self, path: object, count: int, what: str) -> ValueError:
        """The error for an empty part."""
        return ValueError(
            f"{path} holds {count} {what}, so part {self.number} of {self.of} is empty: nothing to "
            "embed"
        )


@dataclass(frozen=True, kw_only=True)
class VideosToEmbed:
    """Videos in blocks. identity: JSON that is equal for equal videos. total: their number, or None
    before records are read. blocks: iterates over the videos as small tables. inputs: the paths
    that are read. windows: whether ids are those of windows (`records.window_ids`)."""

    identity: dict[str, Any]
    total: int | None
    blocks: Callable[[], Iterator[FeatureTable]] = field(repr=False)
    inputs: tuple[str | os.PathLike[str] | None, ...] = ()
    windows: bool = False


def videos_to_embed(
    path: str | os.PathLike[str],
    options: Importing = Importing(),
    share: Share = Share(),
    embeddings: Sequence[str] = (),
    *,
    imported: Mapping[str, Any] = {},
    reads: Collection[str] = (),
) -> VideosToEmbed:
    """The videos of a feature table, or of TFRecords, Parquet or .npy files (a file, a folder or a
    glob), as an import with these options would store them. Frame-level TFRecords are pooled.

    embeddings: files of vectors that become modalities of a table; see `with_embeddings`.

    A share of a table is a range of rows; a share of records is a range of files. imported: the
    options of an earlier import (`Run.imported`), for those that are not given. reads: the
    modalities that are used, for frame-level records. Raises ValueError
    if the share is empty; iterating over the blocks raises what an import raises.
    """
    if options.append:
        raise ValueError("--append adds to an imported table; vectors are always written anew")
    named = {"part": f"{share.number}/{share.of}"}
    if table_state(path) in ("finished", "unfinished"):
        table, _ = with_embeddings(FeatureTable.open(path), embeddings)
        rows = np.arange(len(table))[share.part(len(table))]
        if not len(rows):
            raise share.empty_error(path, len(table), "videos")
        identity = {"table": table.fingerprint, "space": table.space} | named
        return VideosToEmbed(
            identity=identity,
            total=len(rows),
            blocks=lambda: _of_table(table, rows),
            inputs=(path, *embeddings),
            windows=_of_windows(table),
        )
    if embeddings:
        raise ValueError(
            f"{path} is not a feature table: embeddings are joined with a table (import first)"
        )
    given, options = options, with_stored(path, options, imported)
    whole = origin_of(path, options)
    part = share.part(len(whole.shards))
    if not whole.shards[part]:
        raise share.empty_error(path, len(whole.shards), "files")
    # All arrays share one file of ids, so they have only one share.
    files = whole.files if whole.kind == NUMPY else whole.files[part]
    origin = replace(whole, shards=whole.shards[part], files=files)
    if whole.kind == RECORDS and holds_frames(origin.files[0]):
        layout = frame_layout(given, imported.get("frames", {}))
        identity = frame_source(origin.files, layout) | {"space": list(layout.space)} | named
        blocks = partial(frame_blocks, str(path), origin.files, layout, reads)
        return VideosToEmbed(identity=identity, total=None, blocks=blocks, inputs=(path,))
    source = source_of(origin, options)
    # A share checks its own files only.
    pattern = str(path) if share.of == 1 else str(origin.shards[0])
    space = named_spaces(options.space, list(origin.format.widths))
    ranges = chosen_ranges(origin, options)

    def of_records() -> Iterator[FeatureTable]:
        checks = Checks(origin.format.widths, stored_as(options.row_dtype), ranges=ranges)
        passing = usable_videos(pattern, origin, options, checks, Skips(), among={})
        with closing(passing):
            for videos in passing:
                yield FeatureTable(
                    ids=videos.ids,
                    features=as_stored(videos.features, DTYPES[options.row_dtype], ranges),
                    ranges=ranges,
                    present={m: mask for m, mask in videos.present.items() if not mask.all()},
                    label_offsets=videos.label_offsets,
                    label_values=videos.label_values,
                    manifest={"source": source, "space": space},
                )

    identity = source | {"space": space} | named
    inputs = (path, options.ids, options.counts)
    return VideosToEmbed(identity=identity, total=None, blocks=of_records, inputs=inputs)


def part_of_table(table: FeatureTable, rows: np.ndarray) -> FeatureTable:
    """The videos at the rows i64[n], in this order, in the same spaces."""
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
        frames=None if table.frames is None else table.frames.part(rows),
        manifest={
            name: table.manifest.get(name, {}) for name in ("source", "space", "may_be_zero")
        },
    )


def _of_windows(table: FeatureTable) -> bool:
    """Whether `extract --window` made the table."""
    options = table.manifest.get("source", {}).get("options", {})
    return options.get("extract", {}).get("window") is not None


def _of_table(table: FeatureTable, rows: np.ndarray) -> Iterator[FeatureTable]:
    for start in range(0, len(rows), BLOCK_ROWS):
        yield part_of_table(table, rows[start : start + BLOCK_ROWS])
