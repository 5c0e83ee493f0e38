"""Metrics of single queries, each with the id of the video that asks."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class PerQuery:
    """Metrics of each query, for intervals and paired comparisons."""

    ids: np.ndarray
    """S[Q]: the querying videos, each once."""
    values: Mapping[str, np.ndarray]
    """f64[Q] by metric: `ndcg@10`, `recall@10`, `map` (average precision)."""
