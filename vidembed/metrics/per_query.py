"""What an evaluator gives: metrics of single queries, each with the id of the video that asks, and
their means with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vidembed.metrics.intervals import Interval


@dataclass(frozen=True, kw_only=True, eq=False)
class PerQuery:
    """Metrics of each query, for intervals and paired comparisons."""

    ids: np.ndarray
    """S[Q]: the querying videos, each once."""
    values: Mapping[str, np.ndarray]
    """f64[Q] by metric: `ndcg@10`, `recall@10`, `map` (average precision)."""


class Result(NamedTuple):
    """What was measured of one system, such as one checkpoint."""

    scores: Mapping[str, Interval]
    """By name, such as `eval_to_train/ndcg@10`."""
    per_query: Mapping[str, PerQuery]
    """By direction; their means are the values of `scores`."""


class Selection(NamedTuple):
    """The one number that checkpoints are compared by: the higher, the better."""

    name: str
    value: float
