"""What needs no training, measured on the data of a sweep's seeds.

    python -m experiments.modalities baselines --workdir W --records FOLDER --seeds 0 1

measures the rows of a table that are no trainings: raw features, the closed form, popularity and
chance. Sessions, edges and split are those of the sweep's trainings, and are shared with them.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import tyro

from experiments.gathering import over_seeds
from experiments.points import points_of, refuse_seeds
from experiments.running import SAMPLE, Runner
from experiments.sweep import Sweep
from experiments.tables import print_systems
from vidembed import files
from vidembed.distributed.stopping import StopFlag
from vidembed.evaluators.baselines import measured
from vidembed.metrics.intervals import bootstrap
from vidembed.records.scores_file import Scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baselines:
    """Measure what needs no training: raw features, the closed form, popularity, chance."""

    sweep: tyro.conf.Suppress[Sweep]
    workdir: str
    """Folder of the sweeps; sweeps in the same folder share data."""
    records: str = os.path.relpath(SAMPLE)
    """Video-level TFRecords: a folder, a file or a pattern."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each seed has its own users, sessions and split."""
    permuted: bool = False
    """Shuffle the video ids of the sessions: the control, where content says nothing."""

    def __post_init__(self) -> None:
        refuse_seeds(self.seeds)

    def run(self) -> int:
        """Print a table for each direction; write WORKDIR/baselines.json, with means over seeds
        and 95 % intervals. Raises StoppedError after a stop request."""
        folder, seeds = Path(self.workdir), list[Scores]()
        base = self.sweep.base(*self.sweep.sizes["reduced"])
        points = points_of(self.sweep, base, folder, self.seeds)
        with StopFlag() as stop:
            runner = Runner(folder, stop, records=self.records)
            runner.table()
            for point in points:
                if not point.controls or point.permuted != self.permuted:
                    continue
                corpus = runner.corpus(point)
                with runner.progress.stage(f"{point.world}: baselines"), stop.raising():
                    seeds.append(measured(point.measured_by, corpus))
        means = {name: over_seeds(seeds, name, by=bootstrap) for name in seeds[0]}
        directions = self.sweep.evaluator.directions
        summary: dict[str, Any] = {
            d: {name: of[d] for name, of in means.items()} for d in directions
        }
        print_systems(summary)
        name = "baselines-permuted.json" if self.permuted else "baselines.json"
        files.write_json(folder / name, {"seeds": self.seeds, "scores": summary})
        return 0
