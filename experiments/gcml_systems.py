"""CDML, GCML and GCL at a size for two cores: the recipes compared by the sweeps of GCML.

    python -m experiments.gcml_systems run --workdir W --records FOLDER
    python -m experiments.gcml_systems gather --workdir W

All have the same network, optimiser, margin and miner, and embed the same number of videos: a
triplet counts as three. Other batch sizes make more or fewer updates, at the same learning rate.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from experiments import gcml
from experiments.running import ROUNDS
from experiments.sweep import Comparison, Sweep, varied
from experiments.sweep_command import main
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.recipe import Recipe, Retention
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.negatives import SiblingNegatives
from vidembed.feeds.triplets import Triplets
from vidembed.losses.triplet import Hinge
from vidembed.mining.miners import SemiHard
from vidembed.models.fusion import LateFusion, Layers
from vidembed.tasks.cluster_labels import ClusterLabels

STEPS, TRIPLETS, MARGIN = 300, 512, 0.5
SIZES: Mapping[str, tuple[int, int]] = {
    "reduced": (STEPS, TRIPLETS),
    "full": (gcml.gcml.steps, gcml.TRIPLETS),
}
REFERENCE = "cdml"
NEAREST = SiblingNegatives(level=0)
"""The hardest level, as in GCML."""
EVERYWHERE = SiblingNegatives(level=ROUNDS - 1)
"""One level above the top: all train videos except the anchor's cluster and relations."""
NETWORK = LateFusion(layers=Layers(hidden=(1024,), size=256, input_dropout=0.5))


def base(steps: int = STEPS, triplets: int = TRIPLETS) -> Recipe:
    """The control: CDML's pairs and random negatives."""
    miner = SemiHard(inside_margin=True)
    task = {"model": NETWORK, "miner": miner, "loss": Hinge(margin=MARGIN)}
    return varied(
        gcml.cdml,
        task=task,
        feed={"batch_triplets": triplets},
        optimiser=Optimiser(),
        checkpoints=Retention(every_steps=100_000, keep_last=1),
        steps=steps,
        log_every=20,
    )


def smart(control: Recipe, negatives: SiblingNegatives = NEAREST) -> Recipe:
    """GCML: anchors drawn by video, negatives from sibling clusters."""
    return varied(control, feed={"anchors": "videos", "negatives": negatives})


def labels(control: Recipe, level: int = 1) -> Recipe:
    """GCL: the clusters of one level as classes."""
    triplet_task: Any = control.task
    videos = 3 * control.feed.examples
    return replace(
        control,
        task=ClusterLabels(model=triplet_task.model),
        feed=LabelledVideos(level=level, batch_videos=videos),
    )


def systems(control: Recipe) -> dict[str, Recipe]:
    """The control, GCML, GCML's anchors with negatives from all train videos, and GCL."""
    return {
        REFERENCE: control,
        "gcml": smart(control),
        "gcml-random": smart(control, EVERYWHERE),
        "gcl": labels(control),
    }


def batches(recipe: Recipe, triplets: int) -> Recipe:
    """The recipe with another batch size and the same total number of videos."""
    feed = recipe.feed
    each = 1 if isinstance(feed, Triplets) else 3
    steps = max(1, round(recipe.steps * feed.examples / (each * triplets)))
    return varied(recipe, feed={f"batch_{feed.unit}": each * triplets}, steps=steps)


sweep_of = partial(Sweep, base=base, reference=REFERENCE, sizes=SIZES, evaluator=gcml.EVALUATOR)
"""A sweep that varies the control."""

sweep = sweep_of(
    name="gcml_systems",
    title="CDML, GCML and GCL",
    claim="GCML and GCL are above CDML.",
    points=systems,
    permuted=("gcml", "gcl"),
    measures=("sampled_survive",),
    comparisons=(
        Comparison("gcml", "cdml", "better than the control?"),
        Comparison("gcml", "gcml-random", "better than random negatives?"),
        Comparison("gcml-random", "cdml", "what do anchors by video give?"),
        Comparison("gcl", "cdml", "better than the control?"),
    ),
)

if __name__ == "__main__":
    sys.exit(main(sweep))
