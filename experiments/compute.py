"""float32 against bfloat16 in the layers, in the miner, and in both: is retrieval the same?

python -m experiments.compute run --workdir W --records FOLDER
python -m experiments.compute gather --workdir W
"""

import sys
from dataclasses import replace
from typing import Any

from experiments.sweep import REFERENCE, Sweep, varied
from experiments.sweep_command import main
from vidembed.engine.recipe import Recipe
from vidembed.mining import SemiHard


def points(base: Recipe) -> dict[str, Recipe]:
    """The reference in float32, and points with operands of products rounded to bfloat16."""
    task: Any = base.task
    model = task.model
    miner = SemiHard(operands="bfloat16")
    narrow = replace(model, layers=replace(model.layers, compute="bfloat16"))
    return {
        REFERENCE: base,
        "bfloat16-layers": varied(base, task={"model": narrow}),
        "bfloat16-mining": varied(base, task={"miner": miner}),
        "bfloat16-both": varied(base, task={"model": narrow, "miner": miner}),
    }


sweep = Sweep(
    name="compute",
    title="float32 against bfloat16",
    claim="Not in the paper. To be shown: no difference in retrieval.",
    points=points,
)

if __name__ == "__main__":
    sys.exit(main(sweep))
