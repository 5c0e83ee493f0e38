"""Query videos with their nearest neighbours: what an embedding finds, to be looked at."""

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
    """Videos of the test part, drawn by chance, and their nearest of all others (CDML, Figure 4).

    Drawn are videos that have relations, so that there is something to find; any, where none has.
    embeddings: f32[N, D], a row for each of the table's, compared by dot product; equal scores in
    the order of the table. At most `queries` entries, in the order of the table: `id`, `labels`
    (names), `partition`, `relations` (how many videos the graph relates to it), and `nearest`:
    for each `id`, `labels`, `score`, `partition` (train or eval; where there are validation videos:
    train, validation or test) and `related`, whether the graph has that pair. Raises ValueError for
    embeddings that do not fit the table or are not finite.
    """
    table = corpus.table
    if embeddings.ndim != 2 or len(embeddings) != len(table):
        raise ValueError(
            f"a gallery needs an embedding for each of the table's {len(table)} videos, f32"
            f"[{len(table)}, D]; found {list(embeddings.shape)}"
        )
    broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(broken):
        first = ", ".join(_text(name) for name in table.ids[broken[:5]])
        raise ValueError(f"{len(broken)} embeddings are not finite, first those of {first}")
    held_out = np.flatnonzero(corpus.held_out["test"].videos)
    related_at_all = held_out[corpus.relations.degrees()[held_out] > 0]
    held_out = related_at_all if len(related_at_all) else held_out
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(held_out)[:queries])
    count = min(nearest, len(table) - 1)
    if not len(drawn) or count < 1:
        return []
    partition = np.full(len(table), "test" if "validation" in corpus.held_out else "eval", object)
    partition[corpus.is_train] = "train"
    partition[corpus.is_validation] = "validation"
    vectors = jnp.asarray(embeddings, jnp.float32)
    found = search(vectors[drawn], vectors, count, exclude=jnp.asarray(drawn, jnp.int32)[:, None])
    scores, rows = np.asarray(found[0]), np.asarray(found[1])

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
