"""GCML (CVPR 2020): smart triplets and cluster labels from a clustered relational graph.

    python -m vidembed cluster EDGES HIERARCHY --table TABLE --rounds 3
    python -m experiments.gcml gcml train --workdir W --corpus.table T --corpus.edges E \
        --corpus.hierarchy H
    python -m experiments.gcml gcl train --workdir W ...
    python -m experiments.gcml cdml train --workdir W ...
    python -m experiments.gcml gcml evaluate --workdir W --follow

`gcml` draws each negative from a sibling cluster of the anchor's and mines within the batch; its
numbers are those of readers' notes on the paper: 9,600 triplets, margin 0.5, learning rate 0.1
times 0.98 every 300,000 steps, the hardest semi-hard negative inside the margin, three rounds of
clustering. `gcl` classifies each video's cluster with a sampled softmax. `cdml` is the control:
co-watched pairs with random negatives, all else as in `gcml`. All three embed 28,800 videos a step.

Not established are the optimiser (Adagrad here, which a rate of 0.1 suits), the linkage, what
happens where there is no sibling (climb), and for `gcl` all numbers: the level of the labels, size
and distribution of the sample, the logits, the optimiser. Those are defaults here, not the paper's.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.negatives import SiblingNegatives
from vidembed.feeds.triplets import Triplets
from vidembed.launch import main
from vidembed.losses.triplet import Hinge
from vidembed.mining.semi_hard import SemiHard
from vidembed.optimiser import Adagrad, Optimiser
from vidembed.recipe import Recipe
from vidembed.tasks.cluster_labels import ClusterLabels
from vidembed.tasks.metric_learning import MetricLearning

TRIPLETS, MARGIN = 9_600, 0.5
EVALUATOR = RelatedVideos(
    directions=("eval_to_eval", "eval_to_train", "train_to_eval"), ks=(10, 60)
)
"""The paper's: query and candidates both new, MAP and NDCG@60; beside CDML's two directions."""

gcml = Recipe(
    task=MetricLearning(miner=SemiHard(inside_margin=True), loss=Hinge(margin=MARGIN)),
    feed=Triplets(batch_triplets=TRIPLETS, anchors="videos", negatives=SiblingNegatives(level=0)),
    optimiser=Optimiser(rule=Adagrad(), learning_rate=0.1, decay=0.02, decay_steps=300_000),
    evaluator=EVALUATOR,
)
gcl = replace(
    gcml,
    task=ClusterLabels(),
    feed=LabelledVideos(batch_videos=3 * TRIPLETS),
    optimiser=Optimiser(),
)
cdml = replace(gcml, feed=Triplets(batch_triplets=TRIPLETS))
RECIPES: Mapping[str, Recipe] = {"gcml": gcml, "gcl": gcl, "cdml": cdml}


def run(arguments: Sequence[str]) -> int:
    """The command line of the recipe that the first word names; an exit code."""
    system, *rest = arguments or [""]
    if system in RECIPES:
        return main(RECIPES[system], rest, name=f"gcml {system}")
    asked = system in ("-h", "--help")
    print(__doc__, file=sys.stdout if asked else sys.stderr)
    if not asked:
        names = ", ".join(RECIPES)
        print(f"the first word is {system!r}; it must be one of {names}", file=sys.stderr)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
