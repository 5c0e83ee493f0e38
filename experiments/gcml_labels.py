"""Which clusters to use as GCL's classes: levels 1 to 4 of the hierarchy, from many to few.

    python -m experiments.gcml_labels run --workdir W --records FOLDER
    python -m experiments.gcml_labels gather --workdir W

At this size there are fewer classes than samples, so the softmax of `gcl` is over all of them;
`gcl-singletons` also makes one class per train video without a cluster.
"""

import sys
from typing import Any

from experiments.gcml_systems import REFERENCE, labels, sweep_of
from experiments.sweep import Comparison, varied
from experiments.sweep_command import main
from vidembed.engine.recipe import Recipe
from vidembed.losses.softmax import SampledSoftmax
from vidembed.models.cluster_classifier import DotClassifier


def points(control: Recipe) -> dict[str, Recipe]:
    """The control, GCL at each level, and variants of the softmax at level 1."""
    gcl = labels(control)
    variants: dict[str, dict[str, Any]] = {
        "gcl-64-samples": {"loss": SampledSoftmax(samples=64)},
        "gcl-dot": {"classifier": DotClassifier()},
    }
    recipes = {REFERENCE: control, "gcl": gcl}
    recipes |= {f"gcl-level-{level}": labels(control, level) for level in (2, 3, 4)}
    recipes |= {name: varied(gcl, task=task) for name, task in variants.items()}
    return recipes | {"gcl-singletons": varied(gcl, feed={"min_cluster_size": 1})}


sweep = sweep_of(
    name="gcml_labels",
    title="Which clusters are the classes",
    claim="The paper does not say which level its labels come from.",
    points=points,
    comparisons=tuple(
        Comparison(name, "gcl", "")
        for name in (
            "gcl-level-2",
            "gcl-level-3",
            "gcl-level-4",
            "gcl-singletons",
            "gcl-64-samples",
            "gcl-dot",
        )
    ),
)

if __name__ == "__main__":
    sys.exit(main(sweep))
