"""What an evaluator gives: metrics of single queries, and their means with intervals."""

from collections.abc import Mapping
from typing import NamedTuple

from vidembed.metrics.intervals import Interval
from vidembed.records.scores_file import PerQuery


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
