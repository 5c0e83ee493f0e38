"""What an embedding has to beat: raw features, popularity and chance."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vidembed.corpus import Corpus
from vidembed.evaluators.related_videos import Direction, PerQuery, RelatedVideos, queries
from vidembed.quantisation import dequantise
from vidembed.records.table import FeatureTable


def raw_features(table: FeatureTable, modalities: tuple[str, ...]) -> np.ndarray:
    """The features themselves as an embedding, f32[N, sum of widths], for `RelatedVideos`.

    Modalities are put side by side as they are, a missing one as zeros. Scaling each to unit
    length first would be a weaker baseline: on YouTube-8M's records NDCG@10 falls from 0.17 to
    0.11, because audio, which says less, then counts for as much as vision.
    """
    parts = []
    for name in modalities:
        values = dequantise(table.features[name])
        if name in table.present:
            values = np.where(table.present[name][:, None], values, np.float32(0))
        parts.append(values)
    return np.concatenate(parts, axis=1)


def popularity(evaluator: RelatedVideos, corpus: Corpus, direction: Direction) -> PerQuery:
    """Every query gets the same list: the candidates by their co-watches (weighted degree).

    For eval_to_train these are the co-watches within the train partition, which is what is known
    when a new video arrives. For train_to_eval and eval_to_eval, new videos have none yet: here all
    relations are counted, those that are asked for included. That is an ORACLE, a bound and not a
    method. A query that stands in the list itself is left out of it.
    """
    asked = queries(corpus, direction)
    known = corpus.train_graph if direction == "eval_to_train" else corpus.relations
    scores = known.strengths()[asked.candidates]
    order = np.argsort(-scores, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    own = np.where(asked.exclude < 0, len(rank) + 1, rank[asked.exclude])
    found = rank[asked.relevant]
    behind_itself = found > np.repeat(own, np.diff(asked.offsets))
    return evaluator.of_ranks(found - behind_itself, asked)


def exchanged(
    evaluator: RelatedVideos,
    embeddings: np.ndarray,
    corpus: Corpus,
    direction: Direction,
    *,
    seed: int,
    times: int = 8,
) -> PerQuery:
    """What an embedding f32[N, D] scores when each query asks with another query's vector.

    This is chance for what an embedding knows of a query: all it knows of the candidates alone,
    such as how much each is watched, stays. Where content and relations have nothing to do with
    each other, queries are exchangeable, and an embedding scores no more than this. Means over
    `times` random exchanges, query by query, by a seed.

    Candidates keep their vectors, and it stays the query itself that is none of its results: for
    eval_to_eval the video whose vector it asks with is a candidate and, by cosine, the first. That
    place is lost as one drawn by chance would be, so it counts only against an embedding that
    knows which new videos are watched much: its popularity is then slightly underrated here.
    """
    asking = queries(corpus, direction).rows
    rng = np.random.default_rng(seed)

    def once() -> PerQuery:
        others = rng.permutation(asking)
        return evaluator.per_query(embeddings, corpus, direction, asking_with=others)

    return _mean([once() for _ in range(times)])


def chance(
    evaluator: RelatedVideos, corpus: Corpus, direction: Direction, *, seed: int, times: int = 8
) -> PerQuery:
    """Every query gets its own random order of the candidates: means over `times`, by a seed."""
    asked = queries(corpus, direction)
    rng = np.random.default_rng(seed)
    results = len(asked.candidates) - (asked.exclude >= 0)

    def once() -> PerQuery:
        ranks = [
            rng.choice(size, count, replace=False) + 1
            for size, count in zip(results, np.diff(asked.offsets))
        ]
        return evaluator.of_ranks(np.concatenate(ranks), asked)

    return _mean([once() for _ in range(times)])


def _mean(drawn: Sequence[PerQuery]) -> PerQuery:
    names = drawn[0].values
    return replace(drawn[0], values={n: np.mean([d.values[n] for d in drawn], 0) for n in names})
