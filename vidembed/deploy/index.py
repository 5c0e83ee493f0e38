"""An index of videos: search for neighbours, recommend from a watch history, keep it up to date."""

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
from vidembed.serving.choosing import Choosing
from vidembed.serving.index import Index, RankedVideos
from vidembed.serving.parts import without
from vidembed.serving.recommending import (
    Recommended,
    RecommendOptions,
    Watched,
    candidates_of,
    recommend,
)
from vidembed.serving.user_models import Mean, UserModel
from vidembed.serving.user_vector import UserVector

if TYPE_CHECKING:
    from vidembed.deploy.run import Run, Videos

BUILDING = "building the index"
_log = logging.getLogger(__name__)


class VideoIndex:
    """Videos by id, searched by vectors, by features, by ids, and by watch history.

    index: the vectors on disk (`serving.index`); add to it, remove from it and roll it back there.
    run: the run that computes vectors from features, if known.
    """

    def __init__(self, index: Index, run: "Run | None" = None) -> None:
        self.index, self.run = index, run
        if run is not None:
            given.same_space(run.space, index.space, "the run's vectors")

    @staticmethod
    def open(path: str | os.PathLike[str], run: "Run | None" = None) -> "VideoIndex":
        """Open the index in a folder; SpaceError if it is not in the run's space."""
        return VideoIndex(Index.open(path), run)

    @staticmethod
    def temporary(run: "Run", ids: np.ndarray, vectors: np.ndarray, **options: Any) -> "VideoIndex":
        """An index in a temporary folder, which is removed when the index is no longer used."""
        folder = tempfile.mkdtemp(prefix="vidembed")
        try:
            path = os.path.join(folder, "index")
            index = VideoIndex(Index.create(path, ids, vectors, space=run.space, **options), run)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(index, shutil.rmtree, folder, ignore_errors=True)
        return index

    def __len__(self) -> int:
        return len(self.index)

    def search(
        self,
        vectors: "np.ndarray | Videos | None" = None,
        k: int = 10,
        *,
        ids: Any = None,
        text: str | Sequence[str] | None = None,
        within: Any = None,
        effort: int | None = None,
        space: str | None = None,
    ) -> RankedVideos:
        """The k nearest videos of each query, best first: fewer if there are fewer candidates.

        Query by vectors f32[Q, D], by features that the run embeds (a table, its folder, or arrays
        by modality), by ids, which are excluded from their own results, or by sentences. within,
        effort, space: as for `Index.search`. Raises ValueError for ids that the index lacks.
        """
        given.depth(k)
        given.one_query(vectors=vectors, ids=ids, text=text)
        vectors = vectors if text is None else self._run().embed_text(text)
        if ids is None:
            if isinstance(vectors, FeatureTable | Mapping | str | os.PathLike):
                vectors = self._run().embed(vectors)
            assert vectors is not None
            return self.index.search(vectors, k, within=within, effort=effort, space=space)
        names = given.names(ids)
        queries, indexed = self.index.vectors_of(names)
        if not indexed.all():
            raise ValueError(
                f"the index lacks {given.some(names[~indexed])} of {len(names):,} queries: leave "
                "them out, or search by their features"
            )
        neighbours = self.index.search(queries, k + 1, within=within, effort=effort)
        return without(neighbours, list(names), k)

    def recommend(
        self,
        history: Any,
        k: int = 10,
        *,
        user_model: UserModel = Mean(),
        user: UserVector | None = None,
        times: Any = None,
        current: Any = None,
        blend: float = 0.5,
        choosing: Choosing = Choosing(),
        within: Any = None,
        effort: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Recommend videos to a user: (ids S[n], scores f32[n]), n ≤ k (CDML, section 4.2).

        history: ids of watched videos, oldest first; they are not recommended. user_model: turns
        similarities with the history into a score: `Mean` (equation 5), optionally with forgetting,
        `Max` (equation 6), `Top`, `Variance`. For engines that are not exact, see
        `serving.recommending.recommend`. user: an up-to-date mean that replaces the history's; the
        history may then be empty. times: seconds of the watches. current: the video being watched,
        an id (not recommended either) or a vector f32[D]; a score is then
        (1 − blend) · user + blend · current. choosing: skips near-duplicates and adds diversity;
        results are then in the order chosen. Ids that the index lacks are skipped, with a warning;
        ValueError if it has none of them.
        """
        names = given.names(history)
        recommended = self._recommend(
            Watched.of([names], None if times is None else [times]),
            RecommendOptions(k=k, model=user_model, blend=blend, choosing=choosing, effort=effort),
            current if current is None else _listed(current),
            None if user is None else [user],
            within,
        )
        if recommended.without[0]:
            lacking = given.some(names) if len(names) else "the history is empty"
            raise ValueError(f"the index has no video of the history ({lacking})")
        if len(recommended.unknown):
            _log.warning("the index lacks %s of the history", given.some(recommended.unknown))
        return recommended.ranked.ids, recommended.ranked.scores

    def recommend_many(
        self,
        histories: Sequence[Any],
        k: int = 10,
        *,
        user_model: UserModel = Mean(),
        users: Sequence[UserVector] | None = None,
        times: Sequence[Any] | None = None,
        current: Any = None,
        blend: float = 0.5,
        choosing: Choosing = Choosing(),
        within: Any = None,
        effort: int | None = None,
    ) -> RankedVideos:
        """As `recommend`, for U users at once; every argument has one entry per user (current: ids
        or f32[U, D]).
        Users without any video in the index get nothing (their count is 0), with a warning.
        """
        recommended = self._recommend(
            Watched.of(histories, times),
            RecommendOptions(k=k, model=user_model, blend=blend, choosing=choosing, effort=effort),
            current,
            users,
            within,
        )
        if len(recommended.unknown):
            _log.warning("the index lacks %s of the histories", given.some(recommended.unknown))
        if recommended.without.any():
            counts = f"{int(recommended.without.sum()):,} of {len(recommended.without):,}"
            _log.warning("%s users have no video in the index, and get no recommendation", counts)
        return recommended.ranked

    def _recommend(
        self,
        watched: Watched,
        options: RecommendOptions,
        current: Any,
        users: Sequence[UserVector] | None,
        within: Any,
    ) -> Recommended:
        given.depth(options.k)
        count, names, vectors, means = len(watched.offsets) - 1, None, None, None
        if isinstance(current, np.ndarray) and current.dtype.kind == "f":
            vectors = given.finite(current, "current vectors", width=self.index.dimension)
        elif current is not None:
            names = given.names(current)
            vectors, indexed = self.index.vectors_of(names)
            if not indexed.all():
                raise ValueError(
                    f"the index lacks {given.some(names[~indexed])} of the videos being watched: "
                    "give their vectors as `current`"
                )
        if users is not None:
            listed = [user.vector for user in users]
            none = np.zeros((0, self.index.dimension))
            means = np.array(listed).reshape(len(listed), -1) if listed else none
            means = given.finite(means, "vectors of users", width=self.index.dimension)
        for what, array in (("current videos", vectors), ("vectors of users", means)):
            if array is not None and len(array) != count:
                raise ValueError(f"{len(array):,} {what} for {count:,} histories: give one each")
        return recommend(
            self.index,
            watched,
            options,
            candidates=candidates_of(self.index, within),
            current=vectors,
            current_ids=names,
            users=means,
        )

    def refresh(
        self,
        table: FeatureTable | str | os.PathLike[str],
        *,
        prune: bool = False,
        merge: bool = False,
        present: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> tuple[int, int]:
        """Embed and add the table's videos that the index lacks; return (added, removed).

        prune: also remove videos that the table lacks. merge: then merge all into one segment.
        present: as for `Run.embed`. Videos in both stay as they are. The whole change is one
        version of the index, and can be rolled back.
        """
        run = self._run()
        table = table if isinstance(table, FeatureTable) else FeatureTable.open(table)
        rows = run.embeddable(table, present)
        rows = rows[~self.index.has(table.ids[rows])]
        vectors = run.embed_rows(table, rows, present=present, progress=progress)
        gone = self.index.ids[table.find(self.index.ids) < 0] if prune else np.zeros(0, "S1")
        add = (table.ids[rows], vectors) if len(rows) else None
        with progress.stage(BUILDING) if progress else contextlib.nullcontext():
            removed = self.index.change(add=add, remove=gone, merge=merge, space=run.space)
        return len(rows), removed

    def _run(self) -> "Run":
        if self.run is None:
            raise ValueError("no run to compute vectors from features: open the index with one")
        return self.run


def _listed(current: Any) -> Any:
    """A single id or vector as a list."""
    return [current] if isinstance(current, str | bytes) else np.asarray(current, np.float32)[None]
