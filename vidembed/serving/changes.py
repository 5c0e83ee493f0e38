"""A pending change to an index: its files belong to no version until it is committed."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidembed.serving import given
from vidembed.serving.engines import engine_from_json
from vidembed.serving.parts import Part, find
from vidembed.serving.segment import Segment, write_segment
from vidembed.serving.versions import Folder, Version

# A flat segment of at most this many times the added rows is joined with them, so that searches
# scan few segments and each vector is rewritten few times.
JOINED = 2


class Draft:
    """The next version of an index; use it inside `Folder.writing`."""

    def __init__(
        self, folder: Folder, header: Mapping[str, Any], version: Version | None = None
    ) -> None:
        self._folder, self._header = folder, header
        self._parts: list[Part] = [] if version is None else version.parts()
        self.changed = version is None

    def remove(self, ids: np.ndarray) -> int:
        """Remove ids S[n]; return how many of them existed."""
        part, row = find(self._parts, np.unique(ids))
        for number, (_, present) in enumerate(self._parts):
            present[row[part == number]] = False
        self.changed |= bool((part >= 0).any())
        return int((part >= 0).sum())

    def add(self, ids: np.ndarray, vectors: np.ndarray, *, replace: bool = False) -> int:
        """Add vectors f32[n, D] with ids S[n]; return how many replaced existing ones."""
        exists = find(self._parts, ids)[0] >= 0
        if exists.any() and not replace:
            raise ValueError(
                f"{given.some(ids[exists])} are already in the index: replace them, or leave them "
                "out"
            )
        replaced = self.remove(ids[exists])
        if not len(ids):
            return replaced
        while self._parts and self._is_flat(-1) and len(self._parts[-1][0]) <= JOINED * len(ids):
            before_ids, before = _present_rows(self._parts.pop())
            ids, vectors = np.concatenate([before_ids, ids]), np.concatenate([before, vectors])
        self._write(ids, vectors, {}, flat=True)
        return replaced

    def merge(self) -> None:
        """Join all segments into one, searched by the engine."""
        living = [_present_rows(part) for part in self._parts if part[1].any()]
        self._parts, self.changed = [], True
        if living:
            ids, vectors = (np.concatenate(parts) for parts in zip(*living))
            built = engine_from_json(self._header["engine"]).build(vectors)
            self._write(ids, vectors, built, flat=False)

    def commit(self) -> None:
        """Make it the current version."""
        parts = [(segment, present) for segment, present in self._parts if present.any()]
        removed = {segment.name: ~present for segment, present in parts}
        names = [segment.name for segment, _ in parts]
        self._folder.commit(self._header, names, removed)

    def _is_flat(self, number: int) -> bool:
        return bool(self._parts[number][0].blocks.header["flat"])

    def _write(
        self, ids: np.ndarray, vectors: np.ndarray, built: Mapping[str, np.ndarray], *, flat: bool
    ) -> None:
        path = self._folder.new_segment()
        write_segment(path, ids, vectors, built, kind=self._header["keep"], flat=flat)
        self._parts.append((Segment(path), np.ones(len(ids), bool)))
        self.changed = True


def _present_rows(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Ids and verified vectors of the rows that were not removed."""
    segment, present = part
    return segment.ids[present], segment.whole()[present]
