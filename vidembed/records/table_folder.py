"""Write the folder of a table: arrays first, the manifest last, so a partial table is never read.

Appends and replacements of a finished table are written to paths that the manifest does not use.
The manifest is then replaced atomically, so that at any moment the old or the new table is valid.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import xxhash

from vidembed.records.arrays import ArrayWriter, TableError, explained, folder, location
from vidembed.records.byte_ranges import with_ranges
from vidembed.records.bytecode import Range
from vidembed.records.manifest_form import KIND, VERSIONS, damaged, version_of
from vidembed.records.table_files import (
    GROUP,
    MANIFEST,
    UNFINISHED,
    left_over,
    new_place,
    remove,
)


class TableWriter:
    """Writes a table: features incrementally, the other arrays at the end, the manifest last."""

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        source: Mapping[str, Any],
        space: Mapping[str, str] = {},
        replace: bool = False,
        ranges: Mapping[str, Range] = {},
    ) -> None:
        """Claim a folder that is empty, holds an unfinished table or, with `replace`, a finished
        one. The finished table stays until the new one is complete, unless its manifest is damaged.

        space: modality -> the name of its space, if it has one.
        ranges: modality -> the range of its bytes, if it is not YouTube-8M's.
        """
        self.path = os.fspath(path)
        self.rows, self._source, self._space = 0, dict(source), dict(space)
        self._ranges = dict(ranges)
        self._features: dict[str, ArrayWriter] = {}
        self._writers: dict[str, ArrayWriter] = {}
        self._folder = folder(path)
        state = table_state(path)
        if state == "finished" and not replace:
            raise TableError(
                f"{self.path} already holds a feature table: choose another path or replace it"
            )
        if state == "finished" and not self._is_table():
            raise TableError(
                f"{self.path}/{MANIFEST} is not that of a feature table: choose another folder"
            )
        if state == "other":
            raise TableError(f"{self.path} holds other files: choose an empty folder for the table")
        self._before: dict[str, Any] | None = None
        self._place = ""
        if state == "finished":
            with contextlib.suppress(TableError):
                self._before = read_manifest(path)
                self._place = new_place(self._before)
        try:
            self._claim()
        except TableError:
            if state != "finished":
                with contextlib.suppress(Exception):
                    self._clear()
            raise

    def _claim(self) -> None:
        """Mark the folder, so that an interruption is recognised from here on."""
        with explained(
            f"cannot write the feature table {self.path}", "Check the rights and the free space."
        ):
            if self._before is not None:
                remove(self.path, left_over(self._before))
                return
            self._folder.write(UNFINISHED, encode({"source": self._source})).result()
            self._folder.write(MANIFEST, None).result()
            self._clear(keep=UNFINISHED)
            group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
            for place in ("", "features/", "present/"):
                self._folder.write(place + GROUP, encode(group)).result()

    def append(self, features: Mapping[str, np.ndarray]) -> None:
        """Append rows of every modality, name -> [n, F], in the stored dtype."""
        for name, rows in sorted(features.items()) if not self._features else ():
            self._features[name] = self._writer(f"features/{name}", rows)
        lengths = {name: len(rows) for name, rows in features.items()}
        if features.keys() != self._features.keys() or len(set(lengths.values())) != 1:
            raise TableError(
                f"{self.path}: every append needs equally many rows of {sorted(self._features)}; "
                f"got {lengths}"
            )
        for name, rows in features.items():
            self._features[name].append(rows)
        self.rows += next(iter(lengths.values()))

    def finish(
        self, arrays: Mapping[str, np.ndarray], *, source: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Write the other arrays (name on disk -> array) and the manifest; returns the manifest."""
        if not self._features:
            raise TableError(f"{self.path}: no rows were written")
        for name, array in arrays.items():
            self._writer(name, array).append(array)
        for writer in self._writers.values():
            writer.flush()  # start all writes before waiting for any
        entries = {name: writer.finish() for name, writer in self._writers.items()}
        entries = with_ranges(entries, self._ranges)
        if self._place:
            entries = {n: {**entry, "path": self._place + n} for n, entry in entries.items()}
        manifest = {
            "kind": KIND,
            "version": version_of(entries, later=bool(self._place)),
            "rows": self.rows,
            "arrays": dict(sorted(entries.items())),
            "fingerprint": fingerprint(entries),
            "source": self._source if source is None else dict(source),
        }
        if self._space:
            manifest["space"] = self._space
        with explained(f"cannot write {self.path}/{MANIFEST}", "Check the free space."):
            self._folder.write(MANIFEST, encode(manifest)).result()
            self._folder.write(UNFINISHED, None).result()
        if self._before is not None:
            with contextlib.suppress(Exception):  # leftovers do no harm
                remove(self.path, left_over(manifest))
        return manifest

    def abandon(self) -> None:
        """Remove everything that was written; the folder is then empty or as before."""
        for writer in self._writers.values():
            writer.stop()
        with explained(f"cannot clear {self.path}", "Remove it by hand."):
            if self._before is None:
                self._clear()
            elif read_manifest(self.path) == self._before:
                remove(self.path, left_over(self._before))

    def _writer(self, name: str, like: np.ndarray) -> ArrayWriter:
        """A new writer for an array; all writers are stopped before the folder is cleared."""
        writer = ArrayWriter(self.path, self._place + name, like.dtype, like.shape[1:])
        return self._writers.setdefault(name, writer)

    def _is_table(self) -> bool:
        """Whether the manifest is that of a feature table, damaged or not."""
        with explained(f"cannot read {self.path}/{MANIFEST}", "Check the rights on it."):
            return KIND.encode() in self._folder.read(MANIFEST).result().value

    def _clear(self, keep: str = "") -> None:
        remove(self.path, lambda key: key != keep)


def fingerprint(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Digest of a table from the digests of its arrays (name -> {dtype, shape, xxh3},
    and `range` for bytes that have one of their own)."""
    known = {
        name: [entry["dtype"], list(entry["shape"]), entry["xxh3"]]
        + ([entry["range"]] if "range" in entry else [])
        for name, entry in entries.items()
    }
    return xxhash.xxh3_128_hexdigest(json.dumps(known, sort_keys=True).encode())


def table_state(path: str | os.PathLike) -> str:
    """The state of a folder: "finished", "unfinished", "empty" (or absent) or "other"."""
    files = folder(path)
    with explained(os.fspath(path), "Check the path and the rights on it."):
        if files.read(MANIFEST).result().state == "value":
            return "finished"
        if files.read(UNFINISHED).result().state == "value":
            return "unfinished"
        place = location(path)
        if place["driver"] == "file":
            # Listing the key-value store would walk through all subfolders.
            content = os.path.isdir(place["path"]) and os.listdir(place["path"])
        else:
            content = files.list().result()
    return "other" if content else "empty"


def read_manifest(path: str | os.PathLike) -> dict[str, Any]:
    """The manifest of a finished table. Raises TableError for anything else."""
    name = os.fspath(path)
    state = table_state(path)
    if state == "unfinished":
        raise TableError(f"{name}: the import of this table was interrupted; run it again")
    if state != "finished":
        raise TableError(
            f"{name} holds no feature table (no {MANIFEST}): make one with "
            f"`python -m vidembed import RECORDS {name}`"
        )
    with explained(f"{name}/{MANIFEST}", "The manifest is damaged: import the table again."):
        manifest = json.loads(folder(path).read(MANIFEST).result().value)
        if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
            raise TableError(f"{name}/{MANIFEST} is not that of a feature table")
        if not manifest.keys() >= {"version", "rows", "arrays", "fingerprint", "source"}:
            raise TableError(f"{name}/{MANIFEST} is damaged: import the table again")
        if type(manifest["version"]) is not int:
            raise TableError(f"{name}/{MANIFEST} is damaged, version: import the table again")
        if manifest["version"] not in VERSIONS:
            raise TableError(
                f"{name} has version {manifest['version']}, this vidembed reads {VERSIONS[-1]}: "
                "import it again"
            )
        if wrong := damaged(manifest):
            raise TableError(f"{name}/{MANIFEST} is damaged, {wrong}: import the table again")
        if fingerprint(manifest["arrays"]) != manifest["fingerprint"]:
            raise TableError(f"{name}/{MANIFEST} was edited: its digests do not match")
    return manifest


def name_spaces(path: str | os.PathLike, names: Mapping[str, str]) -> None:
    """Name the spaces (modality -> name) of a finished table that has no names for them yet.

    Raises TableError if one has another name already, because runs may refer to it.
    """
    manifest = read_manifest(path)
    known = manifest.get("space", {})
    differing = [f"{m} is {name!r}, was {known[m]!r}" for m, name in names.items()
                 if known.get(m, name) != name]  # fmt: skip
    if differing:
        raise TableError(
            f"{os.fspath(path)} has another space: {'; '.join(differing)}. Leave --space out to "
            "keep it, choose another path, or replace the table (--force)"
        )
    if names.items() <= known.items():
        return
    with explained(f"cannot write {os.fspath(path)}/{MANIFEST}", "Check the rights."):
        folder(path).write(MANIFEST, encode(manifest | {"space": known | dict(names)})).result()


def encode(content: Any) -> bytes:
    """The bytes of a JSON file in a table's folder."""
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
