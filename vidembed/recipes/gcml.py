"""GCML (CVPR 2020): smart triplets and cluster labels from a clustered relational graph.

    vidembed cluster EDGES HIERARCHY --table TABLE --rounds 3
    vidembed train gcml gcml --workdir W --corpus.table T --corpus.edges E --corpus.hierarchy H
    vidembed train gcml gcl --workdir W ...
    vidembed train gcml cdml --workdir W ...
    vidembed evaluate gcml gcml --workdir W --follow

`gcml` draws each negative from a sibling of the anchor's cluster and mines within the batch; its
numbers come from readers' notes on the paper: 9,600 triplets, margin 0.5, learning rate 0.1 times
0.98 every 300,000 steps, the hardest semi-hard negative inside the margin, three rounds of
clustering. `gcl` classifies each video's cluster with a sampled softmax. `cdml` is the control:
co-watched pairs with random negatives, all else as in `gcml`. All three embed 28,800 videos per
step.

Unknown are the optimiser (here Adagrad, which suits a rate of 0.1), the linkage, what to do without
a sibling (here climb), and for `gcl` all numbers: the level of the labels, size and distribution of
the sample, the logits, the optimiser. Those are our defaults, not the paper's.
"""

from collections.abc import Mapping
from dataclasses import replace

from vidembed.corpora.watched import CorpusPaths
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.optimiser import Adagrad, Optimiser
from vidembed.engine.recipe import Recipe
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.negatives import SiblingNegatives, UniformNegatives
from vidembed.feeds.triplets import Triplets
from vidembed.losses.triplet import Hinge
from vidembed.mining.miners import SemiHard
from vidembed.recipes.cdml import OFFERED as OFFERED
from vidembed.tasks.cluster_labels import ClusterLabels
from vidembed.tasks.metric_learning import MetricLearning

TRIPLETS, MARGIN = 9_600, 0.5
EVALUATOR = RelatedVideos(
    directions=("eval_to_eval", "eval_to_train", "train_to_eval"), ks=(10, 60)
)
"""The paper's evaluation (query and candidates both new, MAP and NDCG@60) and CDML's directions."""
SMART = Triplets(batch_triplets=TRIPLETS, anchors="videos", negatives=SiblingNegatives(level=0))

gcml = Recipe(
    corpus=CorpusPaths(),
    task=MetricLearning(miner=SemiHard(inside_margin=True), loss=Hinge(margin=MARGIN)),
    feed=SMART,
    optimiser=Optimiser(rule=Adagrad(), learning_rate=0.1, decay=0.02, decay_steps=300_000),
)
gcl = replace(
    gcml,
    task=ClusterLabels(),
    feed=LabelledVideos(batch_videos=3 * TRIPLETS),
    optimiser=Optimiser(),
)
cdml = replace(gcml, feed=replace(SMART, anchors="edges", negatives=UniformNegatives()))
EVALUATION = Evaluation(evaluators=(EVALUATOR,))
PRESETS: Mapping[str, str] = {
    "laptop": "--steps 300 --feed.batch-triplets 512 --feed.batch-videos 1536 optimiser.rule:adam "
    "--optimiser.learning-rate 0.001 --task.model.layers.hidden 1024 "
    "--task.model.layers.input-dropout 0.5 --checkpoints.every-steps 100 "
    "--checkpoints.keep-last 10 --log-every 20"
}
"""As in `recipes.cdml`; a rate of 0.001 with Adam learns in few steps."""
RECIPES = {"gcml": gcml, "gcl": gcl, "cdml": cdml}
"""Word on the command line → system."""
ABOUT = {
    "gcml": "smart triplets: negatives from sibling clusters, mined in the batch",
    "gcl": "cluster labels: which cluster a video belongs to, by a sampled softmax",
    "cdml": "the control: co-watched pairs and random negatives, all else as in gcml",
}
