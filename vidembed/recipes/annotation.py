"""Video annotation (CDML, KDD 2018, section 4.3): the classes of a video, by a mixture of experts.

    vidembed train annotation --workdir W --corpus.table T
    vidembed evaluate annotation --workdir W --follow
    vidembed annotate W TABLE OUT.parquet

From the paper: each modality projected to 256 principal components, the joined vector at unit norm
(Eq. 7), a mixture of logistic experts per class with a dummy state (Eq. 8), Adam with a rate of
0.008 and batches of 512. It tries 5, 10, 30 and 100 experts without stating its choice; 2 is the
default of YouTube-8M's starter code. Labels are those in the table, or your own (--corpus.labels).
Frame-level records are pooled on the device (--corpus.records, --corpus.layout.level frame).
Embeddings of other runs become inputs beside the features (--corpus.embeddings). The options that
matter: --task.model.norm, --task.classifier.mixtures, --steps.
"""

from collections.abc import Mapping
from typing import Any

from vidembed.corpora.labelled import LabelledPaths
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.optimiser import Adagrad, Adam, Optimiser, Rprop, Rule, Sgd
from vidembed.engine.protocols import CorpusOptions, Evaluator, FeedOptions, Task
from vidembed.engine.recipe import Recipe
from vidembed.evaluators.annotation import Annotation as AnnotationScores
from vidembed.feeds.labelled_videos import VideosWithLabels
from vidembed.models.blocks import Blocks
from vidembed.models.fusion import EarlyFusion, LateFusion, SingleModality
from vidembed.models.label_classifier import LabelClassifier
from vidembed.models.mixture_of_experts import MixtureOfExperts
from vidembed.models.parameters import Network
from vidembed.models.softmax_head import SoftmaxHead
from vidembed.tasks.annotation import Annotation

recipe = Recipe(
    corpus=LabelledPaths(),
    task=Annotation(),
    feed=VideosWithLabels(),
    optimiser=Optimiser(learning_rate=0.008, decay=0.0),
    steps=100_000,
)
RECIPES = {"annotation": recipe}
PRESETS: Mapping[str, str] = {
    "laptop": "--steps 160 --checkpoints.every-steps 32 --checkpoints.keep-last 10 --log-every 16"
}
"""About forty passes over the two thousand train videos of the sample."""
EVALUATION = Evaluation(evaluators=(AnnotationScores(),))
OFFERED: Mapping[type, Any] = {
    CorpusOptions: LabelledPaths,
    Task: Annotation,
    FeedOptions: VideosWithLabels,
    Evaluator: AnnotationScores,
    Network: Blocks | EarlyFusion | LateFusion | SingleModality,
    LabelClassifier: MixtureOfExperts | SoftmaxHead,
    Rule: Adam | Sgd | Adagrad | Rprop,
}
