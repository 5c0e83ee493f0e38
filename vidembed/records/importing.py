"""TFRecord shards become a feature table: read ahead, checked, and written as they come."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from vidembed.progress import Progress
from vidembed.records.arrays import TableError
from vidembed.records.checks import Checks, alike, not_text
from vidembed.records.counts import check_counts, read_counts
from vidembed.records.faults import Skips
from vidembed.records.formats import Reading
from vidembed.records.lossy import off_scale, rounded
from vidembed.records.origin import Origin, origin_of
from vidembed.records.outputs import check_apart
from vidembed.records.schema import advice
from vidembed.records.space import named_spaces
from vidembed.records.table import DTYPES
from vidembed.records.table_append import TableExtension
from vidembed.records.table_folder import TableWriter, name_spaces, read_manifest, table_state
from vidembed.records.table_lock import writing
from vidembed.records.table_rows import (
    as_stored,
    beside_features,
    import_report,
    report_lines,
    stored_as,
)
from vidembed.records.usable import RefusedError as RefusedError
from vidembed.records.usable import refusal, source_of, usable_videos
from vidembed.records.youtube8m import Videos

Dtype = Literal["uint8", "bfloat16", "float32"]


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
    max_rounding: float = 0.1
    """the largest rounding by the dtype to accept, as a share of the features' spread; above 0.03
    it is warned of."""
    space: tuple[str, ...] = ()
    """what made the features: one NAME, or MODALITY=NAME for each, as visual=inception-pca. Numbers
    of two spaces are never compared; without a name, width, dtype and key stand for it."""
    append: bool = False
    """add the videos to the finished table TABLE, of the same modalities, dtype and space: all or
    none. Ids that it holds already are refused, or left out with --duplicates first."""
    force: bool = False
    """replace a finished table. The old one stays until the new one is whole, however the import
    ends, so the disk must hold both for a while."""


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
    wrong, all of it, OutputError where the table is among what is read, and TableError when it
    cannot be written, holds other data, or is being written by another process.
    """
    began = time.monotonic()
    check_apart(path, (pattern, options.ids, options.counts))
    origin = origin_of(pattern, options)
    if options.append and options.force:
        raise ValueError("--append adds to a table and --force replaces it: give one of them")
    with writing(path):
        return _import(pattern, origin, path, options, progress, began=began)


def _import(
    pattern: str | os.PathLike,
    origin: Origin,
    path: str | os.PathLike,
    options: Importing,
    progress: Callable[[int, int, int], object],
    *,
    began: float,
) -> dict[str, Any]:
    """As `import_videos`, where nobody else writes the table."""
    files, format = origin.shards, origin.format
    space, source = named_spaces(options.space, list(format.widths)), source_of(origin, options)
    if not options.append and not options.force and table_state(path) == "finished":
        report = _finished(path, source, read_counts(files, options.counts), pattern)
        name_spaces(path, space)
        return report

    checks, skips, kept = Checks(format.widths, stored_as(options.dtype)), Skips(), list[Videos]()
    writer: TableWriter | TableExtension | None = None
    if options.append:
        writer = TableExtension(
            path, source=source, space=space, widths=format.widths, dtype=options.dtype
        )
        if earlier := writer.earlier():
            fingerprint = writer.manifest["fingerprint"]
            return {**earlier, "fingerprint": fingerprint, "already_there": True}
        checks.know(writer.ids, os.fspath(path))
    among = writer.known() if isinstance(writer, TableExtension) else None
    videos = usable_videos(pattern, origin, options, checks, skips, among=among, progress=progress)
    try:
        for chosen in videos:
            writer = writer or TableWriter(path, source=source, space=space, replace=options.force)
            writer.append(as_stored(chosen.features, DTYPES[options.dtype]))
            kept.append(chosen._replace(features={}))
        if writer is None or not writer.rows:
            raise refusal(pattern, ["no usable records" + advice(origin, pattern, options)])
        progress(len(files), len(files), checks.rows)
        arrays = beside_features(kept)
        report = import_report(checks, skips, arrays, time.monotonic() - began)
        spread = [*rounded(checks, options.dtype), *alike(checks)] if among is None else []
        report["warnings"] = spread + off_scale(checks, among or {}) + not_text(checks)
        for entry in source["shards"]:
            entry["records"] = checks.records.get(entry["name"], 0)
        manifest = writer.finish(arrays, source={**source, "report": report})
    except BaseException:  # to be asked to stop is no Exception
        # Half a table is of no use. (A kill leaves it, marked as unfinished: the next run clears.)
        if writer is not None:
            writer.abandon()
        raise
    finally:
        videos.close()
    return {**report, "fingerprint": manifest["fingerprint"], "already_there": False}


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
        raise refusal(pattern, faults)
    return {**there["report"], "fingerprint": manifest["fingerprint"], "already_there": True}


def main(
    records: Annotated[str, tyro.conf.arg(metavar="RECORDS")],
    table: Annotated[str, tyro.conf.arg(metavar="TABLE")],
    options: Annotated[Importing, tyro.conf.arg(name="")] = Importing(),
) -> None:
    """Import features of videos into a table, checking them on the way.

    Running it again is safe: a finished import of the same records and options is recognised, an
    interrupted one starts anew and clears what was left. While one writes a table, another is
    refused, but on gs:// and s3://, which have no locks: write there one at a time.

    Args:
        records: file, folder or glob of TFRecords or Parquet, local or gs://, or of .npy, local.
        table: the folder to write, local, gs:// or s3://.
    """
    with Progress().stage(f"importing {records}", unit="shards") as stage:

        def progress(done: int, total: int, videos: int) -> None:
            stage.update(done, total, note=f"{videos:,} records")

        report = import_videos(records, table, options, progress=progress)
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    for line in report_lines(table, report, invalid=options.invalid):
        console.print(line, markup=False)
