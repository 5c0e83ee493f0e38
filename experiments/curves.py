"""How long to train before architectures are compared: scores over steps, early and late fusion.

    python -m experiments.curves --workdir W --records FOLDER

Trains the 4000-256 networks of Table 2 on sessions of a seed that no table uses, measures them as
they train, and prints NDCG@10 over the steps: the tables belong where the curves have become flat.
"""

import dataclasses
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.points import Point, refuse_unfinished
from experiments.running import SAMPLE, Runner
from experiments.sweep import base_recipe, networks
from vidembed.cli.command_line import start
from vidembed.cli.run_report import evaluations_of
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.recipe import Retention
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.report import wording
from vidembed.report.headline import headline
from vidembed.workdir.layout import Workdir

NETWORKS = ("early-4000-256", "late-4000-256")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curves:
    """Scores of early and late fusion over the steps of a training, on SIMULATED sessions."""

    workdir: str = "runs/curves"
    """Folder for everything that is made; running again goes on from what is done."""
    records: str = os.path.relpath(SAMPLE)
    """Video-level TFRecords: a folder, a file or a pattern."""
    seed: int = 9
    """Of people, sessions, split and training; one that the tables do not use."""
    steps: int = 500
    """Updates of each training."""
    every: int = 50
    """Steps between measurements."""

    def run(self) -> int:
        """Trains, measures and prints."""
        recipe = dataclasses.replace(
            base_recipe(self.steps),
            checkpoints=Retention(every_steps=self.every, keep_last=1),
            evaluate_every=self.every,
        )
        folder = Path(self.workdir)
        points = [
            Point(folder=folder, name=name.replace("-", " ", 1), varied=one, seed=self.seed)
            for name, one in networks(recipe, *NETWORKS).items()
        ]
        with StopFlag() as stop, Workdir(folder).lease(of_run=False):
            if Runner(folder, stop, records=self.records).run(points):
                return 1
            refuse_unfinished(points)
        measured = {
            point.name: {
                of["step"]: of["scores"] for of in evaluations_of(point.run, point.measured_by)
            }
            for point in points
        }
        directions = RelatedVideos().directions
        main = headline(directions[0], RelatedVideos().metrics)
        columns = [(direction, name) for direction in directions for name in measured]
        table = Table(title=f"{wording.metric(main)} over steps, SIMULATED sessions", box=None)
        table.add_column("step", justify="right")
        for direction, name in columns:
            table.add_column(f"{name}\n{wording.direction(direction)}", justify="right")
        for step in sorted(set.intersection(*(set(of) for of in measured.values()))):
            scores = [measured[name][step][f"{d}/{main}"]["value"] for d, name in columns]
            table.add_row(f"{step}", *(f"{score:.4f}" for score in scores))
        Console(highlight=False).print(table)
        return 0


if __name__ == "__main__":
    sys.exit(start(Curves, prog="python -m experiments.curves"))
