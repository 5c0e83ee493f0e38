"""Compare the miners, which choose the negative of each triplet, at equal steps.

    python -m experiments.miners run --workdir W --records FOLDER
    python -m experiments.miners gather --workdir W

The reference mines semi-hard negatives without an upper limit.
"""

import sys

from experiments.sweep import REFERENCE, Sweep, varied
from experiments.sweep_command import main
from vidembed.engine.recipe import Recipe
from vidembed.mining import Hardest, Miner, NoMining, SemiHard, SemiHardRandom


def points(base: Recipe) -> dict[str, Recipe]:
    """The reference, and the same recipe with each other miner."""
    miners: dict[str, Miner] = {
        "miner-inside-margin": SemiHard(inside_margin=True),
        "miner-semi-hard-random": SemiHardRandom(),
        "miner-hardest": Hardest(),
        "miner-none": NoMining(),
    }
    with_other_miners = {n: varied(base, task={"miner": m}) for n, m in miners.items()}
    return {REFERENCE: base} | with_other_miners


sweep = Sweep(
    name="miners",
    title="Miners",
    claim="The paper trains on mined semi-hard negatives and gives no numbers for others.",
    points=points,
)

if __name__ == "__main__":
    sys.exit(main(sweep))
