"""TFRecord shards become a feature table: read ahead, checked, and written as they come."""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import tyro
from etils import epath
from rich.console import Console

from vidembed.progress import Progress
from vidembed.records.arrays import TableError
from vidembed.records.checks import Checks, clipping, refusals
from vidembed.records.counts import check_counts, compared, read_counts, shard_names
from vidembed.records.faults import Skips
from vidembed.records.formats import Reading
from vidembed.records.remote import identities
from vidembed.records.shards import shards
from vidembed.records.space import named_spaces
from vidembed.records.streaming import stream_videos
from vidembed.records.table import DTYPES
from vidembed.records.table_folder import TableWriter, name_spaces, read_manifest, table_state
from vidembed.records.table_rows import (
    as_stored,
    beside_features,
    choose,
    import_report,
    report_lines,
)
from vidembed.records.youtube8m import Videos

Dtype = Literal["uint8", "bfloat16", "float32"]
STORED = ("dtype", "duplicates", "invalid", "on_error", "max_clipped_share")
"""Options that the manifest keeps, beside the format: what decides which rows there are."""


class RefusedError(TableError):
    """The records have faults that the options do not allow; the message lists every one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Importing(Reading):
    """How records become the rows of a table."""

    dtype: Dtype = "uint8"
    """how features are stored; uint8 is YouTube-8M's own quantisation over [-2, 2]."""
    duplicates: Literal["error", "first"] = "error"
    """stop at ids that occur again, or keep the first."""
    invalid: Literal["refuse", "drop", "mask"] = "refuse"
    """vectors with NaN or infinity, or all zero: refuse them, drop the video, or mask the
    modality."""
    on_error: Literal["error", "skip"] = "error"
    """stop at an unreadable record, or skip it (at most 100)."""
    max_clipped_share: float = 0.01
    """with uint8, the largest share of values beyond [-2, 2] to accept."""
    space: tuple[str, ...] = ()
    """what made the features: one NAME, or MODALITY=NAME for each, as visual=inception-pca. Numbers
    of two spaces are never compared; without a name, width, dtype and key stand for it."""
    force: bool = False
    """replace a finished table; the old one is removed when the first records are read."""


def import_videos(
    pattern: str | os.PathLike,
    path: str | os.PathLike,
    options: Importing = Importing(),
    *,
    progress: Callable[[int, int, int], object] = lambda *_: None,
) -> dict[str, Any]:
    """Import the shards that match `pattern` into a feature table at `path`; returns a report.

    Rows stand in the order of the sorted shards and of the records in them, however many workers
    there are. Memory holds a few chunks of 2,048 records a worker, and ids and labels (about 150
    bytes a video). The report's `findings` count unusable rows and duplicates, and name the first
    ten of each kind. A finished table of the same sources and options is left as it is; only a
    name of its space is added where it had none.
    progress: called with shards done, shards in all, records so far.

    Raises RecordError for unreadable records (unless skipped), RefusedError for whatever else is
    wrong, all of it, and TableError when the table cannot be written or holds other data.
    """
    began = time.monotonic()
    files = shards(pattern)
    format = options.format()
    space = named_spaces(options.space, list(format.widths))
    source = source_of(files, options)
    if not options.force and table_state(path) == "finished":
        report = _finished(path, source, read_counts(files, options.counts), pattern)
        name_spaces(path, space)
        return report

    checks, skips, kept = Checks(format.widths), Skips(), list[Videos]()
    writer: TableWriter | None = None
    try:
        for chosen in usable_videos(pattern, files, options, checks, skips, progress=progress):
            writer = writer or TableWriter(path, source=source, space=space, replace=options.force)
            writer.append(as_stored(chosen.features, DTYPES[options.dtype]))
            kept.append(chosen._replace(features={}))
        if writer is None or not writer.rows:
            raise RefusedError(_message(pattern, ["no usable records"]))
        progress(len(files), len(files), checks.rows)
        arrays = beside_features(kept)
        report = import_report(checks, skips, arrays, time.monotonic() - began)
        for entry in source["shards"]:
            entry["records"] = checks.records.get(entry["name"], 0)
        manifest = writer.finish(arrays, source={**source, "report": report})
    except Exception:
        # Half a table is of no use. (A kill leaves it, marked as unfinished: the next run clears.)
        if writer is not None:
            writer.abandon()
        raise
    return {**report, "fingerprint": manifest["fingerprint"], "already_there": False}


def source_of(files: Sequence[epath.Path], options: Importing) -> dict[str, Any]:
    """What is said of these shards and options, as JSON gives it back: equal where the rows are."""
    told = {"format": json.loads(json.dumps(dataclasses.asdict(options.format())))}
    told |= {name: getattr(options, name) for name in STORED}
    return {"options": told, "shards": identities(files, shard_names(files))}


def usable_videos(
    pattern: str | os.PathLike,
    files: Sequence[epath.Path],
    options: Importing,
    checks: Checks,
    skips: Skips,
    *,
    progress: Callable[[int, int, int], object] = lambda *_: None,
) -> Generator[Videos]:
    """The videos of the shards that the options keep, a chunk at a time, in order.

    After the last, or instead of those that follow a fault, raises RefusedError with all that is
    wrong; `checks` and `skips` count on the way. `progress` as for `import_videos`.
    """
    names, expected = shard_names(files), read_counts(files, options.counts)
    skipping = skips if options.on_error == "skip" else None
    stream = stream_videos(files, options.format(), skips=skipping, workers=options.workers)
    refused = partial(refusals, checks, duplicates=options.duplicates, invalid=options.invalid)
    try:
        for number, videos in stream:
            first, invalid = checks.add(names[number], videos)
            progress(number, len(files), checks.rows)
            if refused():
                continue  # to the end, so that every fault is named
            yield choose(videos, first, invalid, mask=options.invalid == "mask")
    finally:
        stream.close()
    found = compared(files, checks.records, skips.errors)
    faults = refused() + check_counts(found, expected, pattern)
    if options.dtype == "uint8":
        faults += clipping(checks, allowed_share=options.max_clipped_share)
    if faults:
        raise RefusedError(_message(pattern, faults))


def _finished(
    path: str | os.PathLike,
    source: Mapping[str, Any],
    expected: Mapping[str, int],
    pattern: str | os.PathLike,
) -> dict[str, Any]:
    """The report of the import that made this table; refused when it was another one."""
    manifest = read_manifest(path)
    there = manifest["source"]
    stored = [
        {k: v for k, v in entry.items() if k != "records"} for entry in there.get("shards", [])
    ]
    differing = [
        f"{key} is {source['options'][key]!r}, was {there.get('options', {}).get(key)!r}"
        for key in source["options"]
        if source["options"][key] != there.get("options", {}).get(key)
    ]
    if stored != source["shards"]:
        differing.append("the shards (their names, sizes or contents) are others")
    if differing:
        raise TableError(
            f"{os.fspath(path)} was imported otherwise: {'; '.join(differing)}. Choose another "
            "path, or replace the table with force (--force)"
        )
    found = {entry["name"]: entry["records"] for entry in there["shards"]}
    if there["report"]["skipped"] == 0 and (faults := check_counts(found, expected, pattern)):
        raise RefusedError(_message(pattern, faults))
    return {**there["report"], "fingerprint": manifest["fingerprint"], "already_there": True}


def _message(pattern: str | os.PathLike, faults: Sequence[str]) -> str:
    return "\n  - ".join([f"{os.fspath(pattern)} was not imported:", *faults])


def main(
    records: Annotated[str, tyro.conf.arg(metavar="RECORDS")],
    table: Annotated[str, tyro.conf.arg(metavar="TABLE")],
    options: Annotated[Importing, tyro.conf.arg(name="")] = Importing(),
) -> None:
    """Import video-level records into a feature table, checking them on the way.

    Running it again is safe: a finished import of the same records and options is recognised, an
    interrupted one starts anew.

    Args:
        records: TFRecord file, folder or glob, local or gs://.
        table: the folder to write, local, gs:// or s3://.
    """
    with Progress().stage(f"importing {records}", unit="shards") as stage:

        def progress(done: int, total: int, videos: int) -> None:
            stage.update(done, total, note=f"{videos:,} records")

        report = import_videos(records, table, options, progress=progress)
    console = Console(highlight=False, soft_wrap=True)
    for line in report_lines(table, report, invalid=options.invalid):
        console.print(line, markup=False)
