"""Mining within the batch on and off, for random negatives and for those of sibling clusters.

    python -m experiments.gcml_mining run --workdir W --records FOLDER
    python -m experiments.gcml_mining gather --workdir W

`gcml-unmined` trains on negatives of sibling clusters as they are drawn.
"""

import sys

from experiments.gcml_systems import REFERENCE, smart, sweep_of
from experiments.sweep import Comparison, varied
from experiments.sweep_command import main
from vidembed.engine.recipe import Recipe
from vidembed.mining.miners import NoMining


def points(control: Recipe) -> dict[str, Recipe]:
    """Both systems, with mining and with sampled negatives only."""
    systems = {REFERENCE: control, "gcml": smart(control)}
    unmined = {
        f"{name}-unmined": varied(recipe, task={"miner": NoMining()})
        for name, recipe in systems.items()
    }
    return systems | unmined


sweep = sweep_of(
    name="gcml_mining",
    title="Mining on and off",
    claim="Smart negatives without mining do badly (by readers' notes).",
    points=points,
    measures=("sampled_survive",),
    comparisons=(
        Comparison("cdml", "cdml-unmined", "does mining help?"),
        Comparison("gcml", "gcml-unmined", "does mining help?"),
        Comparison("gcml-unmined", "cdml-unmined", "are smart negatives better unmined?"),
    ),
)

if __name__ == "__main__":
    sys.exit(main(sweep))
