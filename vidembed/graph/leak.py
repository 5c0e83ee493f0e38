"""The check that no relation crosses the split by video."""

import numpy as np

from vidembed.graph.relation import RelationGraph


class LeakError(RuntimeError):
    """Training would see a video of the evaluation split."""


def check_no_leak(
    graph: RelationGraph, is_train: np.ndarray, ids: np.ndarray | None = None
) -> None:
    """Raise LeakError when an edge of a graph meant for training touches a video outside it.

    is_train: bool[N]. ids S[N], where given, name the offending pairs; else their rows do.
    """
    is_train = graph.mask(is_train, "is_train")
    rows, others = graph.rows(), graph.neighbours
    leaks = np.flatnonzero((rows < others) & ~(is_train[rows] & is_train[others]))
    if not len(leaks):
        return

    def name(row: int) -> str:
        side = "train" if is_train[row] else "evaluation"
        return f"{row if ids is None else bytes(ids[row]).decode(errors='replace')} ({side})"

    pairs = "; ".join(f"{name(rows[i])} - {name(others[i])}" for i in leaks[:10])
    raise LeakError(
        f"{len(leaks)} of {graph.edges} training edges touch the evaluation split: {pairs}"
        f"{'; ...' if len(leaks) > 10 else ''}. Train only on graph.within(is_train)"
    )
