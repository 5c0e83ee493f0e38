"""The range of bytes with which an import stores each modality."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from vidembed.records.arrays import TableError
from vidembed.records.byte_ranges import named_ranges
from vidembed.records.bytecode import YOUTUBE_8M, Range
from vidembed.records.faults import Skips
from vidembed.records.origin import Origin
from vidembed.records.streaming import stream_videos

if TYPE_CHECKING:
    from vidembed.records.importing import Importing

AUTO = ("auto",)


def chosen_ranges(origin: Origin, options: "Importing") -> dict[str, Range]:
    """Modality -> the range that the options choose for its bytes, where it is not YouTube-8M's.

    Raises ValueError for malformed options, and for a range of features that are not uint8.
    """
    words = options.byte_range
    if words and options.row_dtype != "uint8":
        raise ValueError(
            f"--byte-range is for uint8, found --dtype {options.row_dtype}: leave one of them out"
        )
    if words == AUTO:
        ranges = measured_ranges(origin, workers=options.workers)
    else:
        ranges = named_ranges(words, list(origin.format.widths))
    return {name: range for name, range in ranges.items() if range != YOUTUBE_8M}


def kept_ranges(
    origin: Origin, options: "Importing", of_table: Mapping[str, Range]
) -> Mapping[str, Range]:
    """The ranges of the table to append to; TableError if the options choose others."""
    if options.byte_range and (
        options.byte_range == AUTO or chosen_ranges(origin, options) != of_table
    ):
        kept = ", ".join(f"{name} {range}" for name, range in of_table.items())
        raise TableError(
            f"--append keeps the ranges of the table's bytes ({kept or str(YOUTUBE_8M)}): leave "
            "--byte-range out"
        )
    return of_table


def measured_ranges(origin: Origin, *, workers: int) -> dict[str, Range]:
    """The smallest range that holds every finite value of a modality, in one pass over the files.

    Nothing is clipped then. Unreadable records are ignored here: they are reported when the videos
    are imported.
    """
    spans = dict.fromkeys(origin.format.widths, (np.inf, -np.inf))
    skips = Skips(limit=2**62, quiet=True)
    stream = stream_videos(
        origin.shards, origin.format, skips=skips, workers=workers, read_file=origin.read
    )
    try:
        for _, videos in stream:
            for name, rows in videos.features.items():
                rows = rows[videos.present[name]]
                rows = rows[np.isfinite(rows).all(axis=1)]
                low, high = spans[name]
                spans[name] = (
                    min(low, rows.min(initial=np.inf)),
                    max(high, rows.max(initial=-np.inf)),
                )
    finally:
        stream.close()
    return {name: Range.covering(*span) for name, span in spans.items() if span[0] <= span[1]}
