"""An index: vectors with ids, to search, add, replace and remove."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from vidembed.serving import given
from vidembed.serving.changes import Draft
from vidembed.serving.engines import engine_from_json, engine_of, engine_to_json, with_effort
from vidembed.serving.exact import Exact
from vidembed.serving.parts import Part, RankedVideos, find, only, search
from vidembed.serving.segment import Engine
from vidembed.serving.versions import Folder, Version

_log = logging.getLogger(__name__)


class Index:
    """N vectors of one space, in a folder on disk, searched by dot product.

    An open index stays at the version it opened, even if others change it; `reopen` takes the
    newest. Changes are atomic: they appear as a whole or not at all, and the previous version is
    kept for `rollback`. One process at a time can change an index, any number can read it.
    """

    def __init__(self, folder: Folder, version: Version) -> None:
        self._folder, self._version = folder, version

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Index":
        """Open the index in a folder; raises FileNotFoundError or DamagedIndexError."""
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
        """Create an index of vectors f32[N, D] with ids, bytes or text; N may be 0.

        space: name of the model that made the vectors. engine: "exact", "fast-scan", "hnsw", "ivf",
        or an engine with options, such as FastScan(levels=...). keep: how to store the vectors for
        exact scores, "float32" or "int8". over: replace an existing index, which is kept for
        `rollback`; otherwise an existing index raises FileExistsError.
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
                raise FileExistsError(f"{folder.path} is an index: add to it, or set over=True")
            draft = Draft(folder, header)
            draft.add(names, vectors)
            draft.merge()
            draft.commit()
            return cls(folder, folder.read())

    @classmethod
    def rollback(cls, path: str | os.PathLike[str]) -> "Index":
        """Go back to the previous version; the current one may be damaged.

        Raises ValueError if no previous version is kept: only one is, and a rollback uses it up.
        """
        folder = Folder(path)
        with folder.writing():
            folder.go_back()
            return cls(folder, folder.read())

    @property
    def space(self) -> str:
        """The space of the vectors: the model that made them."""
        return str(self._version.header["space"])

    @property
    def dimension(self) -> int:
        """D, the dimension of the vectors."""
        return int(self._version.header["dimension"])

    @property
    def engine(self) -> Engine:
        """The engine that searches all segments except flat ones."""
        return engine_from_json(self._version.header["engine"])

    @property
    def keep(self) -> str:
        """How the vectors are stored for exact scores: "float32" or "int8"."""
        return str(self._version.header["keep"])

    def __len__(self) -> int:
        return sum(int(present.sum()) for _, present in self._version.parts())

    @property
    def ids(self) -> np.ndarray:
        """All ids, S[N]."""
        return np.concatenate(
            [np.zeros(0, "S1"), *(part.ids[present] for part, present in self._version.parts())]
        )

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        within: Any = None,
        space: str | None = None,
        effort: int | None = None,
    ) -> RankedVideos:
        """Return the k nearest videos of each query f32[Q, D], by dot product, best first.

        within: search among these ids only; a warning counts those that the index lacks. space: the
        space of the queries, if known; SpaceError if the index is of another. effort: for this
        search, instead of the engine's own. A query gets fewer than k videos if fewer qualify.
        """
        queries = given.finite(queries, "queries", width=self.dimension)
        given.same_space(space, self.space, "queries")
        return self._search(queries, k, within, with_effort(self.engine, effort))

    def recall(
        self, queries: np.ndarray, k: int, *, within: Any = None, effort: int | None = None
    ) -> float:
        """Share of the k nearest by exact search of the kept vectors that `search` also finds."""
        queries = given.finite(queries, "queries", width=self.dimension)
        approximate = self._search(queries, k, within, with_effort(self.engine, effort))
        loaded = [segment.has_loaded("exact") for segment in self._version.segments]
        exact = self._search(queries, k, within, Exact())
        for segment, stays in zip(self._version.segments, loaded):
            if not stays:
                segment.forget("exact")
        pairs = zip(approximate.each(), exact.each())
        hits = sum(len(np.intersect1d(ids, exact_ids)) for (ids, _), (exact_ids, _) in pairs)
        return hits / len(exact.ids) if len(exact.ids) else 1.0

    def has(self, ids: Any) -> np.ndarray:
        """Which ids are in the index, bool[n]."""
        return find(self._version.parts(), given.names(ids))[0] >= 0

    def vectors_of(self, ids: Any) -> tuple[np.ndarray, np.ndarray]:
        """The vectors f32[m, D] of those ids that are in the index, and which are, bool[n]."""
        part, row = find(self._version.parts(), given.names(ids))
        vectors = np.empty((len(part), self.dimension), np.float32)
        for number, segment in enumerate(self._version.segments):
            in_segment = part == number
            vectors[in_segment] = segment.vectors_at(row[in_segment])
        return vectors[part >= 0], part >= 0

    def add(self, ids: Any, vectors: np.ndarray, *, space: str | None = None) -> None:
        """Add vectors f32[n, D]; raises ValueError for ids that are already in the index."""
        self.change(add=(ids, vectors), space=space)

    def replace(self, ids: Any, vectors: np.ndarray, *, space: str | None = None) -> int:
        """Add vectors f32[n, D], replacing those with equal ids; return the number replaced."""
        return self.change(add=(ids, vectors), space=space, replace=True)

    def remove(self, ids: Any) -> int:
        """Remove ids; return how many of them existed."""
        return self.change(remove=ids)

    def merge(self, engine: str | Engine | None = None) -> None:
        """Join all segments into one that the engine searches, without removed or flat rows.

        engine: switch to this engine from now on, if given.
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
        """Remove, then add, then merge, all in one new version; return the number of ids removed
        or replaced. Applies to the newest version, not to the one that is open."""
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
            removed = draft.remove(given.names(remove))
            if vectors is not None:
                removed += draft.add(names, vectors, replace=replace)
            if merge:
                draft.merge()
            if draft.changed:
                draft.commit()
            self._version = self._folder.read(version)
        return removed

    def reopen(self) -> None:
        """Switch to the newest version; segments that it shares with this one stay loaded."""
        self._version = self._folder.read(self._version)

    def verify(self) -> int:
        """Compare every byte of this version with its digest; return the number of bytes. Raises
        DamagedIndexError, naming the file and the place."""
        blocks = [self._version.blocks, *(segment.blocks for segment in self._version.segments)]
        return sum(part.verify() for part in blocks)

    def sizes(self) -> dict[str, int]:
        """Number of vectors, of rows on disk, and of flat rows (searched exactly, because they were
        added since the last merge); bytes of the engine's arrays, and on disk."""
        segments = self._version.segments
        return {
            "vectors": len(self),
            "rows": sum(map(len, segments)),
            "flat rows": sum(len(part) for part in segments if part.blocks.header["flat"]),
            "engine bytes": sum(segment.engine_bytes for segment in segments),
            "bytes": sum(segment.blocks.size for segment in segments) + self._version.blocks.size,
        }

    def parts(self, within: Any = None) -> Sequence[Part]:
        """Segments, and which of their rows may be found, with `within` as in `search`."""
        parts = self._version.parts()
        if within is None:
            return parts
        names = given.names(within)
        part, row = find(parts, names)
        if (part < 0).any():
            _log.warning("the index lacks %s of `within`", given.some(names[part < 0]))
        return only(parts, part, row)

    def _search(self, queries: np.ndarray, k: int, within: Any, engine: Engine) -> RankedVideos:
        given.depth(k)
        return search(self.parts(within), queries, k, engine)
