"""What an embedding has to beat: raw features, the closed form, popularity and chance."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from vidembed.corpora.held_out import Part
from vidembed.corpora.watched import Corpus
from vidembed.evaluators.closed_form import closed_form
from vidembed.evaluators.queries import Direction, asked_of, queries
from vidembed.records.bytecode import dequantise
from vidembed.records.scores_file import PerQuery
from vidembed.records.statistics import Statistics, train_statistics
from vidembed.records.table import FeatureTable

if TYPE_CHECKING:
    from vidembed.evaluators.related_videos import RelatedVideos

ROWS_AT_ONCE = 1 << 14
"""Rows that are turned into float32 at a time."""
ALL = "concatenated"
"""All modalities side by side, where there are several."""
STANDARDISED = "_standardised"
"""Ends the name of features that are standardised."""
CLOSED_FORM = "closed_form"
MOST_FEATURES = 5_000
"""Of more, the closed form is not solved for beside a run: it takes minutes."""


def measured(
    evaluator: "RelatedVideos", corpus: Corpus, *, mesh: jax.sharding.Mesh | None = None
) -> dict[str, dict[str, PerQuery]]:
    """System → name of what is asked → metrics of each query: features, the closed form where there
    is one, then `popularity` and `random`; of each part that is measured."""
    asked = asked_of(corpus, evaluator.directions)
    systems: dict[str, dict[str, PerQuery]] = {}
    for name, vectors in feature_embeddings(corpus.table, corpus.is_train):
        systems[name] = evaluator.per_query_of_all(vectors, corpus, mesh=mesh)
        del vectors  # before the next are made: each may be as large as the table in float32
    if (solved := solved_embedding(corpus)) is not None:
        systems[CLOSED_FORM] = evaluator.per_query_of_all(solved, corpus, mesh=mesh)
    systems["popularity"] = {n: popularity(evaluator, corpus, *of) for n, of in asked.items()}
    systems["random"] = {
        name: chance(evaluator, corpus, *of, seed=evaluator.seed) for name, of in asked.items()
    }
    return systems


def feature_embeddings(
    table: FeatureTable, is_train: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and f32[N, D] of each modality's features and of all side by side, one at a time.

    First as they are (`visual`, `audio`, `concatenated`), then standardised, which is what a
    network sees (`visual_standardised` ...).
    """
    groups: dict[str, tuple[str, ...]] = {name: (name,) for name in table.features}
    if len(groups) > 1:
        groups[ALL] = tuple(table.features)
    statistics = train_statistics(table, is_train)
    for suffix, known in (("", None), (STANDARDISED, statistics)):
        for name, modalities in groups.items():
            yield name + suffix, raw_features(table, modalities, known)


def solved_embedding(corpus: Corpus) -> np.ndarray | None:
    """The closed form's f32[N, D] of all modalities; None where there is none, as without any
    relation between train videos, or there are too many features."""
    table = corpus.table
    if not corpus.train_graph.edges or sum(table.widths.values()) > MOST_FEATURES:
        return None
    statistics = train_statistics(table, corpus.is_train)
    try:
        return closed_form(corpus, raw_features(table, tuple(table.features), statistics))
    except ValueError:  # all features are constant, or related videos are no nearer than others
        return None


def raw_features(
    table: FeatureTable, modalities: tuple[str, ...], statistics: Statistics | None = None
) -> np.ndarray:
    """The features themselves as an embedding, f32[N, sum of widths], for `RelatedVideos`.

    Modalities are put side by side as they are, a missing one as zeros. Scaling each to unit
    length first would be a weaker baseline: on YouTube-8M's records NDCG@10 falls from 0.17 to
    0.11, because audio, which says less, then counts for as much as vision.

    statistics: each dimension is standardised by these, as a network's inputs are: less the mean,
    divided by the deviation, zero where it is constant.
    """
    features = np.empty((len(table), sum(table.widths[name] for name in modalities)), np.float32)
    first = 0
    for name in modalities:
        part = features[:, first : first + table.widths[name]]
        first += table.widths[name]
        for start in range(0, len(table), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            part[rows] = dequantise(table.features[name][rows])
        if statistics:
            mean, deviation = statistics[name]["mean"], statistics[name]["deviation"]
            varies = deviation > 1e-6
            part -= mean
            part *= np.where(varies, 1 / np.where(varies, deviation, 1), 0).astype(np.float32)
        if name in table.present:
            part[~table.present[name]] = 0
    return features


def popularity(
    evaluator: "RelatedVideos", corpus: Corpus, direction: Direction, part: Part = "test"
) -> PerQuery:
    """Every query gets the same list: the candidates by their co-watches (weighted degree).

    For eval_to_train these are the co-watches within the train partition, which is what is known
    when a new video arrives. For train_to_eval and eval_to_eval, new videos have none yet: here all
    relations are counted, those that are asked for included. That is an ORACLE, a bound and not a
    method. (All but those of the part that is not asked about.) A query that stands in the list
    itself is left out of it.
    """
    asked = queries(corpus, direction, part)
    known = corpus.train_relations if direction == "eval_to_train" else corpus.held_out[part]
    scores = known.strengths()[asked.candidates]
    order = np.argsort(-scores, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    own = np.where(asked.exclude < 0, len(rank) + 1, rank[asked.exclude])
    found = rank[asked.relevant]
    behind_itself = found > np.repeat(own, np.diff(asked.offsets))
    return evaluator.of_ranks(found - behind_itself, asked)


def exchanged(
    evaluator: "RelatedVideos",
    embeddings: np.ndarray,
    corpus: Corpus,
    direction: Direction,
    part: Part = "test",
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
    asking = queries(corpus, direction, part).rows
    rng = np.random.default_rng(seed)

    def once() -> PerQuery:
        others = rng.permutation(asking)
        return evaluator.per_query(embeddings, corpus, direction, part, asking_with=others)

    return _mean([once() for _ in range(times)])


def chance(
    evaluator: "RelatedVideos",
    corpus: Corpus,
    direction: Direction,
    part: Part = "test",
    *,
    seed: int,
    times: int = 8,
) -> PerQuery:
    """Every query gets its own random order of the candidates: means over `times`, by a seed."""
    asked = queries(corpus, direction, part)
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
    values = {name: np.mean([one.values[name] for one in drawn], axis=0) for name in names}
    return PerQuery(ids=drawn[0].ids, values=values)
