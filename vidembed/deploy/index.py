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
from vidembed.serving.choosing import Choosing
from vidembed.serving.index import Found, Index
from vidembed.serving.parts import without
from vidembed.serving.recommending import Asked, Recommended, Watched, candidates_of, recommend
from vidembed.serving.user_models import Mean, UserModel
from vidembed.serving.user_vector import UserVector

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
        space: str | None = None,
    ) -> Found:
        """The k nearest videos of each query, best first: by vectors f32[Q, D], by what the run
        embeds (a table, its folder, or arrays by modality), or by ids, which do not find
        themselves.

        within: ids that may be found. effort: see `Index.search`. space: of the vectors, where it
        is known: SpaceError if the index is of another. Where there are fewer than k, fewer are
        found. Raises ValueError, with their number, for ids that the index lacks.
        """
        given.depth(k)
        if (vectors is None) == (ids is None):
            raise ValueError("give one of vectors and ids: what is searched by")
        if ids is None:
            if isinstance(vectors, FeatureTable | Mapping | str | os.PathLike):
                vectors = self._run().embed(vectors)
            assert vectors is not None
            return self.index.search(vectors, k, within=within, effort=effort, space=space)
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
        """(ids S[n], scores f32[n]), n ≤ k: what to recommend to who watched the history, ids of
        which none is found, oldest first (CDML, section 4.2).

        user_model: how similarities with the history make a score: `Mean` (equation 5), with
        forgetting if asked; `Max` (equation 6), `Top`, `Variance`. Where the engine is not exact,
        `serving.recommending.recommend` says what is. user: the mean kept up to date, in the place
        of the history's, which may then be empty. times: seconds of the watches. current: the video
        being watched, an id (not found either) or a vector f32[D]; a score is then
        (1 − blend) · user + blend · current.
        choosing: near-duplicates left out, and diversity; then the order is that of choice.

        Ids that the index lacks are left out, and counted in a warning; ValueError where it has
        none of them.
        """
        names = given.names(history)
        found = self._recommend(
            Watched.of([names], None if times is None else [times]),
            Asked(k=k, model=user_model, blend=blend, choosing=choosing, effort=effort),
            current if current is None else _one(current),
            None if user is None else [user],
            within,
        )
        if found.without[0]:
            lacking = given.some(names) if len(names) else "the history is empty"
            raise ValueError(f"the index has no video of the history ({lacking})")
        if len(found.unknown):
            _log.warning("the index lacks %s of the history", given.some(found.unknown))
        return found.found.ids, found.found.scores

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
    ) -> Found:
        """As `recommend`, of U users at a time: a history each, and what else is given, a list each
        (current: ids, or f32[U, D]).

        Users of whom the index knows no video find nothing (their count is 0), and are counted in a
        warning.
        """
        found = self._recommend(
            Watched.of(histories, times),
            Asked(k=k, model=user_model, blend=blend, choosing=choosing, effort=effort),
            current,
            users,
            within,
        )
        if len(found.unknown):
            _log.warning("the index lacks %s of the histories", given.some(found.unknown))
        if found.without.any():
            counts = f"{int(found.without.sum()):,} of {len(found.without):,}"
            _log.warning("%s users have no video in the index, and get no recommendation", counts)
        return found.found

    def _recommend(
        self,
        watched: Watched,
        asked: Asked,
        current: Any,
        users: Sequence[UserVector] | None,
        within: Any,
    ) -> Recommended:
        given.depth(asked.k)
        count, names, vectors, means = len(watched.offsets) - 1, None, None, None
        if isinstance(current, np.ndarray) and current.dtype.kind == "f":
            vectors = given.finite(current, "current vectors", width=self.index.dimension)
        elif current is not None:
            names = given.names(current)
            vectors, there = self.index.vectors_of(names)
            if not there.all():
                raise ValueError(
                    f"the index lacks {given.some(names[~there])} of the videos being watched: "
                    "give their vectors as `current`"
                )
        if users is not None:
            own = [user.vector for user in users]
            means = (
                np.array(own).reshape(len(own), -1) if own else np.zeros((0, self.index.dimension))
            )
            means = given.finite(means, "vectors of users", width=self.index.dimension)
        for what, found in (("current videos", vectors), ("vectors of users", means)):
            if found is not None and len(found) != count:
                raise ValueError(f"{len(found):,} {what} for {count:,} histories: give one each")
        return recommend(
            self.index,
            watched,
            asked,
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
        gone = self.index.ids[table.find(self.index.ids) < 0] if prune else np.zeros(0, "S1")
        add = (table.ids[rows], vectors) if len(rows) else None
        with progress.stage(BUILDING) if progress else contextlib.nullcontext():
            removed = self.index.change(add=add, remove=gone, merge=merge, space=run.space)
        return len(rows), removed

    def _run(self) -> "Run":
        if self.run is None:
            raise ValueError("no run makes vectors of features here: open the index with one")
        return self.run


def _one(current: Any) -> Any:
    """One id or vector as a list of one."""
    return [current] if isinstance(current, str | bytes) else np.asarray(current, np.float32)[None]
