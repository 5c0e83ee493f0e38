"""What an import found: as values, kept in the table's manifest, and in words."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from vidembed.records.checks import DUPLICATES, FEATURELESS, Checks, Finding, findings
from vidembed.records.faults import Skips
from vidembed.records.table_rows import Kept


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


def lines(table: str, report: Mapping[str, Any], *, invalid: str) -> Iterator[str]:
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
