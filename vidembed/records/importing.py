"""TFRecord shards become a feature table: read ahead, checked, and written as they come."""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from vidembed.progress import Progress
from vidembed.records.arrays import TableError
from vidembed.records.checks import Checks, clipping, refusals
from vidembed.records.counts import check_counts, compared, read_counts, shard_names
from vidembed.records.faults import Skips
from vidembed.records.formats import YOUTUBE8M_OPTIONS, video_level
from vidembed.records.remote import identities
from vidembed.records.shards import shards
from vidembed.records.streaming import stream_videos
from vidembed.records.table import DTYPES
from vidembed.records.table_folder import TableWriter, read_manifest, table_state
from vidembed.records.table_rows import Kept, as_stored, choose, import_report, report_lines
from vidembed.records.youtube8m import VideoLevel

Dtype = Literal["uint8", "bfloat16", "float32"]


class RefusedError(TableError):
    """The records have faults that the options do not allow; the message lists every one."""


def import_videos(
    pattern: str | os.PathLike,
    path: str | os.PathLike,
    *,
    format: VideoLevel = VideoLevel(),  # noqa: B008 - frozen
    dtype: Dtype = "uint8",
    duplicates: Literal["error", "first"] = "error",
    invalid: Literal["refuse", "drop", "mask"] = "refuse",
    on_error: Literal["error", "skip"] = "error",
    max_clipped_share: float = 0.01,
    counts: str | os.PathLike | None = None,
    workers: int = 2,
    force: bool = False,
    progress: Callable[[int, int, int], object] = lambda *_: None,
) -> dict[str, Any]:
    """Import the shards that match `pattern` into a feature table at `path`; returns a report.

    Rows stand in the order of the sorted shards and of the records in them, whatever `workers` is.
    Memory holds a few chunks of 2,048 records a worker, and ids and labels (about 150 bytes a
    video).

    duplicates: an id that comes again is an error, or the first is kept.
    invalid: rows of NaN, infinity or zeros only: refused, dropped, or the modality is masked.
        The report's `findings` count them and the duplicates, and name the first ten of each kind.
    max_clipped_share: with uint8, the largest share of a modality's values beyond what a byte
        holds, [-2, 2].
    counts: a JSON file {"shard": records}; by default counts.json beside the shards, if there.
    force: replaces a finished table; else one of the same sources and options is left as it is.
    progress: called with shards done, shards in all, records so far.

    Raises RecordError for unreadable records (unless on_error="skip"), RefusedError for whatever
    else is wrong, all of it, and TableError when the table cannot be written or holds other data.
    """
    began = time.monotonic()
    files = shards(pattern)
    names = shard_names(files)
    expected = read_counts(files, counts)
    options = {
        # As JSON gives it back, for comparing with that of a finished import.
        "format": json.loads(json.dumps(dataclasses.asdict(format))),
        "dtype": dtype,
        "duplicates": duplicates,
        "invalid": invalid,
        "on_error": on_error,
        "max_clipped_share": max_clipped_share,
    }
    source: dict[str, Any] = {"options": options, "shards": identities(files, names)}
    if not force and table_state(path) == "finished":
        return _finished(path, source, expected, pattern)

    checks, skips, kept = Checks(format), Skips(), Kept()
    writer: TableWriter | None = None
    stream = stream_videos(
        files, format, skips=skips if on_error == "skip" else None, workers=workers
    )
    try:
        for number, videos in stream:
            verdict = checks.add(names[number], videos)
            progress(number, len(files), checks.rows)
            if refusals(checks, duplicates=duplicates, invalid=invalid):
                continue  # to the end, so that every fault is named
            writer = writer or TableWriter(path, source=source, replace=force)
            keep, present = choose(videos, verdict, invalid)
            writer.append(as_stored(videos, keep, present, DTYPES[dtype]))
            kept.add(videos, keep, present)
        found = compared(files, checks.records, skips.errors)
        faults = [
            *refusals(checks, duplicates=duplicates, invalid=invalid),
            *(clipping(checks, allowed_share=max_clipped_share) if dtype == "uint8" else []),
            *check_counts(found, expected, pattern),
        ]
        if faults or writer is None or not writer.rows:
            raise RefusedError(_message(pattern, faults or ["no usable records"]))
        progress(len(files), len(files), checks.rows)
        report = import_report(checks, skips, kept, writer.rows, time.monotonic() - began)
        for entry in source["shards"]:
            entry["records"] = checks.records.get(entry["name"], 0)
        manifest = writer.finish(kept.arrays(), source={**source, "report": report})
    except Exception:
        # Half a table is of no use. (A kill leaves it, marked as unfinished: the next run clears.)
        if writer is not None:
            writer.abandon()
        raise
    finally:
        stream.close()
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
        raise RefusedError(_message(pattern, faults))
    return {**there["report"], "fingerprint": manifest["fingerprint"], "already_there": True}


def _message(pattern: str | os.PathLike, faults: Sequence[str]) -> str:
    return "\n  - ".join([f"{os.fspath(pattern)} was not imported:", *faults])


def main(
    records: Annotated[str, tyro.conf.arg(metavar="RECORDS")],
    table: Annotated[str, tyro.conf.arg(metavar="TABLE")],
    *,
    dtype: Dtype = "uint8",
    modalities: tuple[str, ...] = YOUTUBE8M_OPTIONS,
    labels_key: str = "labels",
    missing: Literal["refuse", "mask"] = "refuse",
    duplicates: Literal["error", "first"] = "error",
    invalid: Literal["refuse", "drop", "mask"] = "refuse",
    on_error: Literal["error", "skip"] = "error",
    max_clipped_share: float = 0.01,
    counts: str | None = None,
    workers: int = 2,
    force: bool = False,
) -> None:
    """Import video-level records into a feature table, checking them on the way.

    Running it again is safe: a finished import of the same records and options is recognised, an
    interrupted one starts anew.

    Args:
        records: TFRecord file, folder or glob, local or gs://.
        table: the folder to write, local, gs:// or s3://.
        dtype: how features are stored; uint8 is YouTube-8M's own quantisation over [-2, 2].
        modalities: what each record holds, NAME:KEY:WIDTH.
        labels_key: the key of the labels; empty where records bear none.
        missing: refuse records without one of the modalities, or mask it.
        duplicates: stop at ids that occur again, or keep the first.
        invalid: vectors with NaN or infinity, or all zero: refuse them, drop the video, or mask
            the modality.
        on_error: stop at an unreadable record, or skip it (at most 100).
        max_clipped_share: with uint8, the largest share of values beyond [-2, 2] to accept.
        counts: JSON file with the expected records of each shard; counts.json beside the shards
            if not given.
        workers: shards read at a time.
        force: replace a finished table; the old one is removed when the first records are read.
    """
    with Progress().stage(f"importing {records}", unit="shards") as stage:
        report = import_videos(
            records,
            table,
            format=video_level(modalities, labels_key, missing),
            dtype=dtype,
            duplicates=duplicates,
            invalid=invalid,
            on_error=on_error,
            max_clipped_share=max_clipped_share,
            counts=counts,
            workers=workers,
            force=force,
            progress=lambda done, total, videos: stage.update(
                done, total, note=f"{videos:,} records"
            ),
        )
    console = Console(highlight=False, soft_wrap=True)
    for line in report_lines(table, report, invalid=invalid):
        console.print(line, markup=False)
