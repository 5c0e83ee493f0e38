"""The command line of a sweep: `python -m experiments.NAME {run,baselines,gather} --workdir W`.

Exit codes: 0 done; 1 refused, or some points failed (the others are done; the same command tries
the failed ones again); 2 a mistake in the command line; 143 stopped by SIGTERM or Ctrl-C and saved:
the same command resumes from there.
"""

import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from experiments.gathering import gathered
from experiments.points import points_of, refuse_seeds
from experiments.running import SAMPLE, Runner
from experiments.sweep import Sweep
from experiments.sweep_baselines import Baselines
from experiments.tables import print_sweep, write_sweep
from vidembed.cli import command_line
from vidembed.cli.run_report import journal_of
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.recipe import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """Train and evaluate every point with every seed; finished points are skipped."""

    sweep: tyro.conf.Suppress[Sweep]
    workdir: str
    """Folder of the sweeps; sweeps in the same folder share data, controls and points."""
    records: str = os.path.relpath(SAMPLE)
    """Video-level TFRecords: a folder, a file or a pattern."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each seed has its own users, sessions, split and trainings."""
    shard: str = "1/1"
    """i/n: run part i of n; run the others in other processes or on other machines."""
    scale: Literal["reduced", "full"] = "reduced"
    """reduced: trainings of less than a minute on two cores; full: the paper's batch size."""
    steps: int = 0
    """Updates per training; 0: as set by the scale."""
    triplets: int = 0
    """Triplets per batch; 0: as set by the scale."""

    def __post_init__(self) -> None:
        refuse_seeds(self.seeds)
        self._part()
        self.base()  # refuses invalid sizes

    def base(self) -> Recipe:
        """The recipe to vary."""
        steps, triplets = self.sweep.sizes[self.scale]
        return self.sweep.base(self.steps or steps, self.triplets or triplets)

    def run(self) -> int:
        """Run this shard; return 1 if points failed. Raises StoppedError after a stop request."""
        base, folder = self.base(), Path(self.workdir)
        with StopFlag() as stop:
            runner = Runner(folder, stop, records=self.records)
            runner.table(base)
            return runner.run(points_of(self.sweep, base, folder, self.seeds)[self._part()])

    def _part(self) -> slice:
        match = re.fullmatch(r"(\d+)/(\d+)", self.shard)
        number, parts = map(int, match.groups()) if match else (0, 0)
        if not 1 <= number <= parts:
            raise ValueError(f"shard {self.shard!r} must be i/n with i from 1 to n, such as 2/4")
        return slice(number - 1, None, parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gather:
    """Print one table of all points, with the paper's numbers beside ours; write it to WORKDIR."""

    sweep: tyro.conf.Suppress[Sweep]
    workdir: str
    """Folder of the sweeps."""
    seeds: tuple[int, ...] = ()
    """Seeds to combine; by default all that are there."""

    def __post_init__(self) -> None:
        if self.seeds:
            refuse_seeds(self.seeds)

    def run(self) -> int:
        """Print, and write NAME.csv, .md, .json and .html; return 0 even if points are missing."""
        folder = Path(self.workdir)
        result = gathered(self.sweep, folder, self.seeds)
        print_sweep(result)
        base = Recipe.from_json(result["recipe"])
        points = points_of(self.sweep, base, folder, result["seeds"])
        journals = {f"{point}": lines for point in points if (lines := journal_of(point.run))}
        for file in write_sweep(result, folder, journals):
            print(f"wrote {file}")
        return 0


def main(sweep: Sweep, arguments: Sequence[str] | None = None) -> int:
    """Run the verb of the command line; return an exit code."""
    verbs = {
        "run": Run(sweep=sweep, workdir=tyro.MISSING),
        "baselines": Baselines(sweep=sweep, workdir=tyro.MISSING),
        "gather": Gather(sweep=sweep, workdir=tyro.MISSING),
    }
    given = sys.argv[1:] if arguments is None else arguments
    chosen = command_line.parse(
        verbs,
        given,
        prog=f"python -m experiments.{sweep.name}",
        description=f"{sweep.title}. {sweep.claim}",
    )
    return command_line.guarded(chosen.run)
