"""Baselines for embeddings: raw features, the closed form, popularity and chance."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from vidembed.corpora.held_out import Part
from vidembed.corpora.watched import Corpus
from vidembed.evaluators.closed_form import closed_form
from vidembed.evaluators.queries import Direction, asked_of, queries
from vidembed.records.rows import float_rows
from vidembed.records.scores_file import PerQuery
from vidembed.records.statistics import Statistics, train_statistics
from vidembed.records.table import FeatureTable

if TYPE_CHECKING:
    from vidembed.evaluators.related_videos import RelatedVideos

ROWS_AT_ONCE = 1 << 14
"""Rows converted to float32 at a time."""
ALL = "concatenated"
"""Name of the concatenation of all modalities, if there are several."""
STANDARDISED = "_standardised"
"""Suffix of the names of standardised features."""
CLOSED_FORM = "closed_form"
MOST_FEATURES = 5_000
"""With more features, the closed form is skipped as a baseline: it would take minutes."""


def measured(
    evaluator: "RelatedVideos", corpus: Corpus, *, mesh: jax.sharding.Mesh | None = None
) -> dict[str, dict[str, PerQuery]]:
    """System → task, as named by `asked_of` → metrics of each query.

    The systems are features, the closed form if there is one, `popularity` and `random`.
    """
    tasks = asked_of(corpus, evaluator.directions)
    systems: dict[str, dict[str, PerQuery]] = {}
    for name, vectors in feature_embeddings(corpus.table, corpus.is_train):
        systems[name] = evaluator.per_query_of_all(vectors, corpus, mesh=mesh)
        del vectors  # before the next is computed: each may be as large as the table in float32
    if (solved := solved_embedding(corpus)) is not None:
        systems[CLOSED_FORM] = evaluator.per_query_of_all(solved, corpus, mesh=mesh)
    systems["popularity"] = {n: popularity(evaluator, corpus, *a) for n, a in tasks.items()}
    systems["random"] = {
        name: chance(evaluator, corpus, *task, seed=evaluator.seed) for name, task in tasks.items()
    }
    return systems


def feature_embeddings(
    table: FeatureTable, is_train: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, f32[N, D]) for each modality's features, and for all of them concatenated.

    First raw features (`visual`, `audio`, `concatenated`), then standardised ones as a network sees
    them (`visual_standardised` ...).
    """
    groups: dict[str, tuple[str, ...]] = {name: (name,) for name in table.features}
    if len(groups) > 1:
        groups[ALL] = tuple(table.features)
    statistics = train_statistics(table, is_train)
    for suffix, known in (("", None), (STANDARDISED, statistics)):
        for name, modalities in groups.items():
            yield name + suffix, raw_features(table, modalities, known)


def solved_embedding(corpus: Corpus) -> np.ndarray | None:
    """The closed form's f32[N, D] of all modalities; None if it cannot be solved, for example
    without relations between train videos, or if there are too many features."""
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
    """The features as an embedding, f32[N, sum of widths], for `RelatedVideos`.

    Modalities are concatenated without scaling, with zeros for a missing one. Scaling each to unit
    length first would be a weaker baseline: on YouTube-8M's records NDCG@10 falls from 0.17 to
    0.11, because the less informative audio then weighs as much as vision.

    statistics: standardise each dimension like a network's inputs: subtract the mean, divide by the
    deviation; constant dimensions are zero.
    """
    features = np.empty((len(table), sum(table.widths[name] for name in modalities)), np.float32)
    first = 0
    for name in modalities:
        part = features[:, first : first + table.widths[name]]
        first += table.widths[name]
        for start in range(0, len(table), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            part[rows] = float_rows(table, name, rows)
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
    """Rank the same list for every query: the candidates by their co-watches (weighted degree).

    For eval_to_train, co-watches are counted within the train partition, which is what is known
    when a new video arrives. For train_to_eval and eval_to_eval, new videos have none yet, so all
    relations of the measured part are counted, including the relevant ones. That is an ORACLE: a
    bound, not a method. A query that is itself in the list is removed from it.
    """
    query_set = queries(corpus, direction, part)
    known = corpus.train_relations if direction == "eval_to_train" else corpus.held_out[part]
    scores = known.strengths()[query_set.candidates]
    order = np.argsort(-scores, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    query_rank = np.where(query_set.exclude < 0, len(rank) + 1, rank[query_set.exclude])
    ranks = rank[query_set.relevant]
    behind_query = ranks > np.repeat(query_rank, np.diff(query_set.offsets))
    return evaluator.of_ranks(ranks - behind_query, query_set)


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
    """Score an embedding f32[N, D] with the vectors of the queries shuffled among them.

    This is the chance level for what an embedding knows about queries; what it knows about the
    candidates only, such as their popularity, remains. If content and relations are independent,
    queries are exchangeable, and an embedding scores no more than this. Means over `times` random
    shuffles per query, from a seed.

    Candidates keep their vectors, and the query itself is still excluded from its results. For
    eval_to_eval, the video whose vector it borrows is a candidate and, by cosine, ranks first. That
    rank is lost as a randomly drawn one would be, so it matters only for an embedding that knows
    which new videos are popular: this knowledge is slightly underrated here.
    """
    rows = queries(corpus, direction, part).rows
    rng = np.random.default_rng(seed)

    def once() -> PerQuery:
        shuffled = rng.permutation(rows)
        return evaluator.per_query(embeddings, corpus, direction, part, asking_with=shuffled)

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
    """Rank candidates in a random order for each query; means over `times` draws from a seed."""
    query_set = queries(corpus, direction, part)
    rng = np.random.default_rng(seed)
    results = len(query_set.candidates) - (query_set.exclude >= 0)

    def once() -> PerQuery:
        ranks = [
            rng.choice(size, count, replace=False) + 1
            for size, count in zip(results, np.diff(query_set.offsets))
        ]
        return evaluator.of_ranks(np.concatenate(ranks), query_set)

    return _mean([once() for _ in range(times)])


def _mean(drawn: Sequence[PerQuery]) -> PerQuery:
    names = drawn[0].values
    values = {name: np.mean([draw.values[name] for draw in drawn], axis=0) for name in names}
    return PerQuery(ids=drawn[0].ids, values=values)
