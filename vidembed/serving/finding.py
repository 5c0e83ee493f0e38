"""The best candidates of many users in an index, by any user model and any engine."""

from typing import NamedTuple

import numpy as np

from vidembed.distributed import mesh as meshes
from vidembed.serving.engines import with_effort
from vidembed.serving.exact import Exact, few_sizes, pool_of
from vidembed.serving.index import Found, Index
from vidembed.serving.parts import find, joined, search, without
from vidembed.serving.scoring import Histories, best_placed
from vidembed.serving.segment import Segment
from vidembed.serving.user_models import UserModel

SIMILARITIES_AT_ONCE = 1 << 24
QUERIES_AT_ONCE = 256


class Seen(NamedTuple):
    """Ids S[S] that are no candidates of U users, one user after the other; offsets i64[U + 1]."""

    ids: np.ndarray
    offsets: np.ndarray

    def and_also(self, ids: np.ndarray) -> "Seen":
        """One more id S[U] of each user."""
        wide = np.result_type(self.ids, ids)
        both = np.insert(self.ids.astype(wide), self.offsets[1:], ids.astype(wide))
        return Seen(both, self.offsets + np.arange(len(self.offsets)))

    def of(self, user: int) -> np.ndarray:
        """S[s] of one user."""
        return self.ids[self.offsets[user] : self.offsets[user + 1]]


class Finder:
    """Finds candidates in one index, or in those of its ids that are given."""

    def __init__(
        self, index: Index, candidates: np.ndarray | None, model: UserModel, effort: int | None
    ) -> None:
        self._index, self._model = index, model
        self._parts = index.parts(candidates)
        self._engine = with_effort(index.engine, effort)

    def find(self, given: Histories, seen: Seen, k: int) -> Found:
        """The k best of each user that it has not seen, best first."""
        if isinstance(self._engine, Exact):
            return self._of_all(given, seen, k)
        if self._model.one_vector:
            return self._near_one(given.queries, seen, k)
        return self._near_each(given, seen, k)

    def _of_all(self, given: Histories, seen: Seen, k: int) -> Found:
        """Every vector is scored."""
        mesh = meshes.make_mesh(meshes.MeshShape())
        part, row = find(self._parts, seen.ids)

        def best(number: int, segment: Segment, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            own = np.where(part == number, row, -1), seen.offsets
            pool = pool_of(mesh, segment)
            return best_placed(mesh, pool, given, own, k, there, model=self._model)

        return joined(self._parts, len(seen.offsets) - 1, k, best)

    def _near_one(self, queries: np.ndarray, seen: Seen, k: int) -> Found:
        """What the engine finds near one vector a user. More are asked for than k, by how many may
        have been seen, and users of about as many go together."""
        lengths = np.diff(seen.offsets)
        sizes = np.array([few_sizes(max(1, length)) for length in lengths.tolist()], np.int64)
        results = [(np.zeros(0, "S1"), np.zeros(0, np.float32))] * len(lengths)
        for size in np.unique(sizes).tolist():
            users = np.flatnonzero(sizes == size).tolist()
            found = search(self._parts, queries[users], k + size, self._engine)
            left = without(found, [seen.of(user) for user in users], k)
            for user, result in zip(users, left.each()):
                results[user] = result
        return found_of_each(results)

    def _near_each(self, given: Histories, seen: Seen, k: int) -> Found:
        """What the engine finds near each video of a history and near the current one, scored."""
        results = []
        for user, (start, end) in enumerate(zip(given.offsets[:-1], given.offsets[1:])):
            own, left_out = given.queries[start:end], seen.of(user)
            current = None if given.current is None else given.current[user]
            queries = own if current is None else np.concatenate([own, current[None]])
            near = [np.zeros(0, "S1")]
            for at in range(0, len(queries), QUERIES_AT_ONCE):
                some = queries[at : at + QUERIES_AT_ONCE]
                found = search(self._parts, some, k + len(left_out), self._engine)
                near.append(np.unique(found.ids))
            ids = np.setdiff1d(np.concatenate(near), left_out)
            scores = self._scores(ids, own, current, given.blend)
            best = np.argsort(-scores, kind="stable")[:k]
            results.append((ids[best], scores[best]))
        return found_of_each(results)

    def _scores(
        self, ids: np.ndarray, own: np.ndarray, current: np.ndarray | None, blend: float
    ) -> np.ndarray:
        """f32[C] of candidates S[C], for a history f32[h, D]."""
        scores, at_once = np.empty(len(ids), np.float32), max(1, SIMILARITIES_AT_ONCE // len(own))
        for at in range(0, len(ids), at_once):
            some = slice(at, at + at_once)
            vectors, _ = self._index.vectors_of(ids[some])
            scores[some] = self._model.of(own @ vectors.T)
            if current is not None:
                scores[some] = (1 - blend) * scores[some] + blend * (vectors @ current)
        return scores


def found_of_each(results: list[tuple[np.ndarray, np.ndarray]]) -> Found:
    """Of the ids and scores of one query after the other, as `Found.each` gives them."""
    ids, scores = zip(*results) if results else ((), ())
    counts = np.array([len(some) for some in ids], np.int64)
    none = np.zeros(0, "S1"), np.zeros(0, np.float32)
    return Found(np.concatenate([none[0], *ids]), np.concatenate([none[1], *scores]), counts)
