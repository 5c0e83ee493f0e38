"""Captions and sentences with the videos that they find, for inspection of a search by words."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vidembed.corpora.caption_rows import Captions
from vidembed.records.table import FeatureTable

LONGEST = 160
"""Characters of a text on the page; longer ones are cut."""


def random_captions(
    captions: Captions, rows: np.ndarray, *, count: int = 12, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """One random caption of each of some random videos.

    rows: i64[V], videos with captions. Returns the captions i64[n] and the places i64[n] of their
    videos in `rows`, in this order; n is at most `count`.
    """
    rng = np.random.default_rng(seed)
    places = np.sort(rng.permutation(len(rows))[:count])
    begin, end = captions.offsets[rows[places]], captions.offsets[rows[places] + 1]
    return rng.integers(begin, end), places


def text_queries(
    table: FeatureTable,
    captions: Captions,
    rows: np.ndarray,
    videos: np.ndarray,
    texts: Sequence[str],
    vectors: np.ndarray,
    own: np.ndarray,
    *,
    nearest: int = 4,
) -> list[dict[str, Any]]:
    """Each text with the videos whose vectors have the largest dot products with its own.

    rows: i64[V], the table rows that are searched; videos: f32[V, D], their vectors; vectors:
    f32[Q, D], those of the texts; own: i64[Q], the place in `rows` of a caption's video, or -1.
    Returns for each text: `text`, `id` and `rank` of its own video ("" and None without one; other
    videos with the same score count half), and `videos`, by falling score and then in table order:
    `id`, `score`, `own`, and `caption`, the video's first one. Raises ValueError for vectors that
    are not finite.
    """
    for what, array in (("videos", videos), ("texts", vectors)):
        if broken := int((~np.isfinite(array).all(axis=1)).sum()):
            raise ValueError(f"the vectors of {broken} {what} are not finite: retrain the run")
    entries = []
    for text, vector, place in zip(texts, vectors, own.tolist()):
        scores = videos @ vector
        best = np.argsort(-scores, kind="stable")[:nearest]
        entry: dict[str, Any] = {"text": _short(text), "id": "", "rank": None}
        if place >= 0:
            tied = int((scores == scores[place]).sum()) - 1
            rank = 1 + int((scores > scores[place]).sum()) + tied / 2
            entry |= {"id": _id(table, rows[place]), "rank": rank}
        entry["videos"] = [
            {
                "id": _id(table, rows[number]),
                "score": float(scores[number]),
                "own": number == place,
                "caption": _first(captions, int(rows[number])),
            }
            for number in best.tolist()
        ]
        entries.append(entry)
    return entries


def _first(captions: Captions, row: int) -> str:
    begin, end = captions.offsets[row], captions.offsets[row + 1]
    return _short(captions.texts[begin]) if begin < end else ""


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"


def _id(table: FeatureTable, row: int) -> str:
    name: bytes = table.ids[row]
    return name.decode(errors="replace")
