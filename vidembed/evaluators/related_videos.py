"""Evaluate cold-start retrieval of related videos: across the partitions, and among new videos.

CDML (section 4.1) measures across the partitions, in both directions. GCML measures with unseen
queries and candidates, by MAP and NDCG@60 with cosine, according to a secondary source.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax
import numpy as np

from vidembed import TUNABLE
from vidembed.corpora.held_out import Part
from vidembed.corpora.watched import Corpus
from vidembed.evaluators import baselines
from vidembed.evaluators.evaluator import Evaluator
from vidembed.evaluators.queries import (
    DIRECTIONS,
    VALIDATION,
    Direction,
    Queries,
    asked_of,
    queries,
)
from vidembed.evaluators.ranks import relevant_ranks
from vidembed.evaluators.slices import LabelKinds, Slices, sliced, slices_of_videos
from vidembed.metrics import ranking
from vidembed.metrics.intervals import Interval, Result, Selection, bootstrap
from vidembed.records.scores_file import PerQuery

CDML: tuple[Direction, ...] = ("eval_to_train", "train_to_eval")
"""The default directions."""


@dataclass(frozen=True, kw_only=True)
class RelatedVideos(Evaluator):
    """How well a video's neighbours in the embedding match the videos that users watch with it.

    A candidate is relevant if its relation to the query is above the co-watch threshold, before the
    degree cap. Candidates are all videos of their partition except the query itself; queries are
    the videos with at least one relevant candidate. NDCG@k, recall@k (of all relevant) and MAP over
    the full ranking come from exact ranks; ties rank by table row.

    Eval means test videos. If there are validation videos, they are measured separately, under
    names that begin with `validation_`, and choose the checkpoint.
    """

    directions: tuple[Direction, ...] = CDML
    """QUERIES_to_CANDIDATES by partition: eval_to_train (shown as new → known), train_to_eval
    (known → new), eval_to_eval (new → new). Known videos are those of the train partition. The best
    checkpoint has the highest mean NDCG over these directions."""
    ks: tuple[int, ...] = (10,)
    """Depths of NDCG and recall; CDML reports 10, GCML 60. Checkpoints are compared at 10, or at
    the first depth if 10 is not given."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """Similarity that ranks the candidates; for embeddings of unit length both are the same."""
    block: Annotated[int | None, TUNABLE] = None
    """Queries scored at a time; None: as many as fit in 128 MB per device, at most 256."""
    resamples: int = 1000
    """Bootstrap resamples behind each 95 % interval."""
    seed: int = 0
    """Seed of the bootstrap."""

    def __post_init__(self) -> None:
        repeated = len(set(self.directions)) < len(self.directions)
        if not self.directions or repeated or not set(self.directions) <= set(DIRECTIONS):
            raise ValueError(
                f"directions must be one or more of {', '.join(DIRECTIONS)}, each once, found "
                f"{', '.join(map(str, self.directions)) or 'none'}"
            )
        if not self.ks or min(self.ks) < 1 or len(set(self.ks)) < len(self.ks):
            raise ValueError(f"ks must be distinct depths of 1 or more, found {self.ks}")
        if self.block is not None and self.block < 1:
            raise ValueError(f"block must be 1 query or more, found {self.block}")
        if self.resamples < 40:
            raise ValueError(f"{self.resamples} resamples are too few for an interval: use 1,000")

    def identity(self) -> dict[str, Any]:
        """See `Evaluator`.

        The default directions are omitted, so that results measured before the option existed are
        still found.
        """
        identity = super().identity()
        if self.directions == CDML:
            del identity["directions"]
        return identity

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics of each query, in order."""
        ndcg, recall = ([f"{name}@{k}" for k in self.ks] for name in ("ndcg", "recall"))
        return (*ndcg, "map", *recall)

    def check(self, corpus: Corpus) -> None:
        """Raise ValueError if a direction has nothing to measure; needs no embedding."""
        for direction, part in asked_of(corpus, self.directions).values():
            try:
                queries(corpus, direction, part)
            except ValueError as error:
                new = corpus.held_out[part]
                name = "eval" if len(corpus.held_out) == 1 else part
                raise ValueError(
                    f"{error} There are {len(corpus.table):,} videos, "
                    f"{int(new.videos.sum()):,} of them in the {name} partition, and "
                    f"{corpus.relations.edges:,} relations: {new.relevance.edges:,} between it and "
                    f"train, {new.among_themselves.edges:,} within the {name} partition. Give "
                    "the edges of this table (--corpus.edges), change the split "
                    "(--corpus.train-share, --corpus.validation-share, --corpus.split-seed, "
                    "--corpus.split), or choose other --evaluator.directions"
                ) from error

    def run(
        self,
        outputs: Mapping[str, Callable[[Any], np.ndarray]],
        corpus: Corpus,
        *,
        mesh: jax.sharding.Mesh | None = None,
    ) -> Result:
        """Measure the embeddings f32[N, D] of the table's rows by the output `video`.

        Raises ValueError if the task has no such output.
        """
        if "video" not in outputs:
            raise ValueError(
                "related videos need the output `video`, one vector per video; this task has "
                f"{', '.join(outputs) or 'no output'}: choose another evaluator for it"
            )
        return self.measure(outputs["video"](corpus.table), corpus, mesh=mesh)

    def measure(
        self, embeddings: np.ndarray, corpus: Corpus, *, mesh: jax.sharding.Mesh | None = None
    ) -> Result:
        """Measure embeddings f32[N, D], one row per row of the table, in each direction.

        Scores are named `eval_to_train/ndcg@10`, on validation videos
        `validation_eval_to_train/ndcg@10`; they have 95 % intervals by resampling videos.
        """
        return self.result(self.per_query_of_all(embeddings, corpus, mesh=mesh))

    def baselines(
        self, corpus: Corpus, *, mesh: jax.sharding.Mesh | None = None
    ) -> dict[str, Result]:
        """Systems without a network, by name; see `baselines.measured`."""
        systems = baselines.measured(self, corpus, mesh=mesh)
        return {system: self.result(per_query) for system, per_query in systems.items()}

    def result(self, per_query: Mapping[str, PerQuery]) -> Result:
        """Means over queries, with intervals."""
        scores: dict[str, Interval] = {}
        for direction, measured in per_query.items():
            means = bootstrap([measured.values], seed=self.seed, resamples=self.resamples)
            scores |= {f"{direction}/{name}": interval for name, interval in means.items()}
        return Result(scores=scores, per_query=per_query)

    def selection(self, values: Mapping[str, float]) -> Selection:
        """Choose the score that checkpoints are compared by, from the scores by name.

        It is the mean of NDCG@10 (or the first of `ks`, if 10 is not given) over the directions; on
        validation videos if they were measured.
        """
        metric = f"ndcg@{10 if 10 in self.ks else self.ks[0]}"
        validated = any(name.startswith(VALIDATION) for name in values)
        part, suffix = (VALIDATION, " on validation") if validated else ("", "")
        each = [values[f"{part}{direction}/{metric}"] for direction in self.directions]
        name = f"mean of {metric} over {', '.join(self.directions)}{suffix}"
        return Selection(name=name, value=sum(each) / len(each))

    def slices(
        self, embeddings: np.ndarray, corpus: Corpus, label_kinds: LabelKinds
    ) -> dict[str, Slices]:
        """Results by kind of query video."""
        kinds = slices_of_videos(corpus, label_kinds)
        results = self.per_query_of_all(embeddings, corpus)
        return {name: sliced(result, corpus.table, kinds) for name, result in results.items()}

    def counts(self, corpus: Corpus) -> dict[str, dict[str, int]]:
        """Direction → numbers of `queries`, and of videos `left_out` with nothing relevant."""
        query_sets = {
            name: queries(corpus, *task) for name, task in asked_of(corpus, self.directions).items()
        }
        return {n: {"queries": len(q.rows), "left_out": q.left_out} for n, q in query_sets.items()}

    def per_query_of_all(
        self, embeddings: np.ndarray, corpus: Corpus, *, mesh: jax.sharding.Mesh | None = None
    ) -> dict[str, PerQuery]:
        """Metrics of each query, by the names from `asked_of`."""
        return {
            name: self.per_query(embeddings, corpus, direction, part, mesh=mesh)
            for name, (direction, part) in asked_of(corpus, self.directions).items()
        }

    def per_query(
        self,
        embeddings: np.ndarray,
        corpus: Corpus,
        direction: Direction,
        part: Part = "test",
        *,
        asking_with: np.ndarray | None = None,
        mesh: jax.sharding.Mesh | None = None,
    ) -> PerQuery:
        """Metrics of each query for embeddings f32[N, D], on the mesh (all devices if None).

        asking_with: i64[Q], table rows whose vectors replace those of the queries; the query itself
        is still excluded from its results, not that row. Raises ValueError if the number of rows
        differs from the table's, for values that are not finite, and if no query has a relevant
        candidate.
        """
        embeddings = self._ready(embeddings, corpus)
        query_set = queries(corpus, direction, part)
        ranks = relevant_ranks(
            embeddings[query_set.rows if asking_with is None else asking_with],
            embeddings[query_set.candidates],
            query_set.offsets,
            query_set.relevant,
            exclude=query_set.exclude,
            mesh=mesh,
            block=self.block,
        )
        return self.of_ranks(ranks, query_set)

    def of_ranks(self, ranks: np.ndarray, query_set: Queries) -> PerQuery:
        """The metrics of ranks i64[R], one per entry of `query_set.relevant`."""
        values = {f"ndcg@{k}": ranking.ndcg(ranks, query_set.offsets, k) for k in self.ks}
        values["map"] = ranking.average_precision(ranks, query_set.offsets)
        values |= {f"recall@{k}": ranking.recall(ranks, query_set.offsets, k) for k in self.ks}
        return PerQuery(ids=query_set.ids, values=values)

    def _ready(self, embeddings: np.ndarray, corpus: Corpus) -> np.ndarray:
        embeddings = np.asarray(embeddings, np.float32)
        if embeddings.ndim != 2 or len(embeddings) != len(corpus.table):
            raise ValueError(
                f"the table has {len(corpus.table)} videos, so embeddings must be "
                f"[{len(corpus.table)}, D], found {list(embeddings.shape)}"
            )
        bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
        if len(bad):
            names = ", ".join(bytes(i).decode(errors="replace") for i in corpus.table.ids[bad[:10]])
            raise ValueError(
                f"{len(bad)} of {len(embeddings)} embeddings are not finite (videos {names}): "
                "check the checkpoint and the features of these videos"
            )
        if self.similarity == "dot":
            return embeddings
        length = np.linalg.norm(embeddings, axis=1, keepdims=True)
        # A zero vector has no direction: it stays zero and scores 0 with everything.
        return embeddings / np.where(length > 0, length, np.float32(1))
