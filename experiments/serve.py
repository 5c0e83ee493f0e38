"""A trained run put to use: vectors of videos, neighbours, and what to recommend.

    python -m experiments.serve --workdir work/run1 --table work/table

The embedding stands beside the features themselves, which need no run: where both find the same,
training has changed little.
"""

import dataclasses
import sys

import numpy as np

import vidembed
from vidembed.cli.command_line import start
from vidembed.records.table import FeatureTable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Serve:
    """Show what a run finds for a video and for a history, beside what its features alone find."""

    workdir: str
    """Work directory of a run, or an export."""
    table: str
    """The videos to search: a feature table of the same features."""
    step: str = "best"
    """best, latest, or a number."""
    k: int = 5
    """How many are shown."""

    def run(self) -> int:
        """Prints; 0."""
        table = FeatureTable.open(self.table)
        run = vidembed.load(self.workdir, step=self.step)
        vectors = run.embed_rows(table, np.arange(3))
        index, raw = run.index(table), vidembed.index(table)
        history = table.ids[:3]
        print(f"{len(index):,} videos; the first three as vectors {vectors.shape}")
        ((near, _),) = index.search(vectors[:1], self.k).each()
        ((beside, _),) = index.search(ids=history[:1], k=self.k).each()
        ((alone, _),) = raw.search(ids=history[:1], k=self.k).each()
        liked, _ = index.recommend(history, self.k)
        for what, ids in (
            (f"near the vector of {history[0].decode()}", near),
            ("the same by its id", beside),
            ("the same by features alone", alone),
            (f"to whom saw {', '.join(history.astype(str))}", liked),
        ):
            print(f"{what}: {', '.join(ids.astype(str))}")
        print(f"in common with features alone: {len(np.intersect1d(beside, alone))} of {self.k}")
        return 0


if __name__ == "__main__":
    sys.exit(start(Serve, prog="python -m experiments.serve"))
