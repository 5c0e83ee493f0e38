"""From parsed videos to the rows that a table stores: which are kept, in what form, and what of it
is said: as values, kept in the table's manifest, and in words."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vidembed.records.bytecode import quantise
from vidembed.records.checks import DUPLICATES, FEATURELESS, Checks, Finding, Verdict, findings
from vidembed.records.faults import Skips
from vidembed.records.table import arrays_beside_features
from vidembed.records.youtube8m import Videos


class Kept:
    """What a table holds beside its features, gathered until the end."""

    def __init__(self) -> None:
        self.ids: list[np.ndarray] = []
        self.lengths: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []
        self.present: dict[str, list[np.ndarray]] = {}

    def add(self, videos: Videos, keep: np.ndarray, present: Mapping[str, np.ndarray]) -> None:
        lengths = np.diff(videos.label_offsets)
        self.ids.append(videos.ids[keep])
        self.lengths.append(lengths[keep])
        self.labels.append(videos.label_values[np.repeat(keep, lengths)])
        for name, mask in present.items():
            self.present.setdefault(name, []).append(mask[keep])

    def masks(self) -> dict[str, np.ndarray]:
        """Modality -> bool[N], of those that some rows lack."""
        joined = {name: np.concatenate(parts) for name, parts in self.present.items()}
        return {name: mask for name, mask in joined.items() if not mask.all()}

    def arrays(self) -> dict[str, np.ndarray]:
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(self.lengths))])
        return arrays_beside_features(
            np.concatenate(self.ids),
            offsets.astype(np.int64),
            np.concatenate(self.labels).astype(np.int32, copy=False),
            self.masks(),
        )


def choose(
    videos: Videos, verdict: Verdict, invalid: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which rows to keep, bool[n], and which modalities they have, name -> bool[n]."""
    keep, present = verdict.first.copy(), dict(videos.present)
    for name, bad in verdict.invalid.items():
        if invalid == "mask":
            present[name] = present[name] & ~bad
        else:
            keep &= ~bad
    return keep & np.logical_or.reduce(list(present.values())), present


def as_stored(
    videos: Videos, keep: np.ndarray, present: Mapping[str, np.ndarray], dtype: np.dtype
) -> dict[str, np.ndarray]:
    """Name -> [kept, F] as it is stored; a missing modality is stored as zeros."""
    stored = {}
    for name, rows in videos.features.items():
        if not present[name].all():
            rows = np.where(present[name][:, None], rows, np.float32(0))
        if not keep.all():
            rows = rows[keep]
        stored[name] = quantise(rows) if dtype == np.uint8 else rows.astype(dtype)
    return stored


def import_report(
    checks: Checks, skips: Skips, kept: Kept, rows: int, seconds: float
) -> dict[str, Any]:
    """The counts of an import of `rows` rows; `findings` names the first ten of each kind."""
    modalities = checks.modalities.items()
    return {
        "rows": rows,
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
        "missing": {name: int((~mask).sum()) for name, mask in kept.masks().items()},
        "range": {name: [m.low, m.high] if m.values else None for name, m in modalities},
        "clipped_share": {name: m.clipped_share for name, m in modalities},
        "without_labels": checks.without_labels,
        "distinct_labels": len(checks.labels),
        "seconds": round(seconds, 3),
    }


def report_lines(table: str, report: Mapping[str, Any], *, invalid: str) -> Iterator[str]:
    """What `import` prints: the counts, then the ids of what was left out or masked."""
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
    for what, found in report["findings"].items():
        masked = invalid == "mask" and what != FEATURELESS
        done = "the first kept" if what == DUPLICATES else "masked" if masked else "left out"
        yield f"  {what}, {done}: {Finding(**found)}"
