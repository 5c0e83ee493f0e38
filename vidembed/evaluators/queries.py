"""Who asks for whom: the queries of each direction, their candidates and what is relevant.

Eval is one part of the videos outside train: test, or validation where there is one.
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
"""All that are known."""
VALIDATION = "validation_"
"""Begins the names of what is asked of the validation part."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Queries:
    """What one direction asks: the videos with something relevant, and where that stands.

    ids: S[Q] and rows: i64[Q] of the queries; candidates: i64[C], table rows, ascending; offsets:
    i64[Q+1] into relevant: i64[R], positions in candidates; exclude: i64[Q], the position of the
    query itself, which is none of its results, or -1 where it is no candidate; left_out: videos of
    the querying partition without anything relevant among the candidates.
    """

    ids: np.ndarray
    rows: np.ndarray
    candidates: np.ndarray
    offsets: np.ndarray
    relevant: np.ndarray
    exclude: np.ndarray
    left_out: int


def asked_of(corpus: Corpus, directions: Iterable[Direction]) -> dict[str, tuple[Direction, Part]]:
    """What is asked, by the name that its scores bear: `eval_to_train`, of test videos, and
    `validation_eval_to_train` where there is a validation part."""
    directions = tuple(directions)
    return {
        (VALIDATION if part == "validation" else "") + direction: (direction, part)
        for part in corpus.held_out
        for direction in directions
    }


def queries(corpus: Corpus, direction: Direction, part: Part = "test") -> Queries:
    """Queries, candidates and relevant videos of one direction; ValueError if there are none.

    part: whose videos are the new ones. Videos of the other part neither ask nor are asked for.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, found {direction!r}")
    if part not in corpus.held_out:
        raise ValueError(f"there is no {part} part, only {', '.join(corpus.held_out)}")
    new = corpus.held_out[part]
    asking = corpus.is_train if direction == "train_to_eval" else new.videos
    asked_for = corpus.is_train if direction == "eval_to_train" else new.videos
    among_themselves = direction == "eval_to_eval"
    graph = new.among_themselves if among_themselves else new.relevance
    degrees = graph.degrees()
    rows = np.flatnonzero(asking & (degrees > 0))
    if not len(rows):
        other = "another of them" if among_themselves else "one of the other partition"
        raise ValueError(
            f"{direction}{' on validation' if part == 'validation' else ''}: "
            f"none of {int(asking.sum())} videos is related to {other}; there is "
            "nothing to measure. Are edges and split those of this table?"
        )
    candidates = np.flatnonzero(asked_for)
    position = np.cumsum(asked_for) - 1
    return Queries(
        ids=corpus.table.ids[rows],
        rows=rows,
        candidates=candidates,
        offsets=np.concatenate([[0], np.cumsum(degrees[rows])]),
        relevant=position[graph.neighbours[asking[graph.rows()]]],
        exclude=np.where(asked_for[rows], position[rows], -1),
        left_out=int(asking.sum()) - len(rows),
    )
