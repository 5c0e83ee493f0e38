"""What is compared at related-video retrieval, query by query: trained, raw and trivial systems."""

from collections.abc import Mapping, Sequence

import numpy as np

from vidembed.corpus import Corpus
from vidembed.evaluators.baselines import (
    ALL,
    STANDARDISED,
    chance,
    exchanged,
    feature_embeddings,
    popularity,
)
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.metrics.per_query import PerQuery
from vidembed.scores_file import Scores


def embeddings_of_features(corpus: Corpus) -> dict[str, np.ndarray]:
    """Features as embeddings: each modality alone and all side by side, as they are; and all of
    them standardised, which are the inputs of a network and so what it starts from."""
    wanted = {*corpus.table.features, ALL, ALL + STANDARDISED}
    return {name: vectors for name, vectors in feature_embeddings(corpus) if name in wanted}


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
    scores: dict[str, dict[str, PerQuery]] = {}
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
            scores.setdefault(system, {})[direction] = result
    return scores
