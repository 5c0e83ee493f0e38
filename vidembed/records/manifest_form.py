"""The versions of a table's manifest; check its entries and their types."""

from collections.abc import Mapping
from typing import Any

from vidembed.records.bytecode import Range

KIND, VERSION, LATER_VERSION, RANGED_VERSION = "vidembed feature table", 1, 2, 3
VERSIONS = (VERSION, LATER_VERSION, RANGED_VERSION)
"""In version 2, after an append or a replacement, entries have a `path` if it is not their name. In
version 3 some entries have a `range` of their bytes, which earlier versions would not obey."""


def damaged(manifest: Mapping[str, Any]) -> str:
    """The first malformed entry of a manifest; "" if there is none."""
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
        if "range" in entry and not _is_range(entry["range"], entry["dtype"]):
            return f"arrays: {array}: range"
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
    # Only imports append rows; the first rows may come from arrays in memory.
    if not all(_is_source(s) and s.get("shards") and "options" in s for s in appended):
        return "source: appended"
    return ""


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_range(value: Any, dtype: str) -> bool:
    numbers = isinstance(value, list) and all(type(v) in (int, float) for v in value)
    if dtype != "uint8" or not numbers or len(value) != 2:
        return False
    try:
        Range(*value)
    except ValueError:
        return False
    return True


def _is_source(source: Any) -> bool:
    """Whether this is a valid source of videos; the entry of an import must be complete."""
    if not isinstance(source, dict):
        return False
    shards, options = source.get("shards", []), source.get("options", {})
    if not isinstance(options, dict) or not _are_dicts(shards, "name"):
        return False
    if shards and not _is_report(source.get("report")):
        return False
    if not all(_is_count(shard.get("records")) for shard in shards):
        return False
    return _are_options(options)


def _are_options(options: Mapping[str, Any]) -> bool:
    """Whether these options of an import can be used for further records."""
    format = options.get("format", {})
    if not isinstance(format, dict) or not _are_dicts(format.get("modalities", []), "name", "key"):
        return False
    id_keys, labels_key = format.get("id_keys", ["id"]), format.get("labels_key")
    texts = [options.get("dtype", ""), "" if labels_key is None else labels_key]
    return (
        all(_is_count(modality.get("width")) for modality in format.get("modalities", []))
        and isinstance(id_keys, list)
        and bool(id_keys)
        and all(isinstance(text, str) for text in [*id_keys, *texts])
        and format.get("missing", "refuse") in ("refuse", "mask")
    )


def _is_report(report: Any) -> bool:
    """Whether this is a complete import report, which can be printed again."""
    if not isinstance(report, dict):
        return False
    counts = [report.get(name) for name in ("rows", "records", "shards", "skipped", "duplicates")]
    missing, findings = report.get("missing"), report.get("findings")
    if not isinstance(missing, dict) or not isinstance(findings, dict):
        return False
    entries = list(findings.values())
    if not _are_dicts(entries) or any(entry.keys() != {"count", "named"} for entry in entries):
        return False
    counts += [*missing.values(), *(entry["count"] for entry in entries)]
    texts = [entry["named"] for entry in entries]
    texts.append(report.get("warnings", []))  # older tables have none
    return all(map(_is_count, counts)) and all(
        isinstance(each, list) and all(isinstance(text, str) for text in each) for each in texts
    )


def _are_dicts(values: Any, *names: str) -> bool:
    """Whether this is a list of objects whose fields `names` are texts."""
    return isinstance(values, list) and all(
        isinstance(value, dict) and all(isinstance(value.get(name), str) for name in names)
        for value in values
    )


def version_of(entries: Mapping[str, Mapping[str, Any]], *, later: bool) -> int:
    """The version of a manifest with these arrays. later: after an append or a replacement."""
    if any("range" in entry for entry in entries.values()):
        return RANGED_VERSION
    return LATER_VERSION if later else VERSION
