"""Edges without a feature table: every video that they name, and none besides."""

from typing import Any, cast

import numpy as np
from etils import epath

from vidembed.graph.edges import Edges, read_edges
from vidembed.records.table import FeatureTable


def read_bare_edges(path: epath.PathLike) -> tuple[np.ndarray, Edges]:
    """Ids S[N] of all videos of an edge file, in the order of their bytes, and the edges between
    these as rows. Raises what `read_edges` raises."""
    videos = _Named()
    edges = read_edges(path, cast(FeatureTable, videos))
    return videos.ids, edges


class _Named:
    """Stands for a table that has every video it is asked for."""

    ids: np.ndarray

    def find(self, ids: Any) -> np.ndarray:
        """Rows i64[n] of ids S[n]: all that will be asked for, at once."""
        self.ids, rows = np.unique(np.asarray(ids), return_inverse=True)
        return rows

    def __len__(self) -> int:
        return len(self.ids)
