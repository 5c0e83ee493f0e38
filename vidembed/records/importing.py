"""Import shards of features into a feature table: read ahead, check, and write as they come."""

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
from vidembed.records.import_ranges import chosen_ranges, kept_ranges
from vidembed.records.lossy import FEW_CLIPPED, clipping, off_scale, rounded
from vidembed.records.origin import Origin, origin_of
from vidembed.records.outputs import check_apart
from vidembed.records.schema import advice
from vidembed.records.space import named_spaces
from vidembed.records.stored_options import options_of, with_stored
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
    """Options for importing records as the rows of a table."""

    dtype: Dtype | None = None
    """dtype of the stored features; uint8, YouTube-8M's own quantisation over [-2, 2], if not
    given."""
    byte_range: tuple[str, ...] = ()
    """with uint8, the values that bytes cover: LOW:HIGH, or MODALITY=LOW:HIGH for each; auto takes
    the smallest and largest value of each modality, in one more pass over the files. [-2, 2] if not
    given. Larger and smaller values are clipped."""
    duplicates: Literal["error", "first"] = "error"
    """stop at repeated ids, or keep the first."""
    invalid: Literal["refuse", "drop", "mask"] = "refuse"
    """vectors with NaN or infinity, or all zero: refuse them, drop the video, or mask the
    modality."""
    on_error: Literal["error", "skip"] = "error"
    """stop at an unreadable record, or skip it (at most 100)."""
    max_clipped_share: float = 0.01
    """with uint8, the largest accepted share of values beyond the range of the bytes."""
    max_rounding: float = 0.1
    """the largest accepted rounding by the dtype, as a share of the features' spread; above 0.03
    there is a warning."""
    space: tuple[str, ...] = ()
    """the network that made the features: one NAME, or MODALITY=NAME for each, such as
    visual=inception-pca. Features of two spaces are never compared; without a name, width, dtype
    and key identify the space."""
    append: bool = False
    """add the videos, all or none, to the finished table TABLE. Modalities, keys, dtype and space
    are those of its import if not given. Ids already in it are refused, or, with --duplicates
    first, skipped."""
    force: bool = False
    """replace a finished table. The old table stays until the new one is complete, so the disk
    must hold both for a while."""

    @property
    def row_dtype(self) -> Dtype:
        """dtype of the stored features: the given one, or uint8."""
        return self.dtype or "uint8"


def import_videos(
    pattern: str | os.PathLike,
    path: str | os.PathLike,
    options: Importing = Importing(),
    *,
    progress: Callable[[int, int, int], object] = lambda *_: None,
) -> dict[str, Any]:
    """Import the shards that match `pattern` into a feature table at `path`; returns a report.

    Rows follow the order of the sorted shards and of the records in them, for any number of
    workers. Memory holds a few chunks of 2,048 records per worker, and ids and labels (about 150
    bytes per video). The report's `findings` count unusable rows and duplicates, and name the first
    ten of each kind. A finished table of the same sources and options is not changed, except that
    a missing name of its space is added.
    progress: called with shards done, shards in all, records so far.

    Raises RecordError for unreadable records (unless skipped), RefusedError with the list of all
    other faults, OutputError if the table is among the inputs, and TableError if it cannot be
    written, holds other data, or is being written by another process.
    """
    began = time.monotonic()
    check_apart(path, (pattern, options.ids, options.counts))
    if options.append and options.force:
        raise ValueError("--append adds to a table and --force replaces it: give only one of them")
    if options.append:
        options = with_stored(pattern, options, options_of(read_manifest(path)))
    origin = origin_of(pattern, options)
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
    """As `import_videos`, with the table locked."""
    files, format = origin.shards, origin.format
    space, source = named_spaces(options.space, list(format.widths)), source_of(origin, options)
    if not options.append and not options.force and table_state(path) == "finished":
        report = _finished(path, source, read_counts(files, options.counts), pattern)
        name_spaces(path, space)
        return report

    skips, chunks = Skips(), list[Videos]()
    writer: TableWriter | TableExtension | None = None
    if options.append:
        writer = TableExtension(
            path, source=source, space=space, widths=format.widths, dtype=options.row_dtype
        )
        if earlier := writer.earlier():
            fingerprint = writer.manifest["fingerprint"]
            return {**earlier, "fingerprint": fingerprint, "already_there": True}
        ranges = kept_ranges(origin, options, writer.ranges)
    else:
        ranges = chosen_ranges(origin, options)
    checks = Checks(format.widths, stored_as(options.row_dtype), ranges=ranges)
    if isinstance(writer, TableExtension):
        checks.add_existing(writer.ids, os.fspath(path))
    among = writer.statistics() if isinstance(writer, TableExtension) else None
    videos = usable_videos(pattern, origin, options, checks, skips, among=among, progress=progress)
    try:
        for chosen in videos:
            writer = writer or TableWriter(
                path, source=source, space=space, replace=options.force, ranges=ranges
            )
            writer.append(as_stored(chosen.features, DTYPES[options.row_dtype], ranges))
            chunks.append(chosen._replace(features={}))
        if writer is None or not writer.rows:
            raise refusal(pattern, ["no usable records" + advice(origin, pattern, options)])
        progress(len(files), len(files), checks.rows)
        arrays = beside_features(chunks)
        report = import_report(checks, skips, arrays, time.monotonic() - began)
        spread = [*rounded(checks, options.row_dtype), *alike(checks)] if among is None else []
        clipped = clipping(checks, allowed_share=FEW_CLIPPED) if among and ranges else []
        report["warnings"] = spread + clipped + off_scale(checks, among or {}) + not_text(checks)
        report["notes"] = list(origin.notes)
        for entry in source["shards"]:
            entry["records"] = checks.records.get(entry["name"], 0)
        manifest = writer.finish(arrays, source={**source, "report": report})
    except BaseException:  # a stop request does not derive from Exception
        # Remove the partial table. (A kill leaves it, marked as unfinished, and the next run
        # removes it.)
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
    """The report of the import that made this table; TableError if sources or options differ."""
    manifest = read_manifest(path)
    earlier = manifest["source"]
    stored = [
        {k: v for k, v in entry.items() if k != "records"} for entry in earlier.get("shards", [])
    ]
    differing = [
        f"{key} is {source['options'].get(key)!r}, was {earlier.get('options', {}).get(key)!r}"
        for key in dict.fromkeys([*source["options"], "byte_range"])
        if source["options"].get(key) != earlier.get("options", {}).get(key)
    ]
    if stored != source["shards"]:
        differing.append("the shards differ (in names, sizes or contents)")
    if differing:
        raise TableError(
            f"{os.fspath(path)} was imported differently: {'; '.join(differing)}. Choose another "
            "path, or replace the table (--force)"
        )
    counts = {entry["name"]: entry["records"] for entry in earlier["shards"]}
    if earlier["report"]["skipped"] == 0 and (faults := check_counts(counts, expected, pattern)):
        raise refusal(pattern, faults)
    return {**earlier["report"], "fingerprint": manifest["fingerprint"], "already_there": True}


def main(
    records: Annotated[str, tyro.conf.arg(metavar="RECORDS")],
    table: Annotated[str, tyro.conf.arg(metavar="TABLE")],
    options: Annotated[Importing, tyro.conf.arg(name="")] = Importing(),
) -> None:
    """Check features of videos and import them into a table.

    Running it again is safe: a finished import of the same records and options is recognised, and
    an interrupted one starts again. A second import into the same table is refused while the first
    runs, except on gs:// and s3://, which have no locks: run one at a time there.

    Args:
        records: file, folder or glob of TFRecord, Parquet or .npz files, local or gs://, or of
            local .npy files; or a folder with a folder of .npy files per modality, one per video.
        table: the folder to write, local, gs:// or s3://.
    """
    with Progress().stage(f"importing {records}", unit="shards") as stage:

        def progress(done: int, total: int, videos: int) -> None:
            stage.update(done, total, note=f"{videos:,} records")

        report = import_videos(records, table, options, progress=progress)
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    for line in report_lines(table, report, invalid=options.invalid):
        console.print(line, markup=False)
