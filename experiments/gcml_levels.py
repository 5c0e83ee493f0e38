"""Where GCML's negatives come from: sibling levels 0, 1, 2 of four rounds, and all train videos.

    python -m experiments.gcml_levels run --workdir W --records FOLDER
    python -m experiments.gcml_levels gather --workdir W

`gcml` is level 0 of the anchor's cluster, the hardest; `gcml-random` draws the same way, but from
all train videos outside that cluster; `gcml-video-0` reads "siblings" as those of the video.
"""

import sys

from experiments.gcml_systems import EVERYWHERE, NEAREST, REFERENCE, smart, sweep_of
from experiments.sweep_command import main
from vidembed.engine.recipe import Recipe
from vidembed.feeds.negatives import SiblingNegatives


def points(control: Recipe) -> dict[str, Recipe]:
    """The control, GCML with and without levels, the other reading, and a curriculum."""
    third = control.steps // 3
    negatives = {
        "gcml": NEAREST,
        "gcml-level-1": SiblingNegatives(level=1),
        "gcml-level-2": SiblingNegatives(level=2),
        "gcml-random": EVERYWHERE,
        "gcml-video-0": SiblingNegatives(siblings_of="video"),
        "gcml-curriculum": SiblingNegatives(curriculum_steps=(third, 2 * third)),
    }
    return {REFERENCE: control} | {name: smart(control, n) for name, n in negatives.items()}


sweep = sweep_of(
    name="gcml_levels",
    title="Where negatives come from",
    claim="Level 0, the nearest sibling clusters, trains best (by readers' notes).",
    points=points,
    measures=("sampled_survive", "survive_at/0", "survive_at/1", "survive_at/2"),
)

if __name__ == "__main__":
    sys.exit(main(sweep))
