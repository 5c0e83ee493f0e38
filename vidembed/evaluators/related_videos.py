"""Cold-start related-video retrieval: between the partitions, and among new videos.

CDML (section 4.1) asks between the partitions, both ways. GCML asks where query and candidates
are both unseen; its measures are MAP and NDCG@60 by cosine, which a second-hand source names.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import jax
import numpy as np

from vidembed.corpus import Corpus
from vidembed.evaluators.ranks import relevant_ranks
from vidembed.metrics import ranking
from vidembed.metrics.intervals import bootstrap

Direction = Literal["eval_to_train", "train_to_eval", "eval_to_eval"]
"""QUERIES_to_CANDIDATES, by partition."""
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
"""All that are known."""
CDML: tuple[Direction, ...] = ("eval_to_train", "train_to_eval")
"""What is measured unless more is asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Queries:
    """What one direction asks: the videos with something relevant, and where that stands.

    rows: i64[Q] and candidates: i64[C], table rows, ascending; offsets: i64[Q+1] into relevant:
    i64[R], positions in candidates; exclude: i64[Q], the position of the query itself, which is
    none of its results, or -1 where it is no candidate; left_out: videos of the querying partition
    without anything relevant among the candidates.
    """

    rows: np.ndarray
    candidates: np.ndarray
    offsets: np.ndarray
    relevant: np.ndarray
    exclude: np.ndarray
    left_out: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PerQuery:
    """Metrics of each query, for intervals and paired comparisons.

    rows: i64[Q], the querying videos' table rows; values: f64[Q] by metric name (`ndcg@10`,
    `recall@10`, `map`: average precision); left_out: videos that had nothing to look for.
    """

    rows: np.ndarray
    values: Mapping[str, np.ndarray]
    left_out: int


@dataclass(frozen=True, kw_only=True)
class RelatedVideos:
    """How well a video's neighbours in the embedding are those that people watch with it.

    Relevant is a relation between query and candidate above the co-watch threshold, before the
    degree cap. Candidates are all videos of their partition but the query, which is never among
    its own results; queries are those with at least one relevant video. NDCG@k, recall@k (of all
    relevant) and MAP over the full ranking come from exact ranks; equal scores rank by table row.
    """

    directions: tuple[Direction, ...] = CDML
    """Who looks for whom, by partition: eval_to_train, new videos for known ones; train_to_eval,
    known ones for new ones; eval_to_eval, new ones for other new ones. Checkpoints are compared by
    the first score of the first."""
    ks: tuple[int, ...] = (10,)
    """Depths of NDCG and recall; CDML reports 10, GCML 60."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """What ranks the candidates; for embeddings of unit length both are the same."""
    block: int | None = None
    """Queries scored at a time; None: as many as 128 MB of scores a device hold, at most 256."""
    resamples: int = 1000
    """Bootstrap resamples behind each 95 % interval."""
    seed: int = 0
    """Of the bootstrap."""

    def __post_init__(self) -> None:
        repeated = len(set(self.directions)) < len(self.directions)
        if not self.directions or repeated or not set(self.directions) <= set(DIRECTIONS):
            raise ValueError(
                f"directions are one or more different of {', '.join(DIRECTIONS)}, found "
                f"{', '.join(map(str, self.directions)) or 'none'}"
            )
        if not self.ks or min(self.ks) < 1 or len(set(self.ks)) < len(self.ks):
            raise ValueError(f"ks are different depths of 1 or more, found {self.ks}")
        if self.block is not None and self.block < 1:
            raise ValueError(f"block is a number of queries, 1 or more, found {self.block}")
        if self.resamples < 40:
            raise ValueError(f"{self.resamples} resamples cannot show an interval: take 1,000")

    def identity(self) -> dict[str, Any]:
        """Class and options that decide what is measured: all but `block`, which is of memory.

        CDML's directions go unsaid, so that what was measured before there were others is found.
        """
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "block"}
        if self.directions == CDML:
            del options["directions"]
        return {"class": type(self).__name__, **options}

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what is measured of each query, in order."""
        ndcg, recall = ([f"{name}@{k}" for k in self.ks] for name in ("ndcg", "recall"))
        return (*ndcg, "map", *recall)

    def check(self, corpus: Corpus) -> None:
        """Raises ValueError if a direction has nothing to measure; needs no embedding."""
        for direction in self.directions:
            try:
                queries(corpus, direction)
            except ValueError as error:
                raise ValueError(
                    f"{error} There are {len(corpus.table):,} videos, "
                    f"{int((~corpus.is_train).sum()):,} of them in the eval partition, and "
                    f"{corpus.relations.edges:,} relations: {corpus.relevance.edges:,} between the "
                    f"partitions, {corpus.eval_relevance.edges:,} within the eval partition. Give "
                    "the edges of this table (--corpus.edges), split it otherwise "
                    "(--corpus.train-share, --corpus.split-seed), or choose other "
                    "--evaluator.directions"
                ) from error

    def run(
        self, embeddings: np.ndarray, corpus: Corpus, *, mesh: jax.sharding.Mesh | None = None
    ) -> Iterator[tuple[str, float, float, float]]:
        """(name, value, low, high) such as `eval_to_train/ndcg@10`, for each direction.

        The first is the one that checkpoints are compared by.

        embeddings: f32[N, D], a row for each of the table's; low and high: 95 % over queries.
        """
        for direction in self.directions:
            measured = self.per_query(embeddings, corpus, direction, mesh=mesh)
            for name, values in measured.values.items():
                interval = bootstrap(values, seed=self.seed, resamples=self.resamples)
                yield f"{direction}/{name}", interval.value, interval.low, interval.high

    def counts(self, corpus: Corpus) -> dict[str, dict[str, int]]:
        """Direction → `queries` asked, and videos `left_out` since nothing is relevant to them."""
        asked = {direction: queries(corpus, direction) for direction in self.directions}
        return {d: {"queries": len(q.rows), "left_out": q.left_out} for d, q in asked.items()}

    def per_query(
        self,
        embeddings: np.ndarray,
        corpus: Corpus,
        direction: Direction,
        *,
        asking_with: np.ndarray | None = None,
        mesh: jax.sharding.Mesh | None = None,
    ) -> PerQuery:
        """Metrics of each query for embeddings f32[N, D], on the mesh (all devices if None).

        asking_with: i64[Q], the table rows whose vectors the queries ask with, if not their own;
        it is still the query, not the row that it asks with, that is none of its results.
        Raises ValueError for another number of rows than the table's, for values that are not
        finite, and where no query has anything relevant.
        """
        embeddings = self._ready(embeddings, corpus)
        asked = queries(corpus, direction)
        ranks = relevant_ranks(
            embeddings[asked.rows if asking_with is None else asking_with],
            embeddings[asked.candidates],
            asked.offsets,
            asked.relevant,
            exclude=asked.exclude,
            mesh=mesh,
            block=self.block,
        )
        return self.of_ranks(ranks, asked)

    def of_ranks(self, ranks: np.ndarray, asked: Queries) -> PerQuery:
        """The metrics of ranks i64[R] found in whatever way, one for each of `asked.relevant`."""
        values = {f"ndcg@{k}": ranking.ndcg(ranks, asked.offsets, k) for k in self.ks}
        values["map"] = ranking.average_precision(ranks, asked.offsets)
        values |= {f"recall@{k}": ranking.recall(ranks, asked.offsets, k) for k in self.ks}
        return PerQuery(rows=asked.rows, values=values, left_out=asked.left_out)

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
                f"{len(bad)} of {len(embeddings)} embeddings are not finite (videos {names}): no "
                "metric is computed from them; look at the checkpoint and at these videos' features"
            )
        if self.similarity == "dot":
            return embeddings
        length = np.linalg.norm(embeddings, axis=1, keepdims=True)
        # A vector of zeros has no direction: it stays zero and scores 0 against everything.
        return embeddings / np.where(length > 0, length, np.float32(1))


def queries(corpus: Corpus, direction: Direction) -> Queries:
    """Queries, candidates and relevant videos of one direction; ValueError if there are none."""
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, found {direction!r}")
    asking = corpus.is_train if direction == "train_to_eval" else ~corpus.is_train
    asked_for = corpus.is_train if direction == "eval_to_train" else ~corpus.is_train
    among_themselves = direction == "eval_to_eval"
    graph = corpus.eval_relevance if among_themselves else corpus.relevance
    degrees = graph.degrees()
    rows = np.flatnonzero(asking & (degrees > 0))
    if not len(rows):
        other = "another of them" if among_themselves else "one of the other partition"
        raise ValueError(
            f"{direction}: none of {int(asking.sum())} videos is related to {other}; there is "
            "nothing to measure. Are edges and split those of this table?"
        )
    candidates = np.flatnonzero(asked_for)
    position = np.cumsum(asked_for) - 1
    return Queries(
        rows=rows,
        candidates=candidates,
        offsets=np.concatenate([[0], np.cumsum(degrees[rows])]),
        relevant=position[graph.neighbours[asking[graph.rows()]]],
        exclude=np.where(asked_for[rows], position[rows], -1),
        left_out=int(asking.sum()) - len(rows),
    )
