"""Evaluate recommendations to real users (CDML, section 4.2) on any set of interactions."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

import jax
import numpy as np

from vidembed import TUNABLE
from vidembed.corpora.held_out import Part
from vidembed.corpora.ratings import STARS, Ratings, read_ratings
from vidembed.corpora.ratings_files import content_digest
from vidembed.corpora.watched import Corpus
from vidembed.evaluators import factors
from vidembed.evaluators.baselines import feature_embeddings
from vidembed.evaluators.evaluator import Evaluator
from vidembed.evaluators.queries import VALIDATION
from vidembed.evaluators.ranked_users import Blocks, Measured, in_blocks, measure, ragged
from vidembed.evaluators.slices import LabelKinds, Slices, sliced, slices_of
from vidembed.evaluators.user_queries import Asking, UserQueries, offsets_of
from vidembed.metrics.intervals import Interval, Result, Selection, bootstrap
from vidembed.progress import Progress
from vidembed.serving.recommender import score_blocks
from vidembed.serving.user_models import Mean, UserModel

SCORES_AT_ONCE = 1 << 24
"""Scores of users and items on the host at a time: 64 MB."""


@dataclass(frozen=True, kw_only=True)
class Recommendation(Evaluator):
    """How well recommendations match what users went on to watch and like.

    `UserModel` scores candidates from a user's known history. All candidates are ranked, or only
    the user's test items (`asking.own`). NDCG@k, recall@k, MAP, AUC and the share of popular items
    are means over users, with 95 % intervals by resampling users; coverage is over all users,
    without an interval. Denominators: see `ranked_users.measure`.

    If there are validation videos, they are measured separately from the test videos, under names
    that begin with `validation_`, and choose the checkpoint. Warm items are in train: there, the
    users' test items choose it.
    """

    ratings: str = ""
    """Path of users' interactions with videos of the table; see `corpora.ratings`. Part of the
    evaluation's identity, as is the file's content."""
    scale: tuple[float, float] = STARS
    """Lowest and highest valid rating; others are left out, and counted. The gain of NDCG is
    2^rating − 1."""
    items: Literal["cold", "warm"] = "cold"
    """Recommend videos outside the train partition (cold), or in it (warm)."""
    asking: Asking = Asking()
    aggregate: UserModel = Mean()
    """How similarities with the history are combined into one score."""
    ks: tuple[int, ...] = (10,)
    """Depths of NDCG, recall, coverage and popular share; checkpoints are compared at the first."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """Similarity of videos; for embeddings of unit length both are the same."""
    resamples: int = 1000
    """Bootstrap resamples behind each 95 % interval."""
    seed: int = 0
    """Seed of the bootstrap and of random baselines."""
    users_at_once: Annotated[int | None, TUNABLE] = None
    """Users scored at a time; None: as many as fit in 64 MB."""

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1 or len(set(self.ks)) < len(self.ks):
            raise ValueError(f"ks must be distinct depths of 1 or more, found {self.ks}")
        if not 0 <= self.scale[0] < self.scale[1]:
            raise ValueError(
                f"scale must be the lowest and highest rating, 0 or more: {self.scale}"
            )
        if self.asking.gain == "graded" and self.scale[1] > 100:
            raise ValueError(
                f"the gain 2^rating - 1 overflows for ratings up to {self.scale[1]:g}: rescale the "
                "ratings, or use --evaluator.asking.gain binary"
            )
        if self.resamples < 40:
            raise ValueError(f"{self.resamples} resamples are too few for an interval: use 1,000")

    @property
    def direction(self) -> str:
        """Name of the scores and results: `cold_items` or `warm_items`."""
        return f"{self.items}_items"

    def identity(self) -> dict[str, Any]:
        """As for `Evaluator`, plus a digest of the ratings' content."""
        return super().identity() | {"content": content_digest(self.ratings)}

    def check(self, corpus: Corpus) -> None:
        """Raise ValueError if there is nothing to measure; needs no embedding."""
        self.asked_of(corpus)

    def asked_of(self, corpus: Corpus) -> dict[str, UserQueries]:
        """Name of the scores → users and their test items; the test part comes first."""
        parts: Iterable[Part] = corpus.held_out if self.items == "cold" else ("test",)
        return {
            (VALIDATION if part == "validation" else "") + self.direction: self.asked(corpus, part)
            for part in parts
        }

    def asked(self, corpus: Corpus, part: Part = "test") -> UserQueries:
        """Read `ratings`: users and their test items."""
        if not self.ratings:
            raise ValueError("no ratings given: set --evaluator.ratings PATH")
        read = _read(self.ratings, self.scale, content_digest(self.ratings))
        ratings = read.on(corpus.table.ids)
        if self.items == "warm":
            queries = self.asking.ask(ratings.of(corpus.is_train[ratings.item]))
        else:
            cold = corpus.held_out[part].videos
            queries = self.asking.ask(ratings.of((corpus.is_train | cold)[ratings.item]), cold)
        if lacking := len(read) - len(ratings):
            queries.left_out["interactions with items that the table lacks"] = lacking
        return queries

    def run(
        self,
        outputs: Mapping[str, Callable[[Any], np.ndarray]],
        corpus: Corpus,
        *,
        mesh: jax.sharding.Mesh | None = None,
    ) -> Result:
        """Measure the embeddings f32[N, D] of the table's rows by the output `video`."""
        if "video" not in outputs:
            available = ", ".join(outputs) or "none"
            raise ValueError(
                f"recommendation needs the output `video`; the outputs of this task: {available}"
            )
        vectors, ids = outputs["video"](corpus.table), corpus.table.ids
        parts = self.asked_of(corpus)
        return self.result({n: self.measure(vectors, q, ids=ids) for n, q in parts.items()})

    def selection(self, values: Mapping[str, float]) -> Selection:
        """NDCG at the first depth; on validation videos if they were measured."""
        validation = (name for name in values if name.startswith(VALIDATION))
        name = next(validation, next(iter(values)))
        return Selection(name=name, value=values[name])

    def measure(self, vectors: np.ndarray, queries: UserQueries, *, ids: np.ndarray) -> Measured:
        """Measure vectors f32[N, D] of the items with ids S[N]; a row of zeros scores 0."""
        return measure(self.scored(vectors, queries), queries, ks=self.ks, ids=ids)

    def scored(self, vectors: np.ndarray, queries: UserQueries) -> Iterator[Any]:
        """Yield the scores of all items for all users, in blocks of users."""
        vectors = np.asarray(vectors, np.float32)
        if len(vectors) != len(queries.popularity) or not np.isfinite(vectors).all():
            raise ValueError(
                f"{len(queries.popularity):,} items need one finite vector each, found "
                f"{list(vectors.shape)}, {int((~np.isfinite(vectors)).sum()):,} values not finite"
            )
        if self.similarity == "cosine":
            length = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.where(length > 0, length, np.float32(1))
        for users in self._blocks(queries):
            _, places = ragged(queries.offsets, users)
            offsets = offsets_of(np.diff(queries.offsets)[users])
            times = None if queries.times is None else queries.times[places]
            history = queries.history[places]
            for block, scores in score_blocks(
                vectors, history, offsets, aggregate=self.aggregate, times=times
            ):
                yield users[block], scores

    def slices(
        self, embeddings: np.ndarray, corpus: Corpus, label_kinds: LabelKinds
    ) -> dict[str, Slices]:
        """Means over users by kind of relevant video; age counts from the first watch."""
        table, results = corpus.table, dict[str, Slices]()
        for name, queries in self.asked_of(corpus).items():
            names = slices_of(
                table,
                popularity=queries.popularity,
                neighbours=corpus.relations.degrees(),
                seconds=queries.first_watched,
                label_kinds=label_kinds,
            )
            measured = self.measure(embeddings, queries, ids=table.ids)
            results[name] = sliced(measured.per_item, table, names, seed=self.seed)
        return results

    def baselines(
        self, corpus: Corpus, *, mesh: jax.sharding.Mesh | None = None
    ) -> dict[str, Result]:
        """Systems without a network, by name: those of `embeddings` and `known_by_users`."""
        del mesh
        ids, systems = corpus.table.ids, dict[str, dict[str, Measured]]()
        parts = self.asked_of(corpus)
        learned = parts[self.direction]  # all parts know the same interactions
        for name, vectors in self.embeddings(corpus.table, corpus.is_train, learned):
            systems[name] = {n: self.measure(vectors, q, ids=ids) for n, q in parts.items()}
        for part, queries in parts.items():
            for name, blocks in self.known_by_users(queries):
                measured = measure(blocks, queries, ks=self.ks, ids=ids)
                systems.setdefault(name, {})[part] = measured
        return {name: self.result(measured) for name, measured in systems.items()}

    def embeddings(
        self, table: Any, is_train: np.ndarray, queries: UserQueries
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (name, f32[N, D]): features by modality, raw and standardised, and, as `ridge_`,
        ridge from them onto co-like factors."""
        yield from factors.with_ridge(
            feature_embeddings(table, is_train),
            queries.known,
            is_train,
            relevant_from=self.asking.relevant_from,
        )

    def known_by_users(self, queries: UserQueries) -> Iterator[tuple[str, Blocks]]:
        """Yield (name, scores): popularity, random; for warm items matrix factorisations."""
        for name, scores in factors.by_interactions(
            queries.known, queries.popularity, warm=self.items == "warm", seed=self.seed
        ):
            yield name, ((users, scores(queries.user[users])) for users in self._blocks(queries))

    def _blocks(self, queries: UserQueries) -> Iterator[np.ndarray]:
        items = len(queries.popularity)
        at_once = SCORES_AT_ONCE if self.users_at_once is None else self.users_at_once * items
        return in_blocks(len(queries), at_once, items)

    def result(self, measured: Mapping[str, Measured]) -> Result:
        """Means over users with intervals, by names such as `cold_items/ndcg@10`."""
        scores: dict[str, Interval] = {}
        for part, system in measured.items():
            means = bootstrap([system.per_user.values], seed=self.seed, resamples=self.resamples)
            means |= {name: Interval(v, v, v) for name, v in system.coverage.items()}
            scores |= {f"{part}/{name}": interval for name, interval in means.items()}
        return Result(scores=scores, per_query={n: s.per_user for n, s in measured.items()})

    def counts(self, corpus: Corpus) -> dict[str, dict[str, int]]:
        """Measured users (`queries`), users `left_out`, and the numbers by reason."""
        counts = {}
        for name, queries in self.asked_of(corpus).items():
            left_out = sum(n for why, n in queries.left_out.items() if why.startswith("users"))
            reasons = {"users without a relevant test item": 0} | queries.left_out
            counts[name] = {"queries": len(queries), "left_out": left_out, **reasons}
        return counts


@lru_cache(maxsize=1)
def _read(path: str, scale: tuple[float, float], content: str) -> Ratings:
    """Read the ratings once for all checkpoints, and again if the file changes; print its notes."""
    del content
    ratings = read_ratings(path, scale=scale)
    for note in ratings.notes:
        Progress(quiet=jax.process_index() > 0).say(f"{path}: {note}")
    return ratings
