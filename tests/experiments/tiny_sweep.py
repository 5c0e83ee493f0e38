"""A sweep of networks that train in a second; tests of sweeps run it as a program."""

import sys
from dataclasses import replace

from experiments.paper import TABLE_2, minus
from experiments.sweep import REFERENCE, Comparison, Sweep, base_recipe, network
from experiments.sweep_command import main
from vidembed.engine.recipe import Retention
from vidembed.evaluators.queries import DIRECTIONS
from vidembed.evaluators.related_videos import RelatedVideos

PAPER = minus(TABLE_2["early-4000-256"], TABLE_2[REFERENCE])


def base(steps, triplets):
    usual = base_recipe(steps, triplets)
    task = replace(usual.task, model=network("late", 8, 4))
    return replace(
        usual,
        task=task,
        checkpoints=Retention(every_steps=100, keep_last=1),
        log_every=1,
    )


def points(recipe, *, size=6):
    model = network("early", 8, size)
    return {REFERENCE: recipe, "early": replace(recipe, task=replace(recipe.task, model=model))}


def broken(recipe):
    # A step this large leaves nothing finite.
    optimiser = replace(recipe.optimiser, learning_rate=1e38)
    rest = {"broken": replace(recipe, optimiser=optimiser), "audio": audio(recipe)}
    return {**rest, REFERENCE: recipe}


def otherwise_split(recipe):
    corpus = replace(recipe.corpus, train_share=0.5)
    return {REFERENCE: recipe, "half": replace(recipe, corpus=corpus)}


def audio(recipe):
    model = replace(network("visual", 8, 4), modality="audio")
    return replace(recipe, task=replace(recipe.task, model=model))


sweep = Sweep(
    name="tiny",
    title="Tiny",
    claim="<b>early</b> is 6 & late is 4.",
    points=points,
    base=base,
    evaluator=RelatedVideos(directions=DIRECTIONS, ks=(10, 60)),
    comparisons=(
        Comparison("early", REFERENCE, "which?"),
        Comparison("early", REFERENCE, "and in the paper?", PAPER),
    ),
)
changed = replace(sweep, points=lambda recipe: points(recipe, size=5))
failing = replace(sweep, name="failing", points=broken, comparisons=())
both_permuted = replace(sweep, permuted=("early",))
unlike = replace(sweep, evaluator=RelatedVideos())
halved = replace(sweep, points=otherwise_split, comparisons=())
sized = replace(
    sweep, name="sized", axis=lambda recipe: recipe.task.model.layers.size, axis_name="size"
)

if __name__ == "__main__":
    sys.exit(main(globals()[sys.argv[1]], sys.argv[2:]))
