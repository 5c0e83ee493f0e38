"""Query videos with their nearest neighbours, for visual inspection of an embedding."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from vidembed.corpora.watched import Corpus
from vidembed.pairwise import search


def gallery(
    embeddings: np.ndarray,
    corpus: Corpus,
    label_names: Mapping[int, str],
    *,
    queries: int = 12,
    nearest: int = 4,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Random videos of the test part, with their nearest among all others (CDML, Figure 4).

    Queries are videos with relations, if there are any. embeddings: f32[N, D], one row per row of
    the table, compared by dot product; ties in table order. Returns at most `queries` entries in
    table order: `id`, `labels` (names), `partition`, `relations` (number of related videos), and
    `nearest`: for each, `id`, `labels`, `score`, `partition` (train or eval; with validation
    videos: train, validation or test) and `related`, whether the graph has that pair. Raises
    ValueError for embeddings that do not fit the table or are not finite.
    """
    table = corpus.table
    if embeddings.ndim != 2 or len(embeddings) != len(table):
        raise ValueError(
            f"a gallery needs one embedding for each of the table's {len(table)} videos, f32"
            f"[{len(table)}, D]; found {list(embeddings.shape)}"
        )
    broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(broken):
        first = ", ".join(_text(name) for name in table.ids[broken[:5]])
        raise ValueError(f"{len(broken)} embeddings are not finite; the first are those of {first}")
    held_out = np.flatnonzero(corpus.held_out["test"].videos)
    with_relations = held_out[corpus.relations.degrees()[held_out] > 0]
    held_out = with_relations if len(with_relations) else held_out
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(held_out)[:queries])
    count = min(nearest, len(table) - 1)
    if not len(drawn) or count < 1:
        return []
    partition = np.full(len(table), "test" if "validation" in corpus.held_out else "eval", object)
    partition[corpus.is_train] = "train"
    partition[corpus.is_validation] = "validation"
    vectors = jnp.asarray(embeddings, jnp.float32)
    results = search(vectors[drawn], vectors, count, exclude=jnp.asarray(drawn, jnp.int32)[:, None])
    scores, rows = np.asarray(results[0]), np.asarray(results[1])

    def video(row: int) -> dict[str, Any]:
        return {
            "id": _text(table.ids[row]),
            "labels": [label_names.get(i, f"label {i}") for i in table.labels(row).tolist()],
            "partition": partition[row],
        }

    graph = corpus.relations
    entries = []
    for query, near, near_scores in zip(drawn.tolist(), rows, scores):
        related = graph.neighbours[graph.offsets[query] : graph.offsets[query + 1]]
        neighbours = [
            {**video(row), "score": float(score), "related": bool(np.isin(row, related))}
            for row, score in zip(near.tolist(), near_scores)
        ]
        entries.append({**video(query), "relations": len(related), "nearest": neighbours})
    return entries


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
