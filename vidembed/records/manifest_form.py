"""The form of a table's manifest: of what type each entry is."""

from collections.abc import Mapping
from typing import Any


def damaged(manifest: Mapping[str, Any]) -> str:
    """The first entry of a manifest that is not of the form it has; "" where all are."""
    arrays, space, source = manifest["arrays"], manifest.get("space", {}), manifest["source"]
    if not isinstance(arrays, dict) or not {"ids", "label_offsets", "label_values"} <= {*arrays}:
        return "arrays"
    for array, entry in arrays.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not shape or not all(map(_is_count, shape)):
            return f"arrays: {array}"
        texts = [entry.get("dtype"), entry.get("xxh3"), entry.get("path", array)]
        if not all(isinstance(text, str) for text in texts):
            return f"arrays: {array}"
        per_row = array == "ids" or array.startswith(("features/", "present/"))
        if per_row and shape[0] != manifest["rows"]:
            return f"rows: {manifest['rows']!r}, and {array} has {shape[0]}"
    if not _is_count(manifest["rows"]) or not any(name.startswith("features/") for name in arrays):
        return "rows or arrays"
    if not isinstance(space, dict) or not all(isinstance(text, str) for text in space.values()):
        return "space"
    appended = source.get("appended", []) if isinstance(source, dict) else None
    if not isinstance(appended, list) or not _is_source(source):
        return "source"
    # Rows are appended by imports alone, and the first may be of arrays in memory.
    if not all(_is_source(one) and one.get("shards") and "options" in one for one in appended):
        return "source: appended"
    return ""


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_source(source: Any) -> bool:
    """Whether this may say where videos come from; what an import says is there as a whole."""
    if not isinstance(source, dict):
        return False
    shards, options = source.get("shards", []), source.get("options", {})
    if not isinstance(options, dict) or not _are_dicts(shards, "name"):
        return False
    if shards and not _is_report(source.get("report")):
        return False
    if not all(_is_count(shard.get("records")) for shard in shards):
        return False
    format = options.get("format", {})
    return isinstance(format, dict) and _are_dicts(format.get("modalities", []), "name", "key")


def _is_report(report: Any) -> bool:
    """Whether an import can tell again what it told at first."""
    if not isinstance(report, dict):
        return False
    counts = [report.get(name) for name in ("rows", "records", "shards", "skipped", "duplicates")]
    missing, findings = report.get("missing"), report.get("findings")
    if not isinstance(missing, dict) or not isinstance(findings, dict):
        return False
    found = list(findings.values())
    if not _are_dicts(found) or any(finding.keys() != {"count", "named"} for finding in found):
        return False
    counts += [*missing.values(), *(finding["count"] for finding in found)]
    texts = [finding["named"] for finding in found]
    texts.append(report.get("warnings", []))  # older tables have none
    return all(map(_is_count, counts)) and all(
        isinstance(each, list) and all(isinstance(text, str) for text in each) for each in texts
    )


def _are_dicts(values: Any, *names: str) -> bool:
    """Whether these are a list of objects that have such texts."""
    return isinstance(values, list) and all(
        isinstance(value, dict) and all(isinstance(value.get(name), str) for name in names)
        for value in values
    )
