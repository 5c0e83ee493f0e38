"""The files of a table: their paths, those that are left over, and the arrays beside features."""

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vidembed.records.arrays import folder, location

MANIFEST, UNFINISHED, GROUP = "manifest.json", "unfinished.json", "zarr.json"
PLACE = "appended/"
"""Folder for arrays written to a table that already had a manifest, numbered per write."""
_NUMBERED = re.compile(PLACE + r"(\d+)/")
_OURS = re.compile(
    r"(manifest|unfinished|zarr|present/zarr|features/zarr)\.json|(appended/\d+/)?"
    r"((features|present)/[^/]+|ids|label_offsets|label_values)/(zarr\.json|c(/\d+)*)(\.__lock)?"
)


def left_over(manifest: Mapping[str, Any]) -> Callable[[str], bool]:
    """A predicate: whether a file belongs to no array of the table, but to an earlier version or
    an interrupted write."""
    used = tuple(f"{entry.get('path', name)}/" for name, entry in manifest["arrays"].items())
    small = (MANIFEST, GROUP, f"features/{GROUP}", f"present/{GROUP}")
    return lambda key: key not in small and not key.startswith(used)


def new_place(manifest: Mapping[str, Any]) -> str:
    """A new folder for arrays below the table's, unused by existing arrays."""
    paths = [entry.get("path", "") for entry in manifest["arrays"].values()]
    used = [int(match[1]) for path in paths if (match := _NUMBERED.match(path))]
    return f"{PLACE}{max(used, default=0) + 1}/"


def remove(path: str | os.PathLike, unwanted: Callable[[str], bool]) -> None:
    """Remove the table's files whose keys are unwanted, and folders left empty.

    Files that are not part of a table stay.
    """
    files, place = folder(path), location(path)
    for key in files.list().result():
        name = key.decode(errors="replace")
        if _OURS.fullmatch(name) and unwanted(name):
            files.write(key, None).result()
    if place["driver"] == "file":
        for below, _, _ in os.walk(place["path"], topdown=False):
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(below)


def arrays_beside_features(
    ids: np.ndarray,
    label_offsets: np.ndarray,
    label_values: np.ndarray,
    present: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """The arrays that a table stores besides features, by name; ids S[N] become u8[N, W]."""
    width = max(1, int(np.char.str_len(ids).max(initial=1)))
    trimmed = np.ascontiguousarray(ids.astype(f"S{width}"))
    return {
        "ids": trimmed.view(np.uint8).reshape(len(ids), width),
        "label_offsets": label_offsets,
        "label_values": label_values,
        **{f"present/{name}": mask for name, mask in present.items()},
    }
