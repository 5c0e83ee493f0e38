"""Select the videos that an import keeps, and collect the faults that it refuses."""

import dataclasses
import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from vidembed.records.arrays import TableError
from vidembed.records.checks import Checks, refusals
from vidembed.records.counts import check_counts, compared, read_counts
from vidembed.records.faults import ContentError, Skips
from vidembed.records.lossy import appended_rounded, clipping, rounded
from vidembed.records.origin import Origin
from vidembed.records.rounding import Rounding
from vidembed.records.schema import advice
from vidembed.records.streaming import stream_videos
from vidembed.records.table_rows import choose
from vidembed.records.youtube8m import Videos

if TYPE_CHECKING:
    from vidembed.records.importing import Importing

STORED = ("dtype", "duplicates", "invalid", "on_error", "max_clipped_share")
"""Options stored in the manifest besides the format: those that determine the rows."""


class RefusedError(TableError):
    """Raised for records with faults that the options do not allow; the message lists all."""


def refusal(pattern: str | os.PathLike, faults: Sequence[str]) -> RefusedError:
    """The error that lists these faults."""
    lines = [f"{os.fspath(pattern)} is refused:", *faults]
    return RefusedError("\n  - ".join(lines))


def source_of(origin: Origin, options: "Importing") -> dict[str, Any]:
    """The manifest's entry for these files and options, in JSON types: equal for equal rows."""
    stored = {"format": json.loads(json.dumps(dataclasses.asdict(origin.format)))}
    stored |= {name: getattr(options, name) for name in STORED} | {"dtype": options.row_dtype}
    if options.byte_range:
        stored["byte_range"] = list(options.byte_range)
    return {"options": stored, "shards": origin.identities()}


def usable_videos(
    pattern: str | os.PathLike,
    origin: Origin,
    options: "Importing",
    checks: Checks,
    skips: Skips,
    *,
    among: Mapping[str, Rounding] | None = None,
    progress: Callable[[int, int, int], object] = lambda *_: None,
) -> Generator[Videos]:
    """The videos that the options keep, in chunks and in order; close it when leaving early.

    After a fault it yields no more videos, and at the end it raises RefusedError with all faults.
    `checks` and `skips` are updated. among: modality → statistics of the table to append to,
    because the spread of a few videos says little. `progress` as for `import_videos`.
    """
    expected = read_counts(origin.shards, options.counts)
    skipping = skips if options.on_error == "skip" else None
    stream = stream_videos(
        origin.shards, origin.format, skips=skipping, workers=options.workers, read_file=origin.read
    )
    refused = partial(refusals, checks, duplicates=options.duplicates, invalid=options.invalid)
    try:
        for number, videos in stream:
            first, invalid = checks.add(origin.names[number], videos)
            progress(number, len(origin.shards), checks.rows)
            if refused():
                continue  # read to the end to list every fault
            yield choose(videos, first, invalid, mask=options.invalid == "mask")
    except ContentError as error:
        if more := advice(origin, pattern, options):
            fault = error.fault + more
            raise ContentError(error.path, error.record, error.offset, fault) from error
        raise
    finally:
        stream.close()
    counts = compared(origin.shards, checks.records, skips.errors)
    faults = refused() + check_counts(counts, expected, pattern)
    dtype = options.row_dtype
    if dtype == "uint8":
        faults += clipping(checks, allowed_share=options.max_clipped_share)
    if among is None:
        faults += rounded(checks, dtype, beyond=options.max_rounding)
    else:
        faults += appended_rounded(checks, dtype, among=among, beyond=options.max_rounding)
    if faults:
        raise refusal(pattern, faults)
