"""An index of videos: what is near a video, what fits to a history, found and kept up to date."""

import contextlib
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed.progress import Progress
from vidembed.records.table import FeatureTable
from vidembed.serving import given
from vidembed.serving.index import Found, Index

if TYPE_CHECKING:
    from vidembed.deploy.run import Run, Videos

BUILDING = "building the index"
_log = logging.getLogger(__name__)


class VideoIndex:
    """Videos by id, searched by vectors, by features, by ids, and by what someone watched.

    index: the vectors on disk (`serving.index`), which is added to, removed from and rolled back.
    run: what makes vectors of features, where that is known.
    """

    def __init__(self, index: Index, run: "Run | None" = None) -> None:
        self.index, self.run = index, run
        if run is not None:
            given.same_space(run.space, index.space, "the run's vectors")

    @staticmethod
    def open(path: str | os.PathLike[str], run: "Run | None" = None) -> "VideoIndex":
        """The index in a folder; SpaceError if it is not of the run's vectors."""
        return VideoIndex(Index.open(path), run)

    @staticmethod
    def temporary(run: "Run", ids: np.ndarray, vectors: np.ndarray, **options: Any) -> "VideoIndex":
        """One that lies in a temporary folder, as long as it is used."""
        folder = tempfile.mkdtemp(prefix="vidembed")
        try:
            path = os.path.join(folder, "index")
            made = VideoIndex(Index.create(path, ids, vectors, space=run.space, **options), run)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(made, shutil.rmtree, folder, ignore_errors=True)
        return made

    def __len__(self) -> int:
        return len(self.index)

    def search(
        self,
        vectors: "np.ndarray | Videos | None" = None,
        k: int = 10,
        *,
        ids: Any = None,
        within: Any = None,
        effort: int | None = None,
    ) -> Found:
        """The k nearest videos of each query, best first: by vectors f32[Q, D], by what the run
        embeds (a table, its folder, or arrays by modality), or by ids, which do not find
        themselves.

        within: ids that may be found. effort: see `Index.search`. Where there are fewer than k,
        fewer are found. Raises ValueError, with their number, for ids that the index lacks.
        """
        _check(k)
        if (vectors is None) == (ids is None):
            raise ValueError("give one of vectors and ids: what is searched by")
        if ids is None:
            if isinstance(vectors, FeatureTable | Mapping | str | os.PathLike):
                if self.run is None:
                    raise ValueError(
                        "no run makes vectors of features here: open the index with it"
                    )
                vectors = self.run.embed(vectors)
            assert vectors is not None
            return self.index.search(vectors, k, within=within, effort=effort)
        names = given.names(ids)
        own, there = self.index.vectors_of(names)
        if not there.all():
            raise ValueError(
                f"the index lacks {given.some(names[~there])} of {len(names):,} asked for: leave "
                "them out, or search by their features"
            )
        found = self.index.search(own, k + 1, within=within, effort=effort)
        return without(found, list(names), k)

    def recommend(
        self, history: Any, k: int = 10, *, within: Any = None, effort: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(ids S[n], scores f32[n]), n ≤ k: what is nearest to the mean of the vectors of the
        history, ids of which none is found. A score is the mean of those with its videos (CDML,
        equation 5).

        Ids that the index lacks are left out, and counted in a warning; ValueError where it has
        none of them.
        """
        _check(k)
        names = given.names(history)
        vectors, there = self.index.vectors_of(names)
        if not there.any():
            lacking = given.some(names) if len(names) else "the history is empty"
            raise ValueError(f"the index has no video of the history ({lacking})")
        if not there.all():
            _log.warning("the index lacks %s of the history", given.some(names[~there]))
        seen = np.unique(names[there])
        mean = vectors.mean(axis=0, keepdims=True)
        found = self.index.search(mean, k + len(seen), within=within, effort=effort)
        [(ids, scores)] = without(found, [seen], k).each()
        return ids, scores

    def refresh(
        self,
        table: FeatureTable | str | os.PathLike[str],
        *,
        prune: bool = False,
        merge: bool = False,
        present: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> tuple[int, int]:
        """(added, removed): embed the table's videos that the index lacks, and add them.

        prune: also remove those that the table lacks. merge: then make one segment of all. present:
        as for `Run.embed`. Videos that both have stay as they are. All of it is one version of the
        index, and may be rolled back.
        """
        run = self._run()
        table = table if isinstance(table, FeatureTable) else FeatureTable.open(table)
        rows = run.embeddable(table, present)
        rows = rows[~self.index.has(table.ids[rows])]
        vectors = run.embed_rows(table, rows, present=present, progress=progress)
        gone = self.index.ids if prune else np.zeros(0, "S1")
        gone = gone[table.find(gone) < 0]
        add = (table.ids[rows], vectors) if len(rows) else None
        with progress.stage(BUILDING) if progress else contextlib.nullcontext():
            removed = self.index.change(add=add, remove=gone, merge=merge, space=run.space)
        return len(rows), removed

    def _run(self) -> "Run":
        if self.run is None:
            raise ValueError("no run makes vectors of features here: open the index with one")
        return self.run


def without(found: Found, left_out: Sequence[Any], k: int) -> Found:
    """The first k of each query but for ids that are left out of it, one or several a query."""
    kept = []
    for (ids, _), names in zip(found.each(), left_out):
        wanted = ~np.isin(ids, names)
        kept.append(wanted & (np.cumsum(wanted) <= k))
    chosen = np.concatenate([np.zeros(0, np.bool_), *kept])
    counts = np.array([mask.sum() for mask in kept], np.int64)
    return Found(found.ids[chosen], found.scores[chosen], counts)


def _check(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}: ask for one result or more")
