"""The paper's grid of margins, learning rates and decays (section 4.1.1).

    python -m experiments.margins run --workdir W --records FOLDER --steps 500 --triplets 256 \
        --seeds 0
    python -m experiments.margins gather --workdir W

A decay first acts after 100,000 steps, so decays are part of the grid only for longer runs. The
paper does not say which values it chose.
Networks have 1,024 hidden units unless --scale is full.
"""

import sys
from dataclasses import replace
from itertools import product

from experiments.sweep import NARROW_REFERENCE, Sweep, narrow_recipe, varied
from experiments.sweep_command import main
from vidembed.engine.recipe import Recipe
from vidembed.losses.triplet import Hinge

MARGINS = (0.1, 0.3, 0.5)
RATES = (0.001, 0.005, 0.01, 0.03, 0.05, 0.07, 0.1)
DECAYS = tuple(product((0.002, 0.004, 0.006), (100_000, 150_000)))


def points(base: Recipe) -> dict[str, Recipe]:
    """The grid, which includes the reference."""
    decays = [decay for decay in DECAYS if base.steps > decay[1]]
    unchanged = (base.optimiser.decay, base.optimiser.decay_steps)
    recipes = {}
    for margin, rate, (decay, every) in product(MARGINS, RATES, decays or [unchanged]):
        optimiser = replace(base.optimiser, learning_rate=rate, decay=decay, decay_steps=every)
        recipe = varied(base, task={"loss": Hinge(margin=margin)}, optimiser=optimiser)
        name = f"margin-{margin}-rate-{rate}"
        name += f"-decay-{decay}-every-{every}" if decays else ""
        recipes[NARROW_REFERENCE if recipe == base else name] = recipe
    return recipes


sweep = Sweep(
    name="margins",
    title="Margins, learning rates and decays",
    claim="The paper searches this grid and names no winner.",
    points=points,
    base=narrow_recipe,
    reference=NARROW_REFERENCE,
)

if __name__ == "__main__":
    sys.exit(main(sweep))
