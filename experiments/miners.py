"""The miners at equal steps: which negative each triplet learns from.

    python -m experiments.miners run --workdir W --records FOLDER
    python -m experiments.miners gather --workdir W

The reference mines semi-hard negatives without a limit.
"""

import sys

from experiments.sweep import REFERENCE, Sweep, varied
from experiments.sweep_command import main
from vidembed.engine.recipe import Recipe
from vidembed.mining import Hardest, Miner, NoMining, SemiHard, SemiHardRandom


def points(base: Recipe) -> dict[str, Recipe]:
    """The reference, and the same with every other miner."""
    miners: dict[str, Miner] = {
        "miner-inside-margin": SemiHard(inside_margin=True),
        "miner-semi-hard-random": SemiHardRandom(),
        "miner-hardest": Hardest(),
        "miner-none": NoMining(),
    }
    others = {n: varied(base, task={"miner": m}) for n, m in miners.items()}
    return {REFERENCE: base} | others


sweep = Sweep(
    name="miners",
    title="Miners",
    claim="The paper trains on mined semi-hard negatives and gives no numbers for others.",
    points=points,
)

if __name__ == "__main__":
    sys.exit(main(sweep))
