"""A linear space in closed form, solved in seconds without training: the baseline to beat.

    vidembed train linear --workdir W --corpus.table T --corpus.edges E
    vidembed evaluate linear --workdir W

One pass over the train videos and their relations sums two matrices, whose leading generalised
eigenvectors map features to vectors: a linear spectral embedding of the co-watch graph, close to
Locality Preserving Projections (He and Niyogi, 2003) and to canonical correlation analysis of
co-watched pairs; see `vidembed.models.linear`. It has no learning rate and cannot collapse.
The options that matter: --task.ridge, --task.power, --task.model.layers.size, --feed.weigh,
--feed.no-by-degree.
"""

from collections.abc import Mapping
from typing import Any

from vidembed.corpora.watched import CorpusPaths
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.optimiser import Optimiser, Rule, Sgd
from vidembed.engine.protocols import FeedOptions, Task
from vidembed.engine.recipe import Recipe, Retention
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.feeds.whole_pass import WholePass
from vidembed.models.fusion import EarlyFusion, SingleModality
from vidembed.models.parameters import Network
from vidembed.recipes import cdml
from vidembed.tasks.closed_form import ClosedForm

recipe = Recipe(
    corpus=CorpusPaths(),
    task=ClosedForm(),
    feed=WholePass(),
    # Nothing has a gradient; this rule stores the least state.
    optimiser=Optimiser(rule=Sgd(momentum=0.0)),
    checkpoints=Retention(every_steps=WholePass.parts),
    steps=WholePass.parts,
    log_every=8,
)
RECIPES = {"linear": recipe}
PRESETS: Mapping[str, str] = {"laptop": ""}
"""The recipe takes seconds on a laptop without changes."""
EVALUATION = Evaluation(
    evaluators=(RelatedVideos(directions=("eval_to_train", "train_to_eval", "eval_to_eval")),)
)
"""Between the partitions, and among new videos."""
OFFERED: Mapping[type, Any] = {
    **cdml.OFFERED,
    Task: ClosedForm,
    FeedOptions: WholePass,
    Network: EarlyFusion | SingleModality,
    Rule: Sgd,
}
