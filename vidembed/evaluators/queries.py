"""Who asks for whom: the queries of each direction, their candidates and what is relevant."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from vidembed.corpora.watched import Corpus

Direction = Literal["eval_to_train", "train_to_eval", "eval_to_eval"]
"""QUERIES_to_CANDIDATES, by partition."""
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
"""All that are known."""


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


def queries(corpus: Corpus, direction: Direction) -> Queries:
    """Queries, candidates and relevant videos of one direction; ValueError if there are none."""
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, found {direction!r}")
    asking = corpus.is_train if direction == "train_to_eval" else ~corpus.is_train
    asked_for = corpus.is_train if direction == "eval_to_train" else ~corpus.is_train
    among_themselves = direction == "eval_to_eval"
    graph = corpus.eval_relevance if among_themselves else corpus.relevance
    degrees = graph.degrees()
    rows = np.flatnonzero(asking & (degrees > 0))
    if not len(rows):
        other = "another of them" if among_themselves else "one of the other partition"
        raise ValueError(
            f"{direction}: none of {int(asking.sum())} videos is related to {other}; there is "
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
