"""Batches of 256 to 7,200 triplets, each seeing as many triplets in total as the reference.

    python -m experiments.batch_sizes run --workdir W --records FOLDER --steps 500 --seeds 0
    python -m experiments.batch_sizes gather --workdir W

Mining looks for negatives within the batch, so a larger batch has harder negatives; for the same
number of triplets it also makes fewer updates, at the same learning rate. At the reduced size
batches of 7,200 triplets make about seven updates, which is not a training: use more --steps for
this sweep. Networks have 1,024 hidden units unless --scale is full.
"""

import sys

from experiments.sweep import NARROW_REFERENCE, Sweep, narrow_recipe, varied
from experiments.sweep_command import main
from vidembed.engine.recipe import Recipe

BATCHES = (256, 512, 1024, 2048, 4096, 7200)


def points(base: Recipe) -> dict[str, Recipe]:
    """The reference, and batches of other sizes with about the same total of triplets."""
    seen = base.steps * base.feed.examples
    sizes = {NARROW_REFERENCE: base}
    for triplets in BATCHES:
        if triplets != base.feed.examples:
            steps = max(1, round(seen / triplets))
            sizes[f"batch-{triplets}"] = varied(
                base, feed={"batch_triplets": triplets}, steps=steps
            )
    return dict(sorted(sizes.items(), key=lambda point: point[1].feed.examples))


sweep = Sweep(
    name="batch_sizes",
    title="Triplets in a batch, equal numbers seen",
    claim="Smaller batches than 7,200 triplets are worse, larger ones no better.",
    points=points,
    base=narrow_recipe,
    reference=NARROW_REFERENCE,
    axis=lambda recipe: recipe.feed.examples,
    axis_name="triplets in a batch",
)

if __name__ == "__main__":
    sys.exit(main(sweep))
