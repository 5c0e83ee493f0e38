"""CDML at the paper's scale (KDD 2018, section 4.1): the default recipe, every field an option.

    vidembed train cdml --workdir W --corpus.table T --corpus.edges E
    vidembed evaluate cdml --workdir W --follow
    vidembed show cdml

From the paper: 7,200 triplets per batch, a 4000-256 late-fusion network, hinge loss, semi-hard
mining within the batch. It searches margins {.1, .3, .5}, learning rates {.001 ... .1} and decays
without stating its choice; the optimiser and the mining pool are unknown. Margin 0.1, Adam, 0.001
and all embeddings of the batch are our defaults, not the paper's values.
"""

from collections.abc import Mapping
from typing import Any

from vidembed.corpora.watched import CorpusPaths
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.optimiser import Adagrad, Adam, Rprop, Rule, Sgd
from vidembed.engine.protocols import CorpusOptions, Evaluator, FeedOptions, Task
from vidembed.engine.recipe import Recipe
from vidembed.evaluators.recommendation import Recommendation
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.negatives import Negatives, SiblingNegatives, UniformNegatives
from vidembed.feeds.triplets import Triplets
from vidembed.losses.softmax import ClassLoss, FullSoftmax, SampledSoftmax
from vidembed.losses.triplet import Exponential, Hinge, Log, TripletLoss
from vidembed.mining import Hardest, Miner, NoMining, SemiHard, SemiHardRandom
from vidembed.models.cluster_classifier import ClusterClassifier, CosineClassifier, DotClassifier
from vidembed.models.fusion import EarlyFusion, LateFusion, SingleModality
from vidembed.models.parameters import Network
from vidembed.serving.user_models import Max, Mean, Top, UserModel, Variance
from vidembed.tasks.cluster_labels import ClusterLabels
from vidembed.tasks.metric_learning import MetricLearning

recipe = Recipe(corpus=CorpusPaths(), task=MetricLearning(), feed=Triplets())
RECIPES = {"cdml": recipe}
PRESETS: Mapping[str, str] = {
    "laptop": "--steps 200 --feed.batch-triplets 512 --task.model.layers.hidden 1024 "
    "--task.model.layers.input-dropout 0.5 --checkpoints.every-steps 50 --checkpoints.keep-last 10 "
    "--log-every 10"
}
"""Word of `--preset` → its options: the quickstart's sizes. Explicit options take precedence, and
options that the chosen parts lack are ignored."""
EVALUATION = Evaluation(evaluators=(RelatedVideos(),))
"""CDML's two directions."""
OFFERED: Mapping[type, Any] = {
    CorpusOptions: CorpusPaths,
    Task: MetricLearning | ClusterLabels,
    FeedOptions: Triplets | LabelledVideos,
    Evaluator: RelatedVideos | Recommendation,
    UserModel: Mean | Max | Top | Variance,
    Network: LateFusion | EarlyFusion | SingleModality,
    Miner: SemiHard | Hardest | SemiHardRandom | NoMining,
    TripletLoss: Hinge | Log | Exponential,
    Negatives: UniformNegatives | SiblingNegatives,
    ClusterClassifier: CosineClassifier | DotClassifier,
    ClassLoss: SampledSoftmax | FullSoftmax,
    Rule: Adam | Sgd | Adagrad | Rprop,
}
"""Protocol → its choices on the command line, the same for all systems on related videos."""
