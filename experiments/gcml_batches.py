"""Batches of 32 to 2,048 triplets for CDML, GCML and GCL, each seeing equally many videos.

    python -m experiments.gcml_batches run --workdir W --records FOLDER
    python -m experiments.gcml_batches gather --workdir W

CDML's random negatives are only hard enough if there are many to choose from; negatives from
sibling clusters, and classes, should need no large batch. `gcml-random` draws anchors like GCML and
negatives from all train videos, so it differs from `gcml` only in the negatives.
"""

import sys

from experiments.gcml_systems import batches, sweep_of, systems
from experiments.sweep import Comparison
from experiments.sweep_command import main
from vidembed.engine.recipe import Recipe

BATCHES = (32, 128, 512, 2048)
SUFFIXES = ("-32", "-128", "", "-2048")
"""Suffixes of point names; the batch size of the base has none."""


def points(control: Recipe) -> dict[str, Recipe]:
    """The systems with the batch size of the base, and with others."""
    recipes = systems(control)
    for name, recipe in systems(control).items():
        for triplets in BATCHES:
            if triplets != control.feed.examples:
                recipes[f"{name}-{triplets}"] = batches(recipe, triplets)
    return recipes


sweep = sweep_of(
    name="gcml_batches",
    title="Triplets in a batch for CDML, GCML and GCL, equal numbers of videos seen",
    claim="GCML and GCL depend less on large batches than CDML.",
    points=points,
    permuted=("gcml", "gcl"),
    measures=("sampled_survive",),
    comparisons=(
        *(
            Comparison(f"{one}{size}", f"{other}{size}", asks)
            for size in SUFFIXES
            for one, other, asks in (
                ("gcml", "cdml", "better than the control?"),
                ("gcml", "gcml-random", "better than random negatives?"),
                ("gcl", "cdml", "better than the control?"),
            )
        ),
        *(
            Comparison(f"{system}-{small}", f"{system}-2048", "what does it lose?")
            for small in (32, 128)
            for system in ("cdml", "gcml", "gcml-random", "gcl")
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(main(sweep))
