"""The feed benchmark's peer: PyTorch's DataLoader over the same arrays, made to be quick.

An item is a whole batch, so that nothing is collated row by row, and two worker processes work
ahead. Triplets are drawn from the edges of the same graph; no forbidden pairs are made. The feed
benchmark runs it where torch is installed (`pip install -e '.[bench]'`).
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from experiments.benchmarks import feed
from experiments.benchmarks.bench import Row
from vidembed.graph.relation import RelationGraph
from vidembed.records.table import FeatureTable

WORKERS = 2


class TripletBatches(Dataset):
    """Batch k of an endless run: rows i64[3, B], and where wanted their features u8[3, B, F]."""

    def __init__(
        self, table: FeatureTable, graph: RelationGraph, triplets: int, *, gathered: bool
    ) -> None:
        self.table, self.triplets, self.gathered = table, triplets, gathered
        self.anchors = np.repeat(np.arange(len(table), dtype=np.int32), np.diff(graph.offsets))
        self.neighbours = graph.neighbours

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, step: int) -> dict[str, Any]:
        random = np.random.default_rng([0, step])
        edges = random.integers(0, len(self.neighbours), self.triplets)
        negatives = random.integers(0, len(self.table), self.triplets)
        rows = np.stack([negatives, self.neighbours[edges], self.anchors[edges]])
        return {"rows": rows} | (self.table.rows(rows) if self.gathered else {})


def data_loader_rows(
    table: FeatureTable, graph: RelationGraph, triplets: int, *, copy_seconds: float
) -> Iterator[Row]:
    """The rate at which a consumer that does nothing gets row numbers, and gathered rows."""
    for gathered, limit in ((False, feed.STEP_SECONDS), (True, copy_seconds)):
        batches = TripletBatches(table, graph, triplets, gathered=gathered)
        loader = iter(DataLoader(batches, batch_size=None, shuffle=False, num_workers=WORKERS))
        next(loader)
        what = "host" if gathered else "row numbers"
        note = f"{WORKERS} worker processes; no forbidden pairs"
        yield feed.row_of(f"peer: DataLoader, {what}", partial(_next, loader), limit, note)


def _next(loader: Iterator[Any], step: int) -> Any:
    del step
    return next(loader)
