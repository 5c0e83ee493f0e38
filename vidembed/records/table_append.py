"""Append new videos to a finished table: all or none, even if killed at any moment.

Features are written after the existing rows, and all other arrays to a new place. Neither is
visible until the manifest, which is replaced at the very end, refers to them.
"""

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from vidembed.records.arrays import ArrayWriter, TableError, explained, folder, read_array
from vidembed.records.byte_ranges import ranges_of
from vidembed.records.bytecode import YOUTUBE_8M, dequantise, ranged
from vidembed.records.manifest_form import version_of
from vidembed.records.rounding import Rounding
from vidembed.records.space import check_same_space, stand_in
from vidembed.records.table import DTYPES
from vidembed.records.table_files import (
    MANIFEST,
    PLACE,
    arrays_beside_features,
    left_over,
    new_place,
    remove,
)
from vidembed.records.table_folder import (
    encode,
    fingerprint,
    read_manifest,
)
from vidembed.records.youtube8m import offsets_of

FIRST_ROWS = 4096
"""Number of rows of a table from which the scale of its features is estimated."""


class TableExtension:
    """Appends rows to a finished table, with the methods of a TableWriter."""

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        source: Mapping[str, Any],
        space: Mapping[str, str],
        widths: Mapping[str, int],
        dtype: str,
    ) -> None:
        """Open a finished table without changing it.

        source, space, widths, dtype: of the new videos. Raises TableError if there is no finished
        table or if modalities, widths or dtype differ, and SpaceError if spaces differ.

        ranges: modality -> the range of the table's bytes, if it is not YouTube-8M's; new bytes
        must be of it.
        """
        self.path, self._source, self.rows = os.fspath(path), dict(source), 0
        self.manifest = read_manifest(path)
        self._entries = self.manifest["arrays"]
        self.ranges = ranges_of(self.manifest)
        self._writers: dict[str, ArrayWriter] = {}
        known = {
            name.removeprefix("features/"): np.empty(
                (0, *entry["shape"][1:]), DTYPES[entry["dtype"]]
            )
            for name, entry in self._entries.items()
            if name.startswith("features/")
        }
        new = {name: np.empty((0, width), DTYPES[dtype]) for name, width in widths.items()}
        given, stored = (
            ", ".join(f"{n} {a.shape[1]} {a.dtype}" for n, a in sorted(arrays.items()))
            for arrays in (new, known)
        )
        if given != stored:
            raise TableError(
                f"{self.path} holds {stored}, but the new videos have {given}: append the same "
                "modalities, widths and --dtype"
            )
        names = self.manifest.get("space", {})
        check_same_space(
            {n: names.get(n) or stand_in(n, a, self.manifest["source"]) for n, a in known.items()},
            {n: space.get(n) or stand_in(n, a, self._source) for n, a in new.items()},
            names=(self.path, "the new videos"),
        )
        beside = [name for name in self._entries if not name.startswith("features/")]
        self._old = {name: self._read(name, verify=True) for name in beside}

    def _read(self, name: str, *, verify: bool, rows: slice = slice(None)) -> np.ndarray:
        entry, path = self._entries[name], self._entries[name].get("path", name)
        return read_array(self.path, path, entry, verify=verify, rows=rows)

    @property
    def ids(self) -> np.ndarray:
        """The ids of the existing rows, S[N]."""
        ids = self._old["ids"]
        return ids.view(f"S{ids.shape[1]}").reshape(-1)

    def statistics(self) -> dict[str, Rounding]:
        """Modality -> statistics of the table's features, from its first rows."""
        statistics = {}
        first = slice(0, min(FIRST_ROWS, len(self.ids)))
        for name in self._entries:
            if name.startswith("features/"):
                modality = name.removeprefix("features/")
                present = self._old.get(f"present/{modality}", np.ones(len(self.ids), np.bool_))
                rows = self._read(name, verify=False, rows=first)[present[first]]
                range = self.ranges.get(modality, YOUTUBE_8M)
                statistics[modality] = Rounding(rows.shape[1], step=range.step)
                statistics[modality].add(dequantise(ranged(rows, range)))
        return statistics

    def earlier(self) -> Mapping[str, Any] | None:
        """The report of an earlier append of the same videos, or None."""
        for source in self.manifest["source"].get("appended", []):
            shards = [{k: v for k, v in s.items() if k != "records"} for s in source["shards"]]
            if [source["options"], shards] == [self._source["options"], self._source["shards"]]:
                return dict(source["report"])
        return None

    def append(self, features: Mapping[str, np.ndarray]) -> None:
        """Append rows of every modality, name -> [n, F], in the table's dtype."""
        if not self._writers:
            self._begin()
        for name, rows in features.items():
            self._writers[name].append(rows)
        self.rows += len(next(iter(features.values())))

    def _begin(self) -> None:
        with explained(f"cannot append to {self.path}", "Check the rights."):
            remove(self.path, left_over(self.manifest))
        for name, entry in self._entries.items():
            if name.startswith("features/"):
                dtype, width = DTYPES[entry["dtype"]], tuple(entry["shape"][1:])
                writer = ArrayWriter(self.path, entry.get("path", name), dtype, width, after=entry)
                self._writers[name.removeprefix("features/")] = writer

    def finish(
        self, arrays: Mapping[str, np.ndarray], *, source: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write the other arrays, for old and new videos, and then the manifest.

        arrays: of the new videos, name on disk -> array. source: of the new videos, with a report.
        """
        entries, place = {}, new_place(self.manifest)
        for name, array in self._beside(arrays).items():
            writer = ArrayWriter(self.path, place + name, array.dtype, array.shape[1:])
            self._writers[place + name] = writer
            writer.append(array)
            writer.flush()
            entries[name] = {**writer.finish(), "path": place + name}
        for name, entry in self._entries.items():
            if name.startswith("features/"):
                writer = self._writers[name.removeprefix("features/")]
                writer.flush()
                entries[name] = {**entry, **writer.finish()}
        before = self.manifest["source"]
        manifest = {
            **self.manifest,
            "version": version_of(entries, later=True),
            "rows": len(self.ids) + self.rows,
            "arrays": dict(sorted(entries.items())),
            "fingerprint": fingerprint(entries),
            "source": {**before, "appended": [*before.get("appended", []), dict(source)]},
        }
        with explained(f"cannot write {self.path}/{MANIFEST}", "Check the free space."):
            folder(self.path).write(MANIFEST, encode(manifest)).result()
        return manifest

    def _beside(self, new: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        counts = [np.diff(arrays["label_offsets"]) for arrays in (self._old, new)]
        masks = {n for n in (*self._old, *new) if n.startswith("present/")}
        rows = len(self.ids), self.rows
        ids = new["ids"].view(f"S{new['ids'].shape[1]}").reshape(-1)
        return arrays_beside_features(
            np.concatenate([self.ids, ids]),
            offsets_of(np.concatenate(counts)),
            np.concatenate([self._old["label_values"], new["label_values"]]),
            {
                name.removeprefix("present/"): np.concatenate(
                    [a.get(name, np.ones(n, np.bool_)) for a, n in zip((self._old, new), rows)]
                )
                for name in masks
            },
        )

    def abandon(self) -> None:
        """Remove everything that was written, which restores the table."""
        if not self._writers or read_manifest(self.path) != self.manifest:
            return  # either nothing or everything was written
        for name, writer in self._writers.items():
            if name.startswith(PLACE):
                writer.stop()
            else:
                with contextlib.suppress(TableError):  # remaining rows are never read
                    writer.cut(len(self.ids))
        with contextlib.suppress(Exception):
            unused = left_over(self.manifest)
            remove(self.path, lambda key: key.startswith(PLACE) and unused(key))
