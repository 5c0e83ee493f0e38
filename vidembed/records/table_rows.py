"""Convert parsed videos to the rows of a table, and report on them.

The report is stored in the table's manifest and printed in words.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vidembed.records.bytecode import YOUTUBE_8M, Range
from vidembed.records.checks import DUPLICATES, FEATURELESS, Checks, Finding, findings
from vidembed.records.faults import Skips
from vidembed.records.table import DTYPES
from vidembed.records.table_files import arrays_beside_features
from vidembed.records.youtube8m import Videos, offsets_of


def choose(
    videos: Videos, first: np.ndarray, invalid: Mapping[str, np.ndarray], *, mask: bool
) -> Videos:
    """Choose the videos to keep: those in `first`, bool[n], with a usable modality.

    invalid: name -> bool[n], rows with an unusable modality; the modality is masked (with `mask`),
    or the video dropped. Features that are not present are zero.
    """
    keep, present = first, dict(videos.present)
    for name, bad in invalid.items():
        if mask:
            present[name] = present[name] & ~bad
        else:
            keep = keep & ~bad
    keep = keep & np.logical_or.reduce(list(present.values()))
    lengths, features = np.diff(videos.label_offsets), {}
    for name, rows in videos.features.items():
        if not present[name].all():
            rows = np.where(present[name][:, None], rows, np.float32(0))
        features[name] = rows if keep.all() else rows[keep]
    return Videos(
        videos.ids[keep],
        offsets_of(lengths[keep]),
        videos.label_values[np.repeat(keep, lengths)],
        features,
        {name: has_modality[keep] for name, has_modality in present.items()},
    )


def stored_as(dtype: str) -> np.dtype:
    """The float dtype that features must fit; for uint8, which clips, there is a separate check."""
    return np.dtype(np.float32) if dtype == "uint8" else DTYPES[dtype]


def as_stored(
    features: Mapping[str, np.ndarray], dtype: np.dtype, ranges: Mapping[str, Range] = {}
) -> dict[str, np.ndarray]:
    """Convert features, name -> f32[n, F], to the stored dtype; bytes by their ranges, name ->
    range, or YouTube-8M's."""
    return {
        name: ranges.get(name, YOUTUBE_8M).quantise(rows)
        if dtype == np.uint8
        else rows.astype(dtype)
        for name, rows in features.items()
    }


def beside_features(chunks: Sequence[Videos]) -> dict[str, np.ndarray]:
    """The arrays that a table of these videos stores besides features, by name on disk."""
    masks = {name: np.concatenate([v.present[name] for v in chunks]) for name in chunks[0].present}
    return arrays_beside_features(
        np.concatenate([v.ids for v in chunks]),
        offsets_of(np.concatenate([np.diff(v.label_offsets) for v in chunks])),
        np.concatenate([v.label_values for v in chunks]),
        {name: mask for name, mask in masks.items() if not mask.all()},
    )


def import_report(
    checks: Checks, skips: Skips, arrays: Mapping[str, np.ndarray], seconds: float
) -> dict[str, Any]:
    """The counts of an import that made these arrays; `findings` names the first ten per kind."""
    modalities = checks.modalities.items()
    return {
        "rows": len(arrays["ids"]),
        "records": checks.rows,
        "shards": len(checks.records),
        "skipped": len(skips.errors),
        "skipped_first": [str(error) for error in skips.errors[:10]],
        "duplicates": checks.duplicates.count,
        "not_finite": {name: m.not_finite.count for name, m in modalities},
        "all_zero": {name: m.all_zero.count for name, m in modalities},
        "findings": {
            what: dataclasses.asdict(finding)
            for what, finding in findings(checks).items()
            if finding.count
        },
        "missing": {
            name.removeprefix("present/"): int((~mask).sum())
            for name, mask in arrays.items()
            if name.startswith("present/")
        },
        "range": {name: [m.low, m.high] if m.values else None for name, m in modalities},
        "clipped_share": {name: m.clipped_share for name, m in modalities},
        "without_labels": checks.without_labels,
        "distinct_labels": len(checks.labels),
        "seconds": round(seconds, 3),
    }


def report_lines(table: str, report: Mapping[str, Any], *, invalid: str) -> Iterator[str]:
    """The lines that `import` prints: the counts, then the ids left out or masked."""
    what = f"{table}: {report['rows']:,} rows from {report['records']:,} records in "
    what += f"{report['shards']:,} shards"
    if report["already_there"]:
        what += ", imported before"
    for name in ("duplicates", "skipped"):
        if report[name]:
            what += f", {report[name]:,} {name} left out"
    for name, count in report["missing"].items():
        what += f", {count:,} without {name}"
    yield f"{what} (fingerprint {report['fingerprint']})"
    for what, finding in report["findings"].items():
        masked = invalid == "mask" and what != FEATURELESS
        action = "the first kept" if what == DUPLICATES else "masked" if masked else "left out"
        yield f"  {what}, {action}: {Finding(**finding)}"
    for note in report.get("notes", ()):
        yield f"  {note}"
    for warning in report.get("warnings", ()):  # older tables have none
        yield f"WARNING: {warning}"
