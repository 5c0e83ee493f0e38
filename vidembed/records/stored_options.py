"""The options of an import as a table or a run stores them, for further records of its kind."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, TypeVar

from vidembed.records.byte_ranges import range_words, ranges_of
from vidembed.records.bytecode import Range
from vidembed.records.formats import Reading, VideoLevel
from vidembed.records.shards import shards

Options = TypeVar("Options", bound=Reading)


def options_of(
    manifest: Mapping[str, Any], ranges: Mapping[str, Range] | None = None
) -> dict[str, Any]:
    """The options of `import` by which a table's rows were read and stored, in JSON types.

    modalities, id_key, labels_key, missing, dtype, byte_range and space, each as on the command
    line. {} for a table that was not imported from records; only `frames`, the fields of a
    `RecordLayout`, for frame-level records. ranges: those of the table, by default the manifest's.
    """
    words = range_words(ranges_of(manifest) if ranges is None else ranges)
    options, names = manifest.get("source", {}).get("options", {}), manifest.get("space", {})
    format = options.get("format", {})
    if options.get("level") == "frame":
        return {"frames": _frame_options(format, names)}
    if (
        not {"modalities", "id_keys", "labels_key", "missing"} <= {*format}
        or "dtype" not in options
    ):
        return {}
    byte_range = {"byte_range": words} if words else {}
    return {**_common(format, names), "dtype": options["dtype"], **byte_range}


def _frame_options(format: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a `RecordLayout` of frame-level records, in JSON types."""
    return {**_common(format, names), "level": "frame", "max_frames": format["max_frames"]}


def _common(format: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    id_keys = tuple(format["id_keys"])
    return {
        "modalities": [f"{m['name']}:{m['key']}:{m['width']}" for m in format["modalities"]],
        "id_key": "" if id_keys == VideoLevel.id_keys else id_keys[0],
        "labels_key": format["labels_key"] or "",
        "missing": format["missing"],
        "space": [f"{modality}={name}" for modality, name in sorted(names.items())],
    }


def with_stored(
    pattern: str | os.PathLike[str], options: Options, stored: Mapping[str, Any]
) -> Options:
    """`options`, with the stored ones (see `options_of`) in place of those that were not given.

    Names of spaces and ranges of bytes are taken over only for modalities that are read by the
    stored key. `.npy` files keep the modalities of their names unless there is a file for each
    stored key.
    """
    values: dict[str, Any] = {
        field.name: stored[field.name]
        for field in dataclasses.fields(options)
        if field.name in stored and getattr(options, field.name) == field.default
    }
    if options.ids is not None and "modalities" in values:
        keys = {_key(modality) for modality in values["modalities"]}
        if not keys <= {file.stem for file in shards(pattern)}:
            del values["modalities"]
    read = values.get("modalities", options.modalities)
    same = {text.partition(":")[0] for text in read if text in stored.get("modalities", ())}
    for name in {"space", "byte_range"} & values.keys():
        values[name] = [text for text in stored[name] if text.partition("=")[0] in same]
    if getattr(options, "dtype", None) not in (None, "uint8"):
        values.pop("byte_range", None)
    typed: Any = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return dataclasses.replace(options, **typed)


def _key(modality: str) -> str:
    """KEY of NAME:KEY:WIDTH."""
    return modality.partition(":")[2].rpartition(":")[0]
