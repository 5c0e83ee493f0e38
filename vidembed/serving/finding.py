"""Find the best candidates for many users in an index, with any user model and engine."""

from typing import NamedTuple

import numpy as np

from vidembed.distributed import mesh as meshes
from vidembed.serving.engines import with_effort
from vidembed.serving.exact import Exact, few_sizes, pool_of
from vidembed.serving.index import Index, RankedVideos
from vidembed.serving.parts import find, joined, search, without
from vidembed.serving.scoring import Histories, best_placed
from vidembed.serving.segment import Segment
from vidembed.serving.user_models import UserModel

SIMILARITIES_AT_ONCE = 1 << 24
QUERIES_AT_ONCE = 256


class Seen(NamedTuple):
    """Ids S[S] to exclude for U users, concatenated over users; offsets i64[U + 1]."""

    ids: np.ndarray
    offsets: np.ndarray

    def and_also(self, ids: np.ndarray) -> "Seen":
        """Add one id S[U] per user."""
        wide = np.result_type(self.ids, ids)
        both = np.insert(self.ids.astype(wide), self.offsets[1:], ids.astype(wide))
        return Seen(both, self.offsets + np.arange(len(self.offsets)))

    def of(self, user: int) -> np.ndarray:
        """The ids S[s] of one user."""
        return self.ids[self.offsets[user] : self.offsets[user + 1]]


class Finder:
    """Finds candidates in an index, optionally among given ids only."""

    def __init__(
        self, index: Index, candidates: np.ndarray | None, model: UserModel, effort: int | None
    ) -> None:
        self._index, self._model = index, model
        self._parts = index.parts(candidates)
        self._engine = with_effort(index.engine, effort)

    def find(self, given: Histories, seen: Seen, k: int) -> RankedVideos:
        """The k best unseen candidates of each user, best first."""
        if isinstance(self._engine, Exact):
            return self._of_all(given, seen, k)
        if self._model.one_vector:
            return self._near_one(given.queries, seen, k)
        return self._near_each(given, seen, k)

    def _of_all(self, given: Histories, seen: Seen, k: int) -> RankedVideos:
        """Score every vector."""
        mesh = meshes.make_mesh(meshes.MeshShape())
        part, row = find(self._parts, seen.ids)

        def best(number: int, segment: Segment, alive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            excluded = np.where(part == number, row, -1), seen.offsets
            pool = pool_of(mesh, segment)
            return best_placed(mesh, pool, given, excluded, k, alive, model=self._model)

        return joined(self._parts, len(seen.offsets) - 1, k, best)

    def _near_one(self, queries: np.ndarray, seen: Seen, k: int) -> RankedVideos:
        """Search near one vector per user, for k plus the number of excluded ids; users with
        similar numbers are searched together."""
        lengths = np.diff(seen.offsets)
        sizes = np.array([few_sizes(max(1, length)) for length in lengths.tolist()], np.int64)
        results = [(np.zeros(0, "S1"), np.zeros(0, np.float32))] * len(lengths)
        for size in np.unique(sizes).tolist():
            users = np.flatnonzero(sizes == size).tolist()
            nearest = search(self._parts, queries[users], k + size, self._engine)
            unseen = without(nearest, [seen.of(user) for user in users], k)
            for user, result in zip(users, unseen.each()):
                results[user] = result
        return ranked_of_each(results)

    def _near_each(self, given: Histories, seen: Seen, k: int) -> RankedVideos:
        """Search near each video of a history and near the current one, then score the results."""
        results = []
        for user, (start, end) in enumerate(zip(given.offsets[:-1], given.offsets[1:])):
            history, excluded = given.queries[start:end], seen.of(user)
            current = None if given.current is None else given.current[user]
            queries = history if current is None else np.concatenate([history, current[None]])
            near = [np.zeros(0, "S1")]
            for at in range(0, len(queries), QUERIES_AT_ONCE):
                block = queries[at : at + QUERIES_AT_ONCE]
                nearest = search(self._parts, block, k + len(excluded), self._engine)
                near.append(np.unique(nearest.ids))
            ids = np.setdiff1d(np.concatenate(near), excluded)
            scores = self._scores(ids, history, current, given.blend)
            best = np.argsort(-scores, kind="stable")[:k]
            results.append((ids[best], scores[best]))
        return ranked_of_each(results)

    def _scores(
        self, ids: np.ndarray, history: np.ndarray, current: np.ndarray | None, blend: float
    ) -> np.ndarray:
        """Scores f32[C] of candidates S[C], for a history f32[h, D]."""
        scores = np.empty(len(ids), np.float32)
        at_once = max(1, SIMILARITIES_AT_ONCE // len(history))
        for at in range(0, len(ids), at_once):
            block = slice(at, at + at_once)
            vectors, _ = self._index.vectors_of(ids[block])
            scores[block] = self._model.of(history @ vectors.T)
            if current is not None:
                scores[block] = (1 - blend) * scores[block] + blend * (vectors @ current)
        return scores


def ranked_of_each(results: list[tuple[np.ndarray, np.ndarray]]) -> RankedVideos:
    """Join the (ids, scores) of each query, as from `RankedVideos.each`."""
    ids, scores = zip(*results) if results else ((), ())
    counts = np.array([len(names) for names in ids], np.int64)
    empty = np.zeros(0, "S1"), np.zeros(0, np.float32)
    return RankedVideos(
        np.concatenate([empty[0], *ids]), np.concatenate([empty[1], *scores]), counts
    )
