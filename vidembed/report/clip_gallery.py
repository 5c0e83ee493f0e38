"""Query clips with their nearest neighbours, their classes and their deviations."""

from typing import Any

import numpy as np

from vidembed.corpora.clip_files import ClipFilesCorpus

QUERIES, NEAREST = 12, 4


def clip_gallery(
    embeddings: np.ndarray, deviations: np.ndarray | None, corpus: ClipFilesCorpus, *, seed: int = 0
) -> list[dict[str, Any]]:
    """Random test videos, each with the nearest of all other videos, by dot product.

    embeddings: f32[N, D], of all videos of the corpus. deviations: f32[N, D], of a model that gives
    them. Entries are in the order of the corpus: `id`, `class`, `source`, `part`, `deviation` (the
    root of the total variance, or None), and `nearest`, of each the same with its `score`.
    """
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(np.flatnonzero(corpus.parts["test"]))[:QUERIES])
    clips = corpus.clips
    total = None if deviations is None else np.linalg.norm(deviations, axis=1)

    def video(row: int) -> dict[str, Any]:
        return {
            "id": clips.ids[row].decode(errors="replace"),
            "class": clips.classes[clips.labels[row]],
            "source": clips.sources[clips.groups[row]],
            "part": str(clips.part[row]),
            "deviation": None if total is None else float(total[row]),
        }

    entries = []
    for query in drawn.tolist():
        scores = embeddings @ embeddings[query]
        scores[query] = -np.inf
        best = np.argsort(-scores, kind="stable")[: min(NEAREST, len(clips) - 1)]
        nearest = [{**video(row), "score": float(scores[row])} for row in best.tolist()]
        entries.append({**video(query), "nearest": nearest})
    return entries
