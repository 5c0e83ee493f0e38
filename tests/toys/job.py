"""Runs of the toys, here and as processes: python -m tests.toys.job TOY train --workdir W."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import tyro

from tests.toys import captions, clips, phases
from tests.toys.rows import Rows
from vidembed.distributed.join import Cluster
from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.measured import values_of_all
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.train import train
from vidembed.progress import Progress
from vidembed.workdir.layout import Workdir

STEPS, EVERY = 40, 20
QUIET = Progress(quiet=True)


def recipe(corpus, task, *, average=None, **parts):
    optimiser = Optimiser(learning_rate=0.03, average_decay=average)
    retention = Retention(every_steps=EVERY, keep_last=9)
    options = {"optimiser": optimiser, "checkpoints": retention, "steps": STEPS, "log_every": 1}
    return Recipe(corpus=corpus, task=task, feed=Rows(), **options, **parts)


TOYS = {
    "captions": (recipe(captions.Captions(), captions.TwoTowers()), captions.TextToVideo()),
    "clips": (recipe(clips.Clips(), clips.Kinds(), average=0.9), clips.NearestKind()),
    "phases": (
        recipe(phases.Ratings(), phases.Regression(), phases=phases.PHASES),
        phases.Explained(),
    ),
}


def trained(recipe, path, devices=None):
    """Trains; the losses by step."""
    workdir = Workdir(path)
    with StopFlag() as stop, workdir.lease() as lease:
        train(recipe, workdir, lease=lease, stop=stop, progress=QUIET, devices=devices)
    return losses(path)


def losses(path):
    lines = (Path(path) / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


def measured(recipe, evaluator, path, devices=None, *, step=STEPS):
    """Measures a checkpoint; its scores by name."""
    job = EvaluationJob(
        recipe,
        Evaluation(evaluators=(evaluator,)),
        Workdir(path),
        mesh=make_mesh(MeshShape(), devices),
        progress=QUIET,
        classes=(clips.Sizes,),
    )
    return values_of_all(job.measure(step))


@dataclass(frozen=True)
class Arguments:
    """As tests/jobs.py starts them."""

    toy: tyro.conf.Positional[str]
    verb: tyro.conf.Positional[str]
    workdir: str
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = Cluster()


if __name__ == "__main__":
    arguments = tyro.cli(Arguments)
    arguments.cluster.connect()
    toy, evaluator = TOYS[arguments.toy]
    trained(toy, arguments.workdir, jax.devices())
    measured(toy, evaluator, arguments.workdir, jax.devices())
