"""How long to train before comparing architectures: scores over steps, early and late fusion.

    python -m experiments.curves --workdir W --records FOLDER

Trains the 4000-256 networks of Table 2 on sessions of a seed that no table uses, measures them
during training, and prints NDCG@10 over the steps: tables should use a number of steps at which the
curves are flat.
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
    """Scores of early and late fusion over the steps of training, on SIMULATED sessions."""

    workdir: str = "runs/curves"
    """Folder for all output; running again resumes from what is done."""
    records: str = os.path.relpath(SAMPLE)
    """Video-level TFRecords: a folder, a file or a pattern."""
    seed: int = 9
    """Seed of users, sessions, split and training; one that the tables do not use."""
    steps: int = 500
    """Updates per training."""
    every: int = 50
    """Steps between measurements."""

    def run(self) -> int:
        """Train, measure and print."""
        recipe = dataclasses.replace(
            base_recipe(self.steps),
            checkpoints=Retention(every_steps=self.every, keep_last=1),
            evaluate_every=self.every,
        )
        folder = Path(self.workdir)
        points = [
            Point(
                folder=folder,
                name=name.replace("-", " ", 1),
                varied=recipe_of_network,
                seed=self.seed,
            )
            for name, recipe_of_network in networks(recipe, *NETWORKS).items()
        ]
        with StopFlag() as stop, Workdir(folder).lease(of_run=False):
            if Runner(folder, stop, records=self.records).run(points):
                return 1
            refuse_unfinished(points)
        measured = {
            point.name: {
                evaluation["step"]: evaluation["scores"]
                for evaluation in evaluations_of(point.run, point.measured_by)
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
        for step in sorted(
            set.intersection(*(set(evaluation) for evaluation in measured.values()))
        ):
            scores = [measured[name][step][f"{d}/{main}"]["value"] for d, name in columns]
            table.add_row(f"{step}", *(f"{score:.4f}" for score in scores))
        Console(highlight=False).print(table)
        return 0


if __name__ == "__main__":
    sys.exit(start(Curves, prog="python -m experiments.curves"))
