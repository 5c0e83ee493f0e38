"""Cold-start related-video retrieval: between the partitions, and among new videos.

CDML (section 4.1) asks between the partitions, both ways. GCML asks where query and candidates
are both unseen; its measures are MAP and NDCG@60 by cosine, which a second-hand source names.
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
"""What is measured unless more is asked for."""


@dataclass(frozen=True, kw_only=True)
class RelatedVideos(Evaluator):
    """How well a video's neighbours in the embedding are those that people watch with it.

    Relevant is a relation between query and candidate above the co-watch threshold, before the
    degree cap. Candidates are all videos of their partition but the query, which is never among
    its own results; queries are those with at least one relevant video. NDCG@k, recall@k (of all
    relevant) and MAP over the full ranking come from exact ranks; equal scores rank by table row.

    Eval means test videos. Where there are validation videos, the same is asked of them too, apart
    from the test videos, under names that begin with `validation_`; these choose the checkpoint.
    """

    directions: tuple[Direction, ...] = CDML
    """Who looks for whom, by partition: eval_to_train, new videos for known ones; train_to_eval,
    known ones for new ones; eval_to_eval, new ones for other new ones. The best checkpoint is the
    one with the highest mean of NDCG over these directions."""
    ks: tuple[int, ...] = (10,)
    """Depths of NDCG and recall; CDML reports 10, GCML 60. Checkpoints are compared at 10, or at
    the first depth where 10 is not among them."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """What ranks the candidates; for embeddings of unit length both are the same."""
    block: Annotated[int | None, TUNABLE] = None
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
        """See `Evaluator`.

        CDML's directions go unsaid, so that what was measured before there were others is found.
        """
        identity = super().identity()
        if self.directions == CDML:
            del identity["directions"]
        return identity

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what is measured of each query, in order."""
        ndcg, recall = ([f"{name}@{k}" for k in self.ks] for name in ("ndcg", "recall"))
        return (*ndcg, "map", *recall)

    def check(self, corpus: Corpus) -> None:
        """Raises ValueError if a direction has nothing to measure; needs no embedding."""
        for direction, part in asked_of(corpus, self.directions).values():
            try:
                queries(corpus, direction, part)
            except ValueError as error:
                new = corpus.held_out[part]
                of = "eval" if len(corpus.held_out) == 1 else part
                raise ValueError(
                    f"{error} There are {len(corpus.table):,} videos, "
                    f"{int(new.videos.sum()):,} of them in the {of} partition, and "
                    f"{corpus.relations.edges:,} relations: {new.relevance.edges:,} between it and "
                    f"train, {new.among_themselves.edges:,} within the {of} partition. Give "
                    "the edges of this table (--corpus.edges), split it otherwise "
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
        """Measures what the output `video` makes of the table's rows, f32[N, D].

        Raises ValueError where there is no such output.
        """
        if "video" not in outputs:
            raise ValueError(
                "related videos are found by the output `video`, one vector for each; there is "
                f"{', '.join(outputs) or 'no output'}: choose another evaluator for this task"
            )
        return self.measure(outputs["video"](corpus.table), corpus, mesh=mesh)

    def measure(
        self, embeddings: np.ndarray, corpus: Corpus, *, mesh: jax.sharding.Mesh | None = None
    ) -> Result:
        """Measures embeddings f32[N, D], one row for each of the table's, in each direction.

        Scores are named `eval_to_train/ndcg@10`, those on validation videos
        `validation_eval_to_train/ndcg@10`; their intervals are 95 % by resampling videos.
        """
        return self.result(self.per_query_of_all(embeddings, corpus, mesh=mesh))

    def baselines(
        self, corpus: Corpus, *, mesh: jax.sharding.Mesh | None = None
    ) -> dict[str, Result]:
        """What needs no training, by name: raw features, popularity, chance."""
        systems = baselines.measured(self, corpus, mesh=mesh)
        return {system: self.result(per_query) for system, per_query in systems.items()}

    def result(self, per_query: Mapping[str, PerQuery]) -> Result:
        """The means of queries, with intervals."""
        scores: dict[str, Interval] = {}
        for direction, measured in per_query.items():
            found = bootstrap([measured.values], seed=self.seed, resamples=self.resamples)
            scores |= {f"{direction}/{name}": interval for name, interval in found.items()}
        return Result(scores=scores, per_query=per_query)

    def selection(self, values: Mapping[str, float]) -> Selection:
        """The number that checkpoints are compared by, from the values of scores by name.

        It is the mean of NDCG@10 (of the first of `ks`, where 10 is not among them) over the
        directions; on validation videos where they were measured.
        """
        metric = f"ndcg@{10 if 10 in self.ks else self.ks[0]}"
        validated = any(name.startswith(VALIDATION) for name in values)
        part, said = (VALIDATION, " on validation") if validated else ("", "")
        each = [values[f"{part}{direction}/{metric}"] for direction in self.directions]
        name = f"mean of {metric} over {', '.join(self.directions)}{said}"
        return Selection(name=name, value=sum(each) / len(each))

    def slices(
        self, embeddings: np.ndarray, corpus: Corpus, label_kinds: LabelKinds
    ) -> dict[str, Slices]:
        """By what the querying videos are."""
        of = slices_of_videos(corpus, label_kinds)
        found = self.per_query_of_all(embeddings, corpus)
        return {name: sliced(each, corpus.table, of) for name, each in found.items()}

    def counts(self, corpus: Corpus) -> dict[str, dict[str, int]]:
        """Direction → `queries` asked, and videos `left_out` since nothing is relevant to them."""
        asked = {
            name: queries(corpus, *of) for name, of in asked_of(corpus, self.directions).items()
        }
        return {n: {"queries": len(q.rows), "left_out": q.left_out} for n, q in asked.items()}

    def per_query_of_all(
        self, embeddings: np.ndarray, corpus: Corpus, *, mesh: jax.sharding.Mesh | None = None
    ) -> dict[str, PerQuery]:
        """Metrics of each query, by the names of `asked_of`."""
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

        asking_with: i64[Q], the table rows whose vectors the queries ask with, if not their own;
        it is still the query, not the row that it asks with, that is none of its results.
        Raises ValueError for another number of rows than the table's, for values that are not
        finite, and where no query has anything relevant.
        """
        embeddings = self._ready(embeddings, corpus)
        asked = queries(corpus, direction, part)
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
        return PerQuery(ids=asked.ids, values=values)

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
