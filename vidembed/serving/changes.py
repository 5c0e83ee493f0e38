"""A change to an index under way: what it writes is named by no version until all is done."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidembed.serving import given
from vidembed.serving.engines import engine_from_json
from vidembed.serving.parts import Part, find
from vidembed.serving.segment import Segment, write_segment
from vidembed.serving.versions import Folder, Version

# A flat segment no longer than so many times what is added is joined with it: a search looks
# through few of them, and a vector is written few times.
JOINED = 2


class Draft:
    """The next version of an index; used inside `Folder.writing`."""

    def __init__(
        self, folder: Folder, header: Mapping[str, Any], version: Version | None = None
    ) -> None:
        self._folder, self._header = folder, header
        self._parts: list[Part] = [] if version is None else version.parts()
        self.changed = version is None

    def remove(self, ids: np.ndarray) -> int:
        """Remove ids S[n]; returns how many there were."""
        part, row = find(self._parts, np.unique(ids))
        for number, (_, there) in enumerate(self._parts):
            there[row[part == number]] = False
        self.changed |= bool((part >= 0).any())
        return int((part >= 0).sum())

    def add(self, ids: np.ndarray, vectors: np.ndarray, *, replace: bool = False) -> int:
        """Add vectors f32[n, D] with ids S[n]; returns how many took the place of others."""
        there = find(self._parts, ids)[0] >= 0
        if there.any() and not replace:
            raise ValueError(
                f"{given.some(ids[there])} are in the index already: replace them, or leave them "
                "out"
            )
        gone = self.remove(ids[there])
        if not len(ids):
            return gone
        while self._parts and self._is_flat(-1) and len(self._parts[-1][0]) <= JOINED * len(ids):
            before_ids, before = _living(self._parts.pop())
            ids, vectors = np.concatenate([before_ids, ids]), np.concatenate([before, vectors])
        self._write(ids, vectors, {}, flat=True)
        return gone

    def merge(self) -> None:
        """Join all that is there in one segment, searched by the engine."""
        living = [_living(part) for part in self._parts if part[1].any()]
        self._parts, self.changed = [], True
        if living:
            ids, vectors = (np.concatenate(parts) for parts in zip(*living))
            built = engine_from_json(self._header["engine"]).build(vectors)
            self._write(ids, vectors, built, flat=False)

    def commit(self) -> None:
        """Put it in the place of the version that stands."""
        parts = [(segment, there) for segment, there in self._parts if there.any()]
        removed = {segment.name: ~there for segment, there in parts}
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


def _living(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Ids and vectors, verified, of what was not removed."""
    segment, there = part
    return segment.ids[there], segment.whole()[there]
