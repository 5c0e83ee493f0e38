"""Figure 3: embedding sizes from 16 to 1,024, late fusion with 4,000 hidden units.

    python -m experiments.sizes run --workdir W --records FOLDER
    python -m experiments.sizes gather --workdir W

`gather` also draws the figure, in the report and as one sizes-DIRECTION.svg per direction.
"""

import sys

from experiments.sweep import Sweep, networks
from experiments.sweep_command import main

SIZES = (16, 32, 64, 128, 256, 512, 1024)
sweep = Sweep(
    name="sizes",
    title="Figure 3: size of the embedding",
    claim="Little gain above 512 dimensions, a sharp drop below 128; the paper chooses 256.",
    points=lambda base: networks(base, *(f"late-4000-{size}" for size in SIZES)),
    axis=lambda recipe: recipe.task.model.size,
    axis_name="dimensions",
)

if __name__ == "__main__":
    sys.exit(main(sweep))
