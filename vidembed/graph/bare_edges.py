"""Read edges without a feature table: the videos are those that the edges name."""

from typing import Any, cast

import numpy as np
from etils import epath

from vidembed.graph.edges import Edges, read_edges
from vidembed.records.table import FeatureTable


def read_bare_edges(path: epath.PathLike) -> tuple[np.ndarray, Edges]:
    """Read an edge file: the ids S[N] of all its videos, in byte order, and their edges as rows.

    Raises the errors of `read_edges`.
    """
    videos = _NamedVideos()
    edges = read_edges(path, cast(FeatureTable, videos))
    return videos.ids, edges


class _NamedVideos:
    """Stand-in for a feature table that holds every id it is asked for."""

    ids: np.ndarray

    def find(self, ids: Any) -> np.ndarray:
        """Rows i64[n] of ids S[n]; called once, with all ids."""
        self.ids, rows = np.unique(np.asarray(ids), return_inverse=True)
        return rows

    def __len__(self) -> int:
        return len(self.ids)
