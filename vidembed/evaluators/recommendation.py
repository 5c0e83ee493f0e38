"""Recommendation to real users (CDML, section 4.2), on anybody's interactions with the videos."""

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
    """How well users are recommended what they turned out to watch and like.

    A user is the history that is known of them; `UserModel` says how it scores a candidate. Ranked
    are all candidates, or the user's own test items (`asking.own`). NDCG@k, recall@k, MAP, AUC and
    the share of popular items are of users, with 95 % intervals by resampling these; coverage is of
    all of them together and has no interval. See `ranked_users.measure` for what each divides by.

    Where there are validation videos, users are asked for these too, apart from the test videos,
    under names that begin with `validation_`; these choose the checkpoint. Warm items are of train:
    there the users' test items choose it.
    """

    ratings: str = ""
    """Interactions of users with videos of the table; see `corpora.ratings`. Another path, or
    another file at the same path, counts as another evaluation."""
    scale: tuple[float, float] = STARS
    """The lowest and the highest rating that is taken; what lies outside is left out, and counted.
    The gain of NDCG is 2^rating − 1."""
    items: Literal["cold", "warm"] = "cold"
    """What is recommended: videos outside the train partition, or videos of it."""
    asking: Asking = Asking()
    aggregate: UserModel = Mean()
    """How similarities with the history become one score."""
    ks: tuple[int, ...] = (10,)
    """Depths of NDCG, recall, coverage and popular share; checkpoints are compared at the first."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """Between videos; for embeddings of unit length both are the same."""
    resamples: int = 1000
    """Bootstrap resamples behind each 95 % interval."""
    seed: int = 0
    """Of the bootstrap and of what is random among the baselines."""
    users_at_once: Annotated[int | None, TUNABLE] = None
    """Users whose scores are held at a time; None: as many as 64 MB hold."""

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1 or len(set(self.ks)) < len(self.ks):
            raise ValueError(f"ks are different depths of 1 or more, found {self.ks}")
        if not 0 <= self.scale[0] < self.scale[1]:
            raise ValueError(f"scale is the lowest and highest rating, 0 or more: {self.scale}")
        if self.resamples < 40:
            raise ValueError(f"{self.resamples} resamples cannot show an interval: take 1,000")

    @property
    def direction(self) -> str:
        """What scores and results are named by: `cold_items` or `warm_items`."""
        return f"{self.items}_items"

    def identity(self) -> dict[str, Any]:
        """See `Evaluator`; with what the ratings are, beside their path."""
        return super().identity() | {"content": content_digest(self.ratings)}

    def check(self, corpus: Corpus) -> None:
        """Raises ValueError if there is nothing to measure; needs no embedding."""
        self.asked_of(corpus)

    def asked_of(self, corpus: Corpus) -> dict[str, UserQueries]:
        """Who is asked about what, by the name that its scores bear; the test comes first."""
        parts: Iterable[Part] = corpus.held_out if self.items == "cold" else ("test",)
        return {
            (VALIDATION if part == "validation" else "") + self.direction: self.asked(corpus, part)
            for part in parts
        }

    def asked(self, corpus: Corpus, part: Part = "test") -> UserQueries:
        """Who is asked about what, of the ratings at `ratings`."""
        if not self.ratings:
            raise ValueError("no ratings given: set --evaluator.ratings PATH")
        read = _read(self.ratings, self.scale, content_digest(self.ratings))
        ratings = read.on(corpus.table.ids)
        if self.items == "warm":
            asked = self.asking.ask(ratings.of(corpus.is_train[ratings.item]))
        else:
            cold = corpus.held_out[part].videos
            asked = self.asking.ask(ratings.of((corpus.is_train | cold)[ratings.item]), cold)
        if lacking := len(read) - len(ratings):
            asked.left_out["interactions with items that the table lacks"] = lacking
        return asked

    def run(
        self,
        outputs: Mapping[str, Callable[[Any], np.ndarray]],
        corpus: Corpus,
        *,
        mesh: jax.sharding.Mesh | None = None,
    ) -> Result:
        """Measures what the output `video` makes of the table's rows, f32[N, D]."""
        del mesh
        if "video" not in outputs:
            raise ValueError(
                "users are recommended videos by the output `video`, one vector for each; there is "
                f"{', '.join(outputs) or 'no output'}: choose another evaluator for this task"
            )
        vectors, ids = outputs["video"](corpus.table), corpus.table.ids
        asked_of = self.asked_of(corpus)
        return self.result({n: self.measure(vectors, of, ids=ids) for n, of in asked_of.items()})

    def selection(self, values: Mapping[str, float]) -> Selection:
        """NDCG at the first depth; on validation videos where they were measured."""
        validation = (name for name in values if name.startswith(VALIDATION))
        name = next(validation, next(iter(values)))
        return Selection(name=name, value=values[name])

    def measure(self, vectors: np.ndarray, asked: UserQueries, *, ids: np.ndarray) -> Measured:
        """Measures vectors f32[N, D] of the items with ids S[N]; a row of zeros scores 0."""
        return measure(self.scored(vectors, asked), asked, ks=self.ks, ids=ids)

    def scored(self, vectors: np.ndarray, asked: UserQueries) -> Iterator[Any]:
        """The scores of all items for every user, in blocks."""
        vectors = np.asarray(vectors, np.float32)
        if len(vectors) != len(asked.popularity) or not np.isfinite(vectors).all():
            raise ValueError(
                f"{len(asked.popularity):,} items need a finite vector each, found "
                f"{list(vectors.shape)} with {int((~np.isfinite(vectors)).sum()):,} values that "
                "are not finite"
            )
        if self.similarity == "cosine":
            length = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.where(length > 0, length, np.float32(1))
        for users in self._blocks(asked):
            _, places = ragged(asked.offsets, users)
            offsets = offsets_of(np.diff(asked.offsets)[users])
            for some, scores in score_blocks(
                vectors,
                asked.history[places],
                offsets,
                aggregate=self.aggregate,
                times=None if asked.times is None else asked.times[places],
            ):
                yield users[some], scores

    def slices(
        self, embeddings: np.ndarray, corpus: Corpus, label_kinds: LabelKinds
    ) -> dict[str, Slices]:
        """Results by what the videos are that should have been found, of a mean over users each;
        age by when a video was first watched."""
        table, found = corpus.table, dict[str, Slices]()
        for name, asked in self.asked_of(corpus).items():
            of = slices_of(
                table,
                popularity=asked.popularity,
                neighbours=corpus.relations.degrees(),
                seconds=asked.first_watched,
                label_kinds=label_kinds,
            )
            per_item = self.measure(embeddings, asked, ids=table.ids).per_item
            found[name] = sliced(per_item, table, of, seed=self.seed)
        return found

    def baselines(
        self, corpus: Corpus, *, mesh: jax.sharding.Mesh | None = None
    ) -> dict[str, Result]:
        """What needs no network, by name: features as they are and standardised, ridge from them
        onto co-like factors, popularity, random; of warm items matrix factorisations."""
        del mesh
        ids, systems = corpus.table.ids, dict[str, dict[str, Measured]]()
        asked_of = self.asked_of(corpus)
        learned = asked_of[self.direction]  # what is known is the same in all parts
        for name, vectors in self.embeddings(corpus.table, corpus.is_train, learned):
            systems[name] = {n: self.measure(vectors, of, ids=ids) for n, of in asked_of.items()}
        for part, asked in asked_of.items():
            for name, blocks in self.known_by_users(asked):
                found = measure(blocks, asked, ks=self.ks, ids=ids)
                systems.setdefault(name, {})[part] = found
        return {name: self.result(found) for name, found in systems.items()}

    def embeddings(
        self, table: Any, is_train: np.ndarray, asked: UserQueries
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Name and f32[N, D] of each modality's features, standardised features, and `ridge_`."""
        yield from factors.with_ridge(
            feature_embeddings(table, is_train),
            asked.known,
            is_train,
            relevant_from=self.asking.relevant_from,
        )

    def known_by_users(self, asked: UserQueries) -> Iterator[tuple[str, Blocks]]:
        """Name and scores of what looks at no content."""
        for name, scores in factors.by_interactions(
            asked.known, asked.popularity, warm=self.items == "warm", seed=self.seed
        ):
            yield name, ((users, scores(asked.user[users])) for users in self._blocks(asked))

    def _blocks(self, asked: UserQueries) -> Iterator[np.ndarray]:
        items = len(asked.popularity)
        at_once = SCORES_AT_ONCE if self.users_at_once is None else self.users_at_once * items
        return in_blocks(len(asked), at_once, items)

    def result(self, measured: Mapping[str, Measured]) -> Result:
        """The means of users, with intervals, by names such as `cold_items/ndcg@10`."""
        scores: dict[str, Interval] = {}
        for part, of in measured.items():
            found = bootstrap([of.per_user.values], seed=self.seed, resamples=self.resamples)
            found |= {name: Interval(value, value, value) for name, value in of.coverage.items()}
            scores |= {f"{part}/{name}": interval for name, interval in found.items()}
        return Result(scores=scores, per_query={n: of.per_user for n, of in measured.items()})

    def counts(self, corpus: Corpus) -> dict[str, dict[str, int]]:
        """`queries`, the users who are measured, `left_out`, those who are not, and why."""
        counts = {}
        for name, asked in self.asked_of(corpus).items():
            gone = sum(n for why, n in asked.left_out.items() if why.startswith("users"))
            reasons = {"users without a relevant test item": 0} | asked.left_out
            counts[name] = {"queries": len(asked), "left_out": gone, **reasons}
        return counts


@lru_cache(maxsize=1)
def _read(path: str, scale: tuple[float, float], content: str) -> Ratings:
    """Read once for all checkpoints, saying what was left out; anew where the file has changed."""
    del content
    ratings = read_ratings(path, scale=scale)
    for note in ratings.notes:
        Progress(quiet=jax.process_index() > 0).say(f"{path}: {note}")
    return ratings
