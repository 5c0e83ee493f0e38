"""CDML at the paper's scale (KDD 2018, section 4.1): the default recipe, every field an option.

    vidembed train cdml --workdir W --corpus.table T --corpus.edges E
    vidembed evaluate cdml --workdir W --follow
    vidembed show cdml

The paper's: 7,200 triplets a batch, a 4000-256 late-fusion network, hinge loss, semi-hard mining
within the batch. It searches margins {.1, .3, .5}, learning rates {.001 ... .1} and decays without
naming its choice; the optimiser and the mining pool are not established. Margin 0.1, Adam, 0.001
and all embeddings of the batch are the defaults here, not the paper's values.
"""

from vidembed.corpora.watched import CorpusPaths
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.recipe import Recipe
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.feeds.triplets import Triplets
from vidembed.tasks.metric_learning import MetricLearning

recipe = Recipe(corpus=CorpusPaths(), task=MetricLearning(), feed=Triplets())
RECIPES = {"cdml": recipe}
EVALUATION = Evaluation(evaluators=(RelatedVideos(),))
"""CDML's two directions."""
