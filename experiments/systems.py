"""What is compared at related-video retrieval, query by query: trained, raw and trivial systems."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidembed.corpus import Corpus
from vidembed.evaluators.baselines import chance, exchanged, popularity, raw_features
from vidembed.evaluators.related_videos import PerQuery, RelatedVideos

Scores = dict[str, dict[str, dict[str, np.ndarray]]]
"""system → direction → metric → f64[Q], the same queries for all systems of a direction."""


def embeddings_of_features(corpus: Corpus) -> dict[str, np.ndarray]:
    """The raw features as embeddings: each modality alone, and all of them concatenated."""
    names = tuple(corpus.table.features)
    alone = {name: raw_features(corpus.table, (name,)) for name in names}
    return alone | {"concatenated": raw_features(corpus.table, names)}


def score_systems(
    embeddings: Mapping[str, np.ndarray],
    corpus: Corpus,
    evaluator: RelatedVideos,
    *,
    seed: int,
    exchange: Sequence[str] = (),
) -> Scores:
    """Every system of `embeddings` (f32[N, D]), with popularity and chance beside them.

    Those named by `exchange` are measured once more as {name}_exchanged: each query asking with
    another's vector, which leaves what they know of the candidates alone.
    """
    scores: Scores = {}
    for direction in evaluator.directions:
        measured: dict[str, PerQuery] = {
            name: evaluator.per_query(vectors, corpus, direction)
            for name, vectors in embeddings.items()
        }
        for name in exchange:
            measured[f"{name}_exchanged"] = exchanged(
                evaluator, embeddings[name], corpus, direction, seed=seed
            )
        measured["popularity"] = popularity(evaluator, corpus, direction)
        measured["random"] = chance(evaluator, corpus, direction, seed=seed)
        for system, result in measured.items():
            scores.setdefault(system, {})[direction] = dict(result.values)
    return scores


def write_scores(scores: Scores, path: Path) -> None:
    """Parquet, a row for each of system × direction × metric: with `values`, f64 a query."""
    rows = [
        {"system": system, "direction": direction, "metric": metric, "values": values}
        for system, direction, metric, values in _flat(scores)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def read_scores(path: Path) -> Scores:
    """What `write_scores` wrote."""
    scores: Scores = {}
    for row in pq.read_table(path).to_pylist():
        metrics = scores.setdefault(row["system"], {}).setdefault(row["direction"], {})
        metrics[row["metric"]] = np.array(row["values"])
    return scores


def _flat(scores: Scores) -> Iterator[tuple[str, str, str, np.ndarray]]:
    for system, directions in scores.items():
        for direction, metrics in directions.items():
            for metric, values in metrics.items():
                yield system, direction, metric, values
