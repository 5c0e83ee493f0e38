"""An index: vectors with ids that are searched, added to, removed from and swapped whole."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from vidembed.serving import given
from vidembed.serving.changes import Draft
from vidembed.serving.engines import engine_from_json, engine_of, engine_to_json, with_effort
from vidembed.serving.exact import Exact
from vidembed.serving.parts import Found, Part, find, only, search
from vidembed.serving.segment import Engine
from vidembed.serving.versions import Folder, Version

_log = logging.getLogger(__name__)


class Index:
    """N vectors of one space, on disk in a folder, searched by dot product.

    An index that is open stays at the version it opened, whatever is changed meanwhile; `reopen`
    takes the newest. Changes are whole: they appear at once, or not at all, and the version before
    is kept for `rollback`. One process changes an index at a time, any number read it.
    """

    def __init__(self, folder: Folder, version: Version) -> None:
        self._folder, self._version = folder, version

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Index":
        """The index in a folder; FileNotFoundError or DamagedIndexError where none is whole."""
        folder = Folder(path)
        return cls(folder, folder.read())

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        ids: Any,
        vectors: np.ndarray,
        *,
        space: str,
        engine: str | Engine = "exact",
        keep: str = "float32",
        over: bool = False,
    ) -> "Index":
        """An index of vectors f32[N, D] with ids, bytes or text; N may be 0.

        space: what made the numbers. engine: "exact", "fast-scan", "hnsw", "ivf", or one with its
        options, such as FastScan(levels=...). keep: the vectors for exact scores, "float32" or
        "int8". over: take the place of an index that is there, which stays for `rollback`; else
        FileExistsError.
        """
        folder = Folder(path)
        names = given.unique_names(ids)
        vectors = given.finite(vectors, "vectors", width=None, ids=names)
        header = {
            "space": space,
            "dimension": vectors.shape[1],
            "keep": keep,
            "engine": engine_to_json(engine_of(engine)),
        }
        with folder.writing(new=True):
            if folder.exists() and not over:
                raise FileExistsError(f"{folder.path} is an index: add to it, or say over=True")
            draft = Draft(folder, header)
            draft.add(names, vectors)
            draft.merge()
            draft.commit()
            return cls(folder, folder.read())

    @classmethod
    def rollback(cls, path: str | os.PathLike[str]) -> "Index":
        """Put the version before in the place of the one that stands, which may be damaged.

        ValueError where none is kept: one is, and a rollback takes it.
        """
        folder = Folder(path)
        with folder.writing():
            folder.go_back()
            return cls(folder, folder.read())

    @property
    def space(self) -> str:
        """What made the vectors."""
        return str(self._version.header["space"])

    @property
    def dimension(self) -> int:
        """D."""
        return int(self._version.header["dimension"])

    @property
    def engine(self) -> Engine:
        """What searches all but the flat part."""
        return engine_from_json(self._version.header["engine"])

    @property
    def keep(self) -> str:
        """How the vectors are kept for exact scores: float32 or int8."""
        return str(self._version.header["keep"])

    def __len__(self) -> int:
        return sum(int(there.sum()) for _, there in self._version.parts())

    @property
    def ids(self) -> np.ndarray:
        """S[N]: every id that is there."""
        return np.concatenate(
            [np.zeros(0, "S1"), *(part.ids[there] for part, there in self._version.parts())]
        )

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        within: Any = None,
        space: str | None = None,
        effort: int | None = None,
    ) -> Found:
        """The k nearest of each query f32[Q, D] by dot product, best first.

        within: ids that may be found (None: all); those that the index lacks are counted in a
        warning. space: of the queries; SpaceError if it is not the index's. effort: for this
        search, what the engine's own `effort` says. k above what may be found gives fewer rows.
        """
        queries = given.finite(queries, "queries", width=self.dimension)
        given.same_space(space, self.space, "queries")
        return self._search(queries, k, within, with_effort(self.engine, effort))

    def recall(
        self, queries: np.ndarray, k: int, *, within: Any = None, effort: int | None = None
    ) -> float:
        """The share of the k nearest by exact search of the kept vectors that `search` finds."""
        queries = given.finite(queries, "queries", width=self.dimension)
        found = self._search(queries, k, within, with_effort(self.engine, effort))
        loaded = [segment.has_loaded("exact") for segment in self._version.segments]
        exact = self._search(queries, k, within, Exact())
        for segment, stays in zip(self._version.segments, loaded):
            if not stays:
                segment.forget("exact")
        pairs = zip(found.each(), exact.each())
        hits = sum(len(np.intersect1d(ids, right)) for (ids, _), (right, _) in pairs)
        return hits / len(exact.ids) if len(exact.ids) else 1.0

    def has(self, ids: Any) -> np.ndarray:
        """Which ids are there, bool[n]."""
        return find(self._version.parts(), given.names(ids))[0] >= 0

    def vectors_of(self, ids: Any) -> tuple[np.ndarray, np.ndarray]:
        """(f32[m, D], bool[n]): the vectors of those ids that are there, and which are."""
        part, row = find(self._version.parts(), given.names(ids))
        vectors = np.empty((len(part), self.dimension), np.float32)
        for number, segment in enumerate(self._version.segments):
            mine = part == number
            vectors[mine] = segment.vectors_at(row[mine])
        return vectors[part >= 0], part >= 0

    def add(self, ids: Any, vectors: np.ndarray, *, space: str | None = None) -> None:
        """Add vectors f32[n, D]; ValueError for ids that are there already."""
        self.change(add=(ids, vectors), space=space)

    def replace(self, ids: Any, vectors: np.ndarray, *, space: str | None = None) -> int:
        """Add vectors f32[n, D], in the place of those whose ids are there; returns how many."""
        return self.change(add=(ids, vectors), space=space, replace=True)

    def remove(self, ids: Any) -> int:
        """Remove ids; returns how many of them were there."""
        return self.change(remove=ids)

    def merge(self, engine: str | Engine | None = None) -> None:
        """Make one segment of all, searched by the engine: nothing is flat, nothing removed.

        engine: another one from now on, if given.
        """
        self.change(merge=True, engine=engine)

    def change(
        self,
        *,
        add: tuple[Any, np.ndarray] | None = None,
        remove: Any = (),
        replace: bool = False,
        merge: bool = False,
        engine: str | Engine | None = None,
        space: str | None = None,
    ) -> int:
        """All of this in one version: remove, then add, then merge. Returns how many ids that were
        there were removed or replaced. Made to the newest version, not to the one that is open."""
        given.same_space(space, self.space, "vectors")
        names, vectors = given.unique_names(add[0] if add else ()), None
        if add:
            vectors = given.finite(add[1], "vectors", width=self.dimension, ids=names)
        with self._folder.writing():
            version = self._folder.read(self._version)
            given.same_space(self.space, str(version.header["space"]), "changes")
            header = dict(version.header)
            if engine is not None:
                header["engine"] = engine_to_json(engine_of(engine))
            draft = Draft(self._folder, header, version)
            gone = draft.remove(given.names(remove))
            if vectors is not None:
                gone += draft.add(names, vectors, replace=replace)
            if merge:
                draft.merge()
            if draft.changed:
                draft.commit()
            self._version = self._folder.read(version)
        return gone

    def reopen(self) -> None:
        """Take the newest version; what it shares with this one stays loaded."""
        self._version = self._folder.read(self._version)

    def verify(self) -> int:
        """Compare every byte of this version with its digest; DamagedIndexError names the file and
        the place. Returns the bytes."""
        blocks = [self._version.blocks, *(segment.blocks for segment in self._version.segments)]
        return sum(part.verify() for part in blocks)

    def sizes(self) -> dict[str, int]:
        """Vectors that are there, rows on disk, how many of these are searched exactly as they were
        added since the last merge, bytes of what the engine built, bytes on disk."""
        segments = self._version.segments
        return {
            "vectors": len(self),
            "rows": sum(map(len, segments)),
            "flat rows": sum(len(one) for one in segments if one.blocks.header["flat"]),
            "engine bytes": sum(segment.engine_bytes for segment in segments),
            "bytes": sum(segment.blocks.size for segment in segments) + self._version.blocks.size,
        }

    def parts(self, within: Any = None) -> Sequence[Part]:
        """Segments, and which of their rows may be found; as `search`."""
        parts = self._version.parts()
        if within is None:
            return parts
        names = given.names(within)
        part, row = find(parts, names)
        if (part < 0).any():
            _log.warning("the index lacks %s of `within`", given.some(names[part < 0]))
        return only(parts, part, row)

    def _search(self, queries: np.ndarray, k: int, within: Any, engine: Engine) -> Found:
        given.depth(k)
        return search(self.parts(within), queries, k, engine)
