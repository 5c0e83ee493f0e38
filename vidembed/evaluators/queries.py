"""Queries, candidates and relevant videos of each retrieval direction.

Eval is one part of the videos outside train: test, or validation if there is one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from vidembed.corpora.held_out import Part
from vidembed.corpora.watched import Corpus

Direction = Literal["eval_to_train", "train_to_eval", "eval_to_eval"]
"""QUERIES_to_CANDIDATES, by partition."""
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
"""All directions."""
VALIDATION = "validation_"
"""Prefix of the names of scores on the validation part."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Queries:
    """Queries of one direction, with their candidates and relevant videos.

    ids: S[Q] and rows: i64[Q] of the queries; candidates: i64[C], table rows, ascending; offsets:
    i64[Q+1] into relevant: i64[R], positions in candidates; exclude: i64[Q], the position of the
    query itself, which is not a result, or -1 if it is not a candidate; left_out: number of videos
    in the query partition without any relevant candidate.
    """

    ids: np.ndarray
    rows: np.ndarray
    candidates: np.ndarray
    offsets: np.ndarray
    relevant: np.ndarray
    exclude: np.ndarray
    left_out: int


def asked_of(corpus: Corpus, directions: Iterable[Direction]) -> dict[str, tuple[Direction, Part]]:
    """Name of the scores → (direction, part): `eval_to_train` for test videos, and
    `validation_eval_to_train` if there is a validation part."""
    directions = tuple(directions)
    return {
        (VALIDATION if part == "validation" else "") + direction: (direction, part)
        for part in corpus.held_out
        for direction in directions
    }


def queries(corpus: Corpus, direction: Direction, part: Part = "test") -> Queries:
    """Queries, candidates and relevant videos of one direction; ValueError if there are none.

    part: the part that counts as new. Videos of the other part are neither queries nor candidates.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, found {direction!r}")
    if part not in corpus.held_out:
        raise ValueError(f"there is no {part} part, only {', '.join(corpus.held_out)}")
    new = corpus.held_out[part]
    is_query = corpus.is_train if direction == "train_to_eval" else new.videos
    is_candidate = corpus.is_train if direction == "eval_to_train" else new.videos
    among_themselves = direction == "eval_to_eval"
    graph = new.among_themselves if among_themselves else new.relevance
    degrees = graph.degrees()
    rows = np.flatnonzero(is_query & (degrees > 0))
    if not len(rows):
        target = "another of them" if among_themselves else "one of the other partition"
        raise ValueError(
            f"{direction}{' on validation' if part == 'validation' else ''}: "
            f"none of {int(is_query.sum())} videos is related to {target}; there is "
            "nothing to measure. Do the edges and the split belong to this table?"
        )
    candidates = np.flatnonzero(is_candidate)
    position = np.cumsum(is_candidate) - 1
    return Queries(
        ids=corpus.table.ids[rows],
        rows=rows,
        candidates=candidates,
        offsets=np.concatenate([[0], np.cumsum(degrees[rows])]),
        relevant=position[graph.neighbours[is_query[graph.rows()]]],
        exclude=np.where(is_candidate[rows], position[rows], -1),
        left_out=int(is_query.sum()) - len(rows),
    )
